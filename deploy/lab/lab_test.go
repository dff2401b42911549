//go:build linux

package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/deploy/lab/relay"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/deploy/need"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// silence is how long nothing must arrive for a path to count as cut. Frames
// on one machine take microseconds.
const silence = 200 * time.Millisecond

func TestHostsReachEachOtherByBothFamilies(t *testing.T) {
	l := Up(t, 3)
	for _, from := range l.Nodes() {
		for _, to := range l.Nodes() {
			for _, ip := range []netip.Addr{to.IP(), to.IPv6()} {
				if !passes(t, from, to, ip) {
					t.Errorf("%s does not reach %s at %s", from, to, ip)
				}
			}
		}
	}
	if !passes(t, l.Node(0), l.Node(2), l.Node(2).IP()) {
		t.Error("the guest does not reach node 2")
	}
	if got := l.Node(2).IP().String() + " " + l.Node(0).IP().String(); got != "10.77.0.2 10.77.255.254" {
		t.Errorf("addresses %s", got)
	}
}

func TestFaults(t *testing.T) {
	l := Up(t, 4)
	type path [2]int
	for _, c := range []struct {
		name string
		fail func()
		lost []path // one way; every other of the paths below is open
	}{
		{"nothing", func() {}, nil},
		{"black hole", func() { l.BlackHole(1) }, []path{{1, 2}, {2, 1}, {1, 3}, {3, 1}}},
		{"cut", func() { l.Cut(1, 2) }, []path{{1, 2}, {2, 1}}},
		{"cut one way", func() { l.CutOneWay(1, 2) }, []path{{1, 2}}},
		{"split", func() { l.Split([]int{1, 2}) }, []path{{1, 3}, {3, 1}, {2, 3}, {3, 2}}},
		{"split in three", func() { l.Split([]int{1}, []int{2}) }, []path{{1, 2}, {2, 1}, {1, 3}, {3, 1}, {2, 3}, {3, 2}}},
		{"UDP blocked", func() { l.BlockUDP(3) }, []path{{1, 3}, {3, 1}, {2, 3}, {3, 2}}},
		{"all lost", func() { l.Loss(2, 100) }, []path{{1, 2}, {2, 1}, {2, 3}, {3, 2}}},
		{"no multicast", func() { l.NoMulticast(1) }, nil},
		{"link down", func() { l.LinkDown(1) }, []path{{1, 2}, {2, 1}, {1, 3}, {3, 1}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var checks sync.WaitGroup
			c.fail()
			defer l.Heal()
			for i := 1; i <= 3; i++ {
				for j := 1; j <= 3; j++ {
					if i == j {
						continue
					}
					checks.Go(func() {
						want := true
						for _, p := range c.lost {
							want = want && p != path{i, j}
						}
						if got := passes(t, l.Node(i), l.Node(j), l.Node(j).IP()); got != want {
							t.Errorf("%d to %d passes: %v, want %v", i, j, got, want)
						}
					})
				}
			}
			checks.Wait()
		})
	}
	t.Run("healed", func(t *testing.T) {
		l.BlackHole(1)
		l.Cut(2, 3)
		l.Heal(1)
		if !heals(t, l.Node(1), l.Node(2)) {
			t.Error("node 1 is still in its hole")
		}
		if passes(t, l.Node(2), l.Node(3), l.Node(3).IP()) {
			t.Error("healing node 1 healed the cut of 2 and 3")
		}
		l.Heal()
		if !heals(t, l.Node(2), l.Node(3)) {
			t.Error("2 and 3 are still cut")
		}
	})
}

func TestBlockedUDPLetsTCPThrough(t *testing.T) {
	l := Up(t, 2)
	l.BlockUDP(1)
	serve(t, l.Node(1), "still here")
	if got := get(t, l.Node(2), "http://10.77.0.1:8080/"); got != "still here" {
		t.Errorf("got %q", got)
	}
}

func TestABlackHoleStallsAConnectionAndHealResumesIt(t *testing.T) {
	l := Up(t, 2)
	ln, err := l.Node(1).Listen("tcp", "10.77.0.1:9000")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	c, err := l.Node(2).DialContext(t.Context(), "tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	far, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer far.Close()

	l.BlackHole(1)
	if _, err := c.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 1)
	_ = far.SetReadDeadline(time.Now().Add(silence))
	if _, err := far.Read(b); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("read through a black hole: %v", err)
	}
	_ = far.SetReadDeadline(time.Now().Add(20 * time.Second))
	l.Heal(1)
	if _, err := far.Read(b); err != nil {
		t.Errorf("after heal: %v", err)
	}
}

func TestMulticast(t *testing.T) {
	l := Up(t, 3)
	heard := func(to int) bool { return hears(t, l.Node(1), l.Node(to)) }
	if !heard(2) || !heard(3) {
		t.Fatal("multicast does not pass the bridge")
	}
	l.NoMulticast(2)
	if heard(2) {
		t.Error("node 2 hears multicast it should not")
	}
	if !heard(3) {
		t.Error("node 3 lost its multicast too")
	}
	l.Heal(2)
	if !heard(2) {
		t.Error("node 2 hears nothing after heal")
	}
}

func TestLossIsTheShareAskedFor(t *testing.T) {
	l := Up(t, 2)
	if !passes(t, l.Node(1), l.Node(2), l.Node(2).IP()) { // addresses are learned
		t.Fatal("no way from 1 to 2")
	}
	l.Loss(1, 30)
	const sent = 2000
	if got := arrive(t, l.Node(1), l.Node(2), sent); got < sent*62/100 || got > sent*78/100 {
		t.Errorf("%d of %d arrived with 30%% loss", got, sent)
	}
}

func TestDelay(t *testing.T) {
	l := Up(t, 3)
	serve(t, l.Node(1), strings.Repeat("x", 1<<20))
	roundTrip := func() time.Duration {
		start := time.Now()
		if n := len(get(t, l.Node(2), "http://10.77.0.1:8080/")); n != 1<<20 {
			t.Fatalf("%d bytes", n)
		}
		return time.Since(start)
	}
	roundTrip()
	l.Delay(1, 30*time.Millisecond, 5*time.Millisecond)
	if took := roundTrip(); took < 50*time.Millisecond {
		t.Errorf("a request took %s through two delays of 25 to 35ms", took)
	}
	l.Cut(1, 3)
	if passes(t, l.Node(3), l.Node(1), l.Node(1).IP()) {
		t.Error("a delayed port is not cut")
	}
	if !hears(t, l.Node(1), l.Node(2)) {
		t.Error("multicast does not pass a delayed port")
	}
	l.Heal()
	if !heals(t, l.Node(3), l.Node(1)) {
		t.Error("no way to a port whose delay has ended")
	}
	roundTrip()
}

func TestAddressPlans(t *testing.T) {
	t.Run("IPv6 alone", func(t *testing.T) {
		l := Up(t, 2, NoIPv4())
		if ip := l.Node(2).IP(); ip.String() != "fd77::2" || !passes(t, l.Node(1), l.Node(2), ip) {
			t.Errorf("%s is not reached", ip)
		}
		if passes(t, l.Node(1), l.Node(2), addr4(2)) {
			t.Error("IPv4 works")
		}
	})
	t.Run("IPv4 alone", func(t *testing.T) {
		l := Up(t, 2, NoIPv6())
		if !passes(t, l.Node(1), l.Node(2), l.Node(2).IP()) || passes(t, l.Node(1), l.Node(2), addr6(2)) {
			t.Error("want IPv4 to work and IPv6 not")
		}
	})
	t.Run("second LAN", func(t *testing.T) {
		l := Up(t, 3, SecondLAN(1, 3))
		l.Cut(1, 3)
		if !passes(t, l.Node(1), l.Node(3), l.Node(3).SecondIP()) {
			t.Error("eth1 does not work")
		}
	})
}

func TestProgramsRunOnTheirHost(t *testing.T) {
	l := Up(t, 1)
	p := l.Node(1).Start("ip", "-o", "-4", "addr", "show", "eth0")
	if err := p.Wait(); err != nil || !strings.Contains(p.Stdout.String(), " 10.77.0.1/16 ") {
		t.Errorf("%v: %q", err, p.Stdout.String())
	}
	long := l.Node(1).Start("sleep", "1000")
	long.Kill()
	var exit *exec.ExitError
	if err := long.Wait(); !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		t.Errorf("killed program ended with %v", err)
	}
}

func TestTheWorldOutsideIsUnreachableAtOnce(t *testing.T) {
	l := Up(t, 1)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	_, err := l.Node(1).DialContext(ctx, "tcp", "192.0.2.1:80") // an address for documentation
	if !errors.Is(err, syscall.ENETUNREACH) && !errors.Is(err, syscall.EHOSTUNREACH) {
		t.Errorf("dial: %v, want unreachable", err)
	}
}

func TestNothingIsLeftBehind(t *testing.T) {
	var names []string
	t.Run("lab", func(t *testing.T) {
		l := Up(t, 2)
		names = append(l.plan.nodeNames(), l.plan.switchName())
		l.Node(1).Start("sleep", "1000")
		l.Delay(2, time.Millisecond, 0)
	})
	for _, name := range names {
		if _, err := os.Stat("/run/netns/" + name); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s is still there (%v)", name, err)
		}
	}
}

func TestTheNextLabRemovesWhatACrashLeft(t *testing.T) {
	found, err := findTools()
	if err != nil {
		need.Missing(t, err.Error())
	}
	gone := exec.Command("true")
	if err := gone.Run(); err != nil {
		t.Fatal(err)
	}
	stale := fmt.Sprintf("%s%d-1-n1", namePrefix, gone.Process.Pid)
	if err := found.ip("netns", "add", stale); err != nil {
		need.Missing(t, err.Error())
	}
	Up(t, 1)
	if _, err := os.Stat("/run/netns/" + stale); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%s is still there (%v)", stale, err)
	}
}

// passes reports whether a datagram gets from one host to an address of
// another.
func passes(t *testing.T, from, to *Node, ip netip.Addr) bool {
	t.Helper()
	c, err := to.ListenPacket("udp", netip.AddrPortFrom(ip, 0).String())
	if err != nil {
		return false // the host has no such address
	}
	defer c.Close()
	out, err := from.DialContext(t.Context(), "udp", c.LocalAddr().String())
	if err != nil {
		return false
	}
	defer out.Close()
	heard := make(chan struct{})
	go func() {
		defer close(heard)
		_ = c.SetReadDeadline(time.Now().Add(silence))
		_, _, err = c.ReadFrom(make([]byte, 16))
	}()
	_, _ = out.Write([]byte("x"))
	<-heard
	return err == nil
}

// heals waits until datagrams pass again: a host that could not learn an address
// asks again a second later.
func heals(t *testing.T, from, to *Node) bool {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); {
		if passes(t, from, to, to.IP()) {
			return true
		}
	}
	return false
}

// hears reports whether mDNS from one host reaches another.
func hears(t *testing.T, from, to *Node) bool {
	t.Helper()
	group := &net.UDPAddr{IP: net.IPv4(224, 0, 0, 251), Port: 5353}
	var c *net.UDPConn
	err := to.inside(func() error {
		nic, err := net.InterfaceByName("eth0")
		if err == nil {
			c, err = net.ListenMulticastUDP("udp4", nic, group)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	out, err := from.DialContext(t.Context(), "udp4", group.String())
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	if _, err := out.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	_ = c.SetReadDeadline(time.Now().Add(silence))
	_, _, err = c.ReadFrom(make([]byte, 16))
	return err == nil
}

// arrive sends n datagrams and counts those that come.
func arrive(t *testing.T, from, to *Node, n int) (count int) {
	t.Helper()
	in, err := to.ListenPacket("udp", netip.AddrPortFrom(to.IP(), 0).String())
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	out, err := from.DialContext(t.Context(), "udp", in.LocalAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	for i := range n {
		if _, err := out.Write([]byte(strconv.Itoa(i))); err != nil {
			t.Fatal(err)
		}
		// Read what is there now and then: no socket buffer holds them all.
		if i%100 == 99 || i == n-1 {
			_ = in.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
			for {
				if _, _, err := in.ReadFrom(make([]byte, 16)); err != nil {
					break
				}
				count++
			}
		}
	}
	return count
}

// serve answers every request on port 8080 of a host with text.
func serve(t *testing.T, n *Node, text string) {
	t.Helper()
	ln, err := n.Listen("tcp", ":8080")
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, text)
	})}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = s.Serve(ln)
	}()
	t.Cleanup(func() {
		_ = s.Close()
		<-ended
	})
}

func get(t *testing.T, from *Node, url string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := from.HTTPClient().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

var _ relay.Network = (*Node)(nil)

func TestARelayStandsOnAHost(t *testing.T) {
	l := Up(t, 3)
	serve(t, l.Node(1), "through")
	r := relay.Start(t, relay.Config{In: l.Node(2), Listen: "10.77.0.2:8080", Target: "10.77.0.1:8080"})
	if got := get(t, l.Node(3), "http://"+r.Addr().String()+"/"); got != "through" {
		t.Errorf("got %q", got)
	}
	if n := r.Stats().Streams; n != 1 {
		t.Errorf("%d streams", n)
	}
}
