//go:build linux

package faults

import (
	"net"
	"net/netip"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/deploy/lab"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/deploy/lab/machine"
)

func TestCase34ForwardingLoop(t *testing.T) {
	s := begin(t, 34, "a node is given itself as its Ollama; two are given each other, one of them before the other is there",
		"refused at the start with the reason and the fix; the one that came first takes the other for no Ollama: no request goes round")
	s.up(2)
	s.clock()
	a, b := s.hosts[1], s.hosts[2]
	a.join("--ollama", "127.0.0.1:11435")
	if code := a.code(); code != 1 || !strings.Contains(a.stderr(), "round in a circle") {
		t.Errorf("itself: exit %d:\n%s", code, a.stderr())
	}
	s.saw("itself: exit 1, %q", lastLine(a.stderr(), "error: "))
	a.join("--ollama", b.IP().String()+":11435")
	s.eventually(10*time.Second, "up", func() bool { return a.alive() == 1 })
	b.join("--ollama", a.IP().String()+":11435")
	if code := b.code(); code != 1 || !strings.Contains(b.stderr(), "round in a circle") {
		t.Errorf("each other: exit %d:\n%s", code, b.stderr())
	}
	b.join()
	s.eventually(10*time.Second, "two members", func() bool { return a.alive() == 2 })
	s.throughout(4*time.Second, "no Ollama in the mesh", func() bool {
		for _, m := range a.members() {
			if m.Ollama != "" {
				return false
			}
		}
		return true
	})
	r := s.ask(question{to: a, model: "m", tokens: 4})
	if r.status < 400 || r.took > time.Second {
		t.Errorf("%v", r)
	}
	s.saw("each other: the second exits 1; without that the first has no Ollama, a request gets %d %q in %d ms", r.status, r.failure, r.took.Milliseconds())
}

func TestCase35PortInUse(t *testing.T) {
	s := begin(t, 35, "port 11435, 11436 or 11437 is in use",
		"exit 1, naming the port and the flag that changes it")
	s.up(1)
	s.clock()
	h := s.hosts[1]
	for port, flag := range map[int]string{11435: "--api-listen", 11436: "--peer-listen", 11437: "--gossip-listen"} {
		l, err := h.Listen("tcp", ":"+strconv.Itoa(port))
		if err != nil {
			t.Fatal(err)
		}
		h.join()
		code := h.code()
		l.Close()
		said := h.stderr()
		if code != 1 || !strings.Contains(said, strconv.Itoa(port)) || !strings.Contains(lastLine(said, "fix: "), flag) {
			t.Errorf("%d: exit %d:\n%s", port, code, said)
		}
		s.saw("%d: exit %d, %q", port, code, lastLine(said, "fix: "))
	}
}

func TestCase45AddressPlans(t *testing.T) {
	s := begin(t, 45, "a LAN with IPv6 alone, found by mDNS; then a host whose address changes (DHCP)",
		"joins and serves; the new address is known to all and used in under 20 s")
	s.up(3, lab.NoIPv4())
	s.hosts[3].ollama(configOf("m", 500, 4))
	for _, h := range s.hosts[1:] {
		h.Join() // no seeds: mDNS
	}
	s.eventually(30*time.Second, "three members", func() bool {
		return s.hosts[1].alive() == 3 && s.hosts[2].alive() == 3 && s.hosts[1].knows("m", 1)
	})
	s.clock()
	if r := s.ask(question{to: s.hosts[1], model: "m", tokens: 8}); r.perfect(8) != nil {
		t.Errorf("%v", r)
	}
	owner := s.hosts[3]
	now := netip.MustParseAddr("fd77::99")
	for _, args := range [][]string{
		{"-6", "addr", "add", now.String() + "/64", "dev", "eth0", "nodad"},
		{"-6", "addr", "del", owner.IP().String() + "/64", "dev", "eth0"},
	} {
		if out, err := owner.Command(s.ctx, "ip", args...).CombinedOutput(); err != nil {
			t.Fatalf("ip %v: %v: %s", args, err, out)
		}
	}
	took := s.eventually(25*time.Second, "the new address known and used", func() bool {
		for _, h := range s.hosts[1:3] {
			m := h.members()[owner.Name]
			if a, err := netip.ParseAddrPort(m.Address); err != nil || m.Status != "alive" || a.Addr() == owner.IP() {
				return false
			}
		}
		return s.ask(question{to: s.hosts[1], model: "m", tokens: 8}).perfect(8) == nil
	})
	if took > 20*time.Second {
		t.Errorf("after %v", took)
	}
	s.saw("IPv6 alone: three members, answers whole; new address %s known and used after %.1f s", s.hosts[1].members()[owner.Name].Address, took.Seconds())
}

func TestCase46NoMulticastAndForgedAnswers(t *testing.T) {
	s := begin(t, 46, "multicast does not pass for one host; a guest floods the others with 500 forged mDNS answers",
		"a named address is enough to join; the forged ones cost a bounded number of dials and make no member")
	s.up(3)
	s.lab.NoMulticast(3)
	s.hosts[1].Join()
	s.hosts[2].Join()
	s.hosts[3].Join(s.hosts[1].IP().String())
	s.eventually(30*time.Second, "three members", func() bool {
		return s.hosts[1].alive() == 3 && s.hosts[2].alive() == 3 && s.hosts[3].alive() == 3
	})
	s.clock()
	guest := s.lab.Node(0)
	l, err := guest.Listen("tcp", guest.IP().String()+":11437")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	var dials atomic.Int32
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			dials.Add(1)
			c.Close()
		}
	}()
	conn, err := guest.ListenPacket("udp4", guest.IP().String()+":0")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	const forged = 500
	for i := range forged {
		raw, err := machine.ForgedAnswer("forged"+strconv.Itoa(i), guest.IP())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := conn.WriteTo(raw, &net.UDPAddr{IP: net.IPv4(224, 0, 0, 251), Port: 5353}); err != nil {
			t.Fatal(err)
		}
		<-tick.C
	}
	s.throughout(4*time.Second, "three members", func() bool { return len(s.hosts[1].members()) == 3 && s.hosts[2].alive() == 3 })
	n := dials.Load()
	if n == 0 || n > forged/4 {
		t.Errorf("%d dials to the forged address", n)
	}
	s.saw("joined by address; %d forged names: %d dials in all, no new member", forged, n)
}
