package discovery

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"
	"go.uber.org/goleak"
)

// This file is one host of the lab: the test binary, started in a network
// namespace of its own, that takes orders on stdin and reports on stdout.

func init() { roles["host"] = labHost }

// order is a line on stdin. Each is answered by one report with Done set.
type order struct {
	Do      string // ip, start, stop, leaks, forget, flood
	Args    string // of ip
	ID      string
	Cluster string
	Port    int
}

// report is a line on stdout.
type report struct {
	Done  bool
	Err   string
	Node  string        // whose report this is
	Found *Peer         // offered by mDNS
	Join  string        // address at which a peer was joined
	At    time.Duration // since the node's start
}

type host struct {
	mu    sync.Mutex // guards out
	out   *json.Encoder
	nodes map[string]*hostNode
}

// hostNode is one node: real mDNS, a real Discovery, and for a mesh a TCP port
// that says the node's id to whoever connects.
type hostNode struct {
	stop func() error

	mu      sync.Mutex
	members map[string]bool
}

func labHost() int {
	h := &host{out: json.NewEncoder(os.Stdout), nodes: map[string]*hostNode{}}
	in := json.NewDecoder(os.Stdin)
	for {
		var o order
		if err := in.Decode(&o); err != nil {
			return 0 // the test has ended
		}
		r := report{Done: true}
		if err := h.obey(o); err != nil {
			r.Err = err.Error()
		}
		h.say(r)
	}
}

func (h *host) say(r report) {
	h.mu.Lock()
	defer h.mu.Unlock()
	_ = h.out.Encode(r)
}

func (h *host) obey(o order) error {
	switch o.Do {
	case "ip":
		out, err := exec.Command("ip", strings.Fields(o.Args)...).CombinedOutput()
		if err != nil {
			return fmt.Errorf("ip %s: %w: %s", o.Args, err, out)
		}
		return nil
	case "start":
		return h.start(o)
	case "stop":
		return h.nodes[o.ID].stop()
	case "leaks":
		return leaks()
	case "forget": // as if every member had failed
		n := h.nodes[o.ID]
		n.mu.Lock()
		defer n.mu.Unlock()
		n.members = map[string]bool{}
		return nil
	case "flood":
		return flood(o.Port)
	}
	return fmt.Errorf("what is %q?", o.Do)
}

func (h *host) start(o order) error {
	l, err := net.Listen("tcp", ":"+strconv.Itoa(o.Port))
	if err != nil {
		return err
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug})).With("host", o.ID)
	m, err := NewMDNS(MDNSConfig{Instance: o.ID, Cluster: o.Cluster, Protocol: 1, Port: o.Port, Poll: 200 * time.Millisecond, Logger: log})
	if err != nil {
		return err
	}
	n := &hostNode{members: map[string]bool{}}
	began := time.Now()
	tee := sourceFunc(func(ctx context.Context, found func(Peer)) error {
		return m.Run(ctx, func(p Peer) {
			h.say(report{Node: o.ID, Found: &p, At: time.Since(began)})
			found(p)
		})
	})
	join := joinFunc(func(ctx context.Context, addrs ...string) (int, error) {
		id, err := whoIs(ctx, addrs[0])
		if err != nil {
			return 0, err
		}
		n.mu.Lock()
		n.members[id] = true
		n.mu.Unlock()
		h.say(report{Node: o.ID, Join: addrs[0], At: time.Since(began)})
		return 1, nil
	})
	d, err := New(Config{
		Self: o.ID, Cluster: o.Cluster, Joiner: join, Sources: []Source{tee}, Logger: log,
		Known: func(p Peer) bool {
			n.mu.Lock()
			defer n.mu.Unlock()
			return n.members[p.ID]
		},
		Recheck: 200 * time.Millisecond,
	})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			fmt.Fprintln(c, o.ID)
			c.Close()
		}
	})
	run := make(chan error, 1)
	wg.Go(func() { run <- d.Run(ctx) })
	n.stop = func() error {
		asked := time.Now()
		cancel()
		l.Close()
		wg.Wait()
		if took := time.Since(asked); took > 2*time.Second {
			return fmt.Errorf("stopping took %v", took)
		}
		return <-run
	}
	h.nodes[o.ID] = n
	return nil
}

type joinFunc func(ctx context.Context, addrs ...string) (int, error)

func (f joinFunc) Join(ctx context.Context, addrs ...string) (int, error) { return f(ctx, addrs...) }

// whoIs asks the node at addr for its id.
func whoIs(ctx context.Context, addr string) (string, error) {
	c, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
	if err != nil {
		return "", err
	}
	defer c.Close()
	if d, ok := ctx.Deadline(); ok {
		_ = c.SetDeadline(d)
	}
	id, err := bufio.NewReader(c).ReadString('\n')
	return strings.TrimSpace(id), err
}

// leaks waits until this process is as it was before any node ran. The library
// has a goroutine that sleeps for up to 3.5 s after a start, whatever happens.
func leaks() error {
	var err error
	for deadline := time.Now().Add(6 * time.Second); time.Now().Before(deadline); {
		if err = goleak.Find(); err == nil {
			return nil
		}
	}
	return err
}

const floodSize = 1000

// flood sends what a broken or hostile neighbour might: bytes that are no DNS,
// answers without sense, and thousands of forged nodes, some at addresses far
// away. Each first makes different ones.
func flood(first int) error {
	c, err := net.Dial("udp4", "224.0.0.251:5353")
	if err != nil {
		return err
	}
	defer c.Close()
	send := func(b []byte) error {
		_, err := c.Write(b)
		return err
	}
	if err := send([]byte("GET / HTTP/1.1\r\n\r\n")); err != nil {
		return err
	}
	if err := send(nil); err != nil && !errors.Is(err, io.ErrShortWrite) {
		return err
	}
	for i := first; i < first+floodSize; i++ {
		name := fmt.Sprintf("f%d.%s.local.", i, DefaultService)
		hdr := func(name string, rr uint16) dns.RR_Header {
			return dns.RR_Header{Name: name, Rrtype: rr, Class: dns.ClassINET, Ttl: 120}
		}
		txt := []string{"c=home", "v=1", fmt.Sprintf("id=f%d", i), "p=9"}
		if i%4 == 0 {
			txt = []string{"c=home", "v=x", "id=\x00", strings.Repeat("y", 255)}
		}
		ip := net.IPv4(10, 77, 200, byte(i))
		if i%4 == 1 {
			ip = net.IPv4(8, 8, 8, byte(i))
		}
		m := new(dns.Msg)
		m.Response = true
		m.Answer = []dns.RR{
			&dns.PTR{Hdr: hdr(DefaultService+".local.", dns.TypePTR), Ptr: name},
			&dns.SRV{Hdr: hdr(name, dns.TypeSRV), Port: 9, Target: "f.local."},
			&dns.TXT{Hdr: hdr(name, dns.TypeTXT), Txt: txt},
			&dns.A{Hdr: hdr("f.local.", dns.TypeA), A: ip},
		}
		b, err := m.Pack()
		if err != nil {
			return err
		}
		if err := send(b); err != nil {
			return err
		}
	}
	return nil
}
