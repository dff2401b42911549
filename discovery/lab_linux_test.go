package discovery

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// The lab: real multicast between hosts that are network namespaces on a
// bridge. TestLab starts this binary again in a namespace that holds the
// bridge, and that one starts a copy for each host, so nothing outside is
// touched and everything is gone with the processes. It needs root or
// unprivileged user namespaces, and ip.

const (
	labEnv         = "DISCOVERY_TEST_LAB"
	labUnavailable = 77 // exit code
)

func TestLab(t *testing.T) {
	if os.Getenv(labEnv) != "" {
		t.Skip("runs inside")
	}
	missing := func(why string) {
		t.Helper()
		if os.Getenv("CI") == "true" {
			t.Fatalf("multicast lab cannot run: %s", why)
		}
		t.Logf("no multicast lab: %s (needs ip and root or unprivileged user namespaces)", why)
		multicastOnThisHost(t)
	}
	if _, err := exec.LookPath("ip"); err != nil {
		missing("no ip command")
		return
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestInLab$", "-test.v", "-test.timeout=3m", "-test.parallel=8")
	cmd.Env = append(os.Environ(), labEnv+"=1")
	cmd.SysProcAttr = namespace(os.Getuid() != 0)
	out, err := cmd.CombinedOutput()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok && exit.ExitCode() == labUnavailable {
		missing(lastLine(out))
		return
	} else if err != nil && !ok {
		missing(err.Error())
		return
	} else if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if !bytes.Contains(out, []byte("--- PASS: TestInLab")) {
		t.Fatalf("nothing ran:\n%s", out)
	}
	t.Logf("\n%s", out)
}

// namespace makes the child's network its own, and with user also its users, so
// that it is root there.
func namespace(user bool) *syscall.SysProcAttr {
	a := &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	if user {
		a.Cloneflags |= syscall.CLONE_NEWUSER
		a.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
		a.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
	}
	return a
}

func lastLine(b []byte) string {
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	return lines[len(lines)-1]
}

// TestInLab is TestLab's inside.
func TestInLab(t *testing.T) {
	if os.Getenv(labEnv) == "" {
		t.Skip("started by TestLab")
	}
	for _, args := range []string{"link set lo up", "link add probe type bridge", "link del probe"} {
		if out, err := exec.Command("ip", strings.Fields(args)...).CombinedOutput(); err != nil {
			fmt.Printf("ip %s: %v: %s\n", args, err, out)
			os.Exit(labUnavailable)
		}
	}
	t.Run("three nodes that start together", labTogether)
	t.Run("several nodes on one host", labOneHost)
	t.Run("network that appears later", labLateNetwork)
	t.Run("node that leaves or dies and returns", labReturn)
	t.Run("mesh that splits and heals", labSplit)
	t.Run("ipv6 link-local only", labLinkLocal)
	t.Run("host on two networks", labTwoNetworks)
	t.Run("flood of forged answers", labFlood)
}

var bridges atomic.Int64

// newBridge makes a network of its own, so scenarios may run side by side.
func newBridge(t *testing.T) string {
	t.Helper()
	name := fmt.Sprint("br", bridges.Add(1))
	outside(t, "link add %s type bridge", name)
	outside(t, "link set %s up", name)
	return name
}

// lab host as the test sees it.
type labNode struct {
	t    *testing.T
	name string
	cmd  *exec.Cmd
	in   io.WriteCloser
	err  *syncBuffer
	no6  bool // cables carry no IPv6

	mu      sync.Mutex
	reports []report
	more    chan struct{} // closed and replaced at each report
	done    chan report
}

type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// tail is the end of it.
func (s *syncBuffer) tail() string {
	lines := strings.SplitAfter(s.String(), "\n")
	return strings.Join(lines[max(0, len(lines)-30):], "")
}

// newHost starts a host without a network.
func newHost(t *testing.T, name string) *labNode {
	t.Helper()
	h := &labNode{t: t, name: name, err: &syncBuffer{}, more: make(chan struct{}), done: make(chan report, 1)}
	h.cmd = exec.Command(os.Args[0])
	h.cmd.Env = append(os.Environ(), roleEnv+"=host")
	h.cmd.SysProcAttr = namespace(false)
	h.cmd.Stderr = h.err
	var err error
	if h.in, err = h.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := h.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := h.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	read := make(chan struct{})
	go func() {
		defer close(read)
		h.read(out)
	}()
	t.Cleanup(func() {
		h.in.Close()
		<-read
		_ = h.cmd.Wait()
		if strings.Contains(h.err.String(), "DATA RACE") || strings.Contains(h.err.String(), "panic:") {
			t.Errorf("host %s:\n%s", name, h.err)
		} else if t.Failed() {
			t.Logf("host %s, last lines:\n%s", name, h.err.tail())
		}
	})
	return h
}

func (h *labNode) read(out io.Reader) {
	dec := json.NewDecoder(out)
	for {
		var r report
		if err := dec.Decode(&r); err != nil {
			close(h.done)
			return
		}
		if r.Done {
			h.done <- r
			continue
		}
		h.mu.Lock()
		h.reports = append(h.reports, r)
		close(h.more)
		h.more = make(chan struct{})
		h.mu.Unlock()
	}
}

// do gives an order and waits until it is carried out.
func (h *labNode) do(o order) {
	h.t.Helper()
	if err := json.NewEncoder(h.in).Encode(o); err != nil {
		h.t.Fatalf("host %s: %v", h.name, err)
	}
	if r, ok := <-h.done; !ok || r.Err != "" {
		h.t.Fatalf("host %s: %+v: %s", h.name, o, r.Err)
	}
}

func (h *labNode) ip(format string, args ...any) {
	h.t.Helper()
	h.do(order{Do: "ip", Args: fmt.Sprintf(format, args...)})
}

func (h *labNode) start(id string, port int) {
	h.t.Helper()
	h.do(order{Do: "start", ID: id, Cluster: "home", Port: port})
}

// stop stops a node, which must not take long.
func (h *labNode) stop(id string) {
	h.t.Helper()
	h.do(order{Do: "stop", ID: id})
}

// stopAll stops the only node of each host and checks that nothing is left.
func stopAll(hosts map[string]*labNode) {
	for id, h := range hosts {
		h.t.Helper()
		h.stop(id)
	}
	for _, h := range hosts {
		h.do(order{Do: "leaks"})
	}
}

// cable plugs the host into a bridge; addrs may be empty.
func (h *labNode) cable(bridge, dev string, addrs ...string) {
	h.t.Helper()
	port := "p" + h.name + dev
	outside(h.t, "link add %s type veth peer name %s netns %d", port, dev, h.cmd.Process.Pid)
	outside(h.t, "link set %s master %s up", port, bridge)
	h.t.Cleanup(func() { _ = exec.Command("ip", "link", "del", port).Run() })
	for _, a := range addrs {
		h.ip("addr add %s dev %s", a, dev)
	}
	if h.no6 {
		h.ip("link set %s addrgenmode none", dev)
	}
	h.ip("link set lo up")
	h.ip("link set %s up", dev)
}

// outside runs ip where the bridges are.
func outside(t *testing.T, format string, args ...any) {
	t.Helper()
	cmd := fmt.Sprintf(format, args...)
	if out, err := exec.Command("ip", strings.Fields(cmd)...).CombinedOutput(); err != nil {
		t.Fatalf("ip %s: %v: %s", cmd, err, out)
	}
}

// await waits for a report that ok likes, among all so far from the one number
// from, and returns it.
func (h *labNode) await(what string, limit time.Duration, from int, ok func(report) bool) report {
	h.t.Helper()
	deadline := time.After(limit)
	for {
		h.mu.Lock()
		for _, r := range h.reports[from:] {
			if ok(r) {
				h.mu.Unlock()
				return r
			}
		}
		more := h.more
		h.mu.Unlock()
		select {
		case <-more:
		case <-deadline:
			h.t.Fatalf("host %s: no %s within %v; it reported %s\n%s", h.name, what, limit, last(h.all(), 2000), h.err.tail())
		}
	}
}

func (h *labNode) all() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	b, _ := json.Marshal(h.reports)
	return string(b)
}

func (h *labNode) count() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.reports)
}

// finds waits until node finds the peer at addr, which may be "" for any.
func (h *labNode) finds(node, peer, addr string, limit time.Duration) report {
	h.t.Helper()
	return h.findsFrom(0, node, peer, addr, limit)
}

func (h *labNode) findsFrom(from int, node, peer, addr string, limit time.Duration) report {
	h.t.Helper()
	return h.await(fmt.Sprintf("find of %s by %s at %q", peer, node, addr), limit, from, func(r report) bool {
		return r.Node == node && r.Found != nil && r.Found.ID == peer && (addr == "" || r.Found.Addr == addr)
	})
}

// joins waits until node joins an address.
func (h *labNode) joinsFrom(from int, node, addr string, limit time.Duration) report {
	h.t.Helper()
	return h.await(fmt.Sprintf("join of %s by %s", addr, node), limit, from, func(r report) bool {
		return r.Node == node && r.Join == addr
	})
}

const (
	soon     = 3 * time.Second  // the promise for nodes that start with a working network
	eventual = 30 * time.Second // a few windows later
)

func labTogether(t *testing.T) {
	t.Parallel()
	br := newBridge(t)
	var hosts []*labNode
	for i := range 3 {
		h := newHost(t, fmt.Sprint("t", i))
		h.cable(br, "eth0", fmt.Sprintf("10.77.0.%d/24", i+1))
		hosts = append(hosts, h)
	}
	var wg sync.WaitGroup
	for i, h := range hosts {
		wg.Go(func() { h.start(fmt.Sprint("n", i), 11437) })
	}
	wg.Wait()
	var slowest time.Duration
	for i, h := range hosts {
		for j := range hosts {
			if i == j {
				continue
			}
			addr := fmt.Sprintf("10.77.0.%d:11437", j+1)
			r := h.finds(fmt.Sprint("n", i), fmt.Sprint("n", j), addr, soon)
			if r.Found.Source != SourceMDNS || r.Found.Cluster != "home" {
				t.Errorf("found %+v", r.Found)
			}
			slowest = max(slowest, r.At, h.joinsFrom(0, fmt.Sprint("n", i), addr, soon).At)
		}
	}
	t.Logf("every node had found and joined every other after %v", slowest)
	stopAll(map[string]*labNode{"n0": hosts[0], "n1": hosts[1], "n2": hosts[2]})
	for i, h := range hosts {
		if strings.Contains(h.all(), fmt.Sprintf(`"ID":"n%d"`, i)) || strings.Contains(h.all(), fmt.Sprintf(`"id":"n%d"`, i)) {
			t.Errorf("n%d found itself", i)
		}
	}
}

func labOneHost(t *testing.T) {
	t.Parallel()
	br := newBridge(t)
	a, b := newHost(t, "oa"), newHost(t, "ob")
	a.cable(br, "eth0", "10.77.0.1/24")
	b.cable(br, "eth0", "10.77.0.2/24")
	a.start("a1", 11437)
	a.start("a2", 21437)
	b.start("b", 11437)
	a.finds("a1", "a2", "10.77.0.1:21437", soon)
	a.finds("a2", "a1", "10.77.0.1:11437", soon)
	a.finds("a1", "b", "10.77.0.2:11437", soon)
	b.finds("b", "a1", "10.77.0.1:11437", soon)
	b.finds("b", "a2", "10.77.0.1:21437", soon)
	a.joinsFrom(0, "a1", "10.77.0.1:21437", soon)
	a.stop("a1")
	a.stop("a2")
	b.stop("b")
}

func labLateNetwork(t *testing.T) {
	t.Parallel()
	br := newBridge(t)
	a, b := newHost(t, "la"), newHost(t, "lb")
	a.start("a", 11437) // no interface but a loopback that is down
	b.cable(br, "eth0", "10.77.0.2/24")
	b.start("b", 11437)
	a.cable(br, "eth0")
	a.ip("addr add 10.77.0.1/24 dev eth0")
	a.finds("a", "b", "10.77.0.2:11437", eventual)
	b.finds("b", "a", "10.77.0.1:11437", eventual)
	// A new lease: the old address must not be all that others ever hear.
	n := b.count()
	a.ip("addr add 10.77.0.9/24 dev eth0")
	a.ip("addr del 10.77.0.1/24 dev eth0")
	a.ip("addr replace 10.77.0.9/24 dev eth0")
	b.findsFrom(n, "b", "a", "10.77.0.9:11437", eventual)
	stopAll(map[string]*labNode{"a": a, "b": b})
}

func labReturn(t *testing.T) {
	t.Parallel()
	br := newBridge(t)
	a, b := newHost(t, "ra"), newHost(t, "rb")
	a.no6 = true // else what one family misses the other may hear
	a.cable(br, "eth0", "10.77.0.1/24")
	b.cable(br, "eth0", "10.77.0.2/24")
	a.start("a", 11437)
	b.start("b", 11437)
	a.joinsFrom(0, "a", "10.77.0.2:11437", soon)

	b.stop("b")
	a.do(order{Do: "forget", ID: "a"})
	b.start("b", 11438)
	n := a.count()
	a.joinsFrom(n, "a", "10.77.0.2:11438", eventual)

	// Without a goodbye, and back elsewhere.
	if err := b.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	a.do(order{Do: "forget", ID: "a"})
	c := newHost(t, "rc")
	c.cable(br, "eth0", "10.77.0.3/24")
	c.start("b", 11439)
	a.joinsFrom(n, "a", "10.77.0.3:11439", eventual)
	a.stop("a")
	c.stop("b")
}

func labSplit(t *testing.T) {
	t.Parallel()
	br := newBridge(t)
	a, b := newHost(t, "sa"), newHost(t, "sb")
	a.cable(br, "eth0", "10.77.0.1/24")
	b.cable(br, "eth0", "10.77.0.2/24")
	a.start("a", 11437)
	b.start("b", 11437)
	a.joinsFrom(0, "a", "10.77.0.2:11437", soon)
	b.joinsFrom(0, "b", "10.77.0.1:11437", soon)
	outside(t, "link set psbeth0 nomaster") // the switch between them, not their own links
	a.do(order{Do: "forget", ID: "a"})
	b.do(order{Do: "forget", ID: "b"})
	n, m := a.count(), b.count()
	outside(t, "link set psbeth0 master %s", br)
	a.joinsFrom(n, "a", "10.77.0.2:11437", eventual)
	b.joinsFrom(m, "b", "10.77.0.1:11437", eventual)
	a.stop("a")
	b.stop("b")
}

func labLinkLocal(t *testing.T) {
	t.Parallel()
	br := newBridge(t)
	a, b := newHost(t, "va"), newHost(t, "vb")
	a.cable(br, "eth0")
	b.cable(br, "eth0")
	a.start("a", 11437)
	b.start("b", 11437)
	for _, tt := range []struct {
		h          *labNode
		node, peer string
	}{{a, "a", "b"}, {b, "b", "a"}} {
		r := tt.h.finds(tt.node, tt.peer, "", eventual)
		addr, err := netip.ParseAddrPort(r.Found.Addr)
		if err != nil || !addr.Addr().IsLinkLocalUnicast() || addr.Addr().Zone() != "eth0" {
			t.Errorf("found %q, %v; want a link-local address with its zone", r.Found.Addr, err)
		}
		tt.h.joinsFrom(0, tt.node, r.Found.Addr, eventual) // over a real socket
	}
	a.stop("a")
	b.stop("b")
}

func labTwoNetworks(t *testing.T) {
	t.Parallel()
	br, br1 := newBridge(t), newBridge(t)
	both, b, c := newHost(t, "wa"), newHost(t, "wb"), newHost(t, "wc")
	both.cable(br, "eth0", "10.77.0.1/24", "fd77::1/64")
	both.cable(br1, "eth1", "10.78.0.1/24")
	both.ip("link add docker0 type bridge") // the same address on two hosts, as Docker does
	both.ip("addr add 172.17.0.1/16 dev docker0")
	both.ip("link set docker0 up")
	b.cable(br, "eth0", "10.77.0.2/24", "fd77::2/64")
	c.cable(br1, "eth0", "10.78.0.3/24")
	both.start("a", 11437)
	b.start("b", 11437)
	c.start("c", 11437)
	// Each by the address that it shares a network with, before any other.
	for _, tt := range []struct {
		h                *labNode
		node, peer, addr string
	}{
		{both, "a", "b", "10.77.0.2:11437"},
		{both, "a", "c", "10.78.0.3:11437"},
		{b, "b", "a", "10.77.0.1:11437"},
		{c, "c", "a", "10.78.0.1:11437"},
	} {
		if r := tt.h.finds(tt.node, tt.peer, "", soon); r.Found.Addr != tt.addr {
			t.Errorf("%s: first address of %s is %s, want %s", tt.node, tt.peer, r.Found.Addr, tt.addr)
		}
		tt.h.joinsFrom(0, tt.node, tt.addr, soon)
	}
	b.finds("b", "a", "[fd77::1]:11437", soon)
	if strings.Contains(b.all(), `"c"`) {
		t.Error("b found c, which is on another network")
	}
	both.stop("a")
	b.stop("b")
	c.stop("c")
}

func labFlood(t *testing.T) {
	t.Parallel()
	br := newBridge(t)
	a, b, evil := newHost(t, "fa"), newHost(t, "fb"), newHost(t, "fe")
	a.cable(br, "eth0", "10.77.0.1/24")
	b.cable(br, "eth0", "10.77.0.2/24")
	evil.cable(br, "eth0", "10.77.0.66/24")
	evil.ip("route add 224.0.0.0/4 dev eth0")
	a.start("a", 11437)
	// How much of a flood arrives depends on the machine; it goes on until it
	// has had its effect.
	for i := 0; !strings.Contains(a.err.String(), "mdns is flooded"); i++ {
		if i == 200 {
			t.Fatal("the flood was not noticed")
		}
		evil.do(order{Do: "flood", Port: i * floodSize})
	}
	b.start("b", 11437)
	b.finds("b", "a", "10.77.0.1:11437", soon) // it still answers
	// After floodPause, and although the table is full of forged peers.
	a.joinsFrom(0, "a", "10.77.0.2:11437", 2*floodPause)
	a.mu.Lock()
	var forged []string
	for _, r := range a.reports {
		if r.Found != nil && strings.HasPrefix(r.Found.ID, "f") {
			forged = append(forged, r.Found.Addr)
		}
	}
	a.mu.Unlock()
	if len(forged) == 0 {
		t.Error("no forged peer was offered, so there was no flood")
	}
	if slices.ContainsFunc(forged, func(s string) bool { return strings.HasPrefix(s, "8.") }) {
		t.Error("offers an address on the internet that a neighbour named")
	}
	stopAll(map[string]*labNode{"a": a, "b": b})
}

// last is the end of s.
func last(s string, n int) string { return s[max(0, len(s)-n):] }
