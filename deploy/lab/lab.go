//go:build linux

package lab

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/deploy/need"
)

// Names inside the switch's namespace, where they need not be unique.
const (
	bridge       = "br0"
	secondBridge = "br1"
)

// labs numbers the labs of this process.
var labs atomic.Uint32

// Option changes what Up builds.
type Option func(*plan)

// NoIPv4 builds a LAN with IPv6 addresses alone.
func NoIPv4() Option { return func(p *plan) { p.noIPv4 = true } }

// NoIPv6 turns IPv6 off on every host.
func NoIPv6() Option { return func(p *plan) { p.noIPv6 = true } }

// SecondLAN gives these hosts a second interface, eth1, with an address in
// 10.78.0.0/16 on a LAN of its own.
func SecondLAN(nodes ...int) Option {
	return func(p *plan) { p.second = append(p.second, nodes...) }
}

// Lab is a running LAN. Its methods may be called from any goroutine; they
// fail the test when the kernel refuses.
type Lab struct {
	t     testing.TB
	plan  plan
	tools tools
	nodes []*Node   // by number; 0 is the guest
	sw    namespace // holds the bridge and its ports

	mu     sync.Mutex // guards everything that follows
	faults faults
	delays map[int]*frameLine
}

// Up builds a LAN of n hosts and takes it down when the test ends.
func Up(t testing.TB, n int, opts ...Option) *Lab {
	t.Helper()
	need.NotShort(t, "lab: network namespaces")
	found, err := findTools()
	if err != nil {
		need.Missing(t, err.Error())
	}
	sweep(found)

	prefix := fmt.Sprintf("%s%d-%d-", namePrefix, os.Getpid(), labs.Add(1))
	p := plan{prefix: prefix, hosts: n}
	for _, o := range opts {
		o(&p)
	}
	l := &Lab{t: t, plan: p, tools: found, delays: map[int]*frameLine{}}
	t.Cleanup(l.down)
	if err := l.up(); err != nil {
		if len(l.nodes) == 0 { // not even one namespace: this system does not let us
			need.Missing(t, err.Error())
		}
		t.Fatal(err)
	}
	return l
}

// Node returns host i, from 1 to the number asked for, or the guest for 0.
func (l *Lab) Node(i int) *Node {
	l.t.Helper()
	if i < 0 || i >= len(l.nodes) {
		l.t.Fatalf("lab: no node %d, there are 1 to %d", i, len(l.nodes)-1)
	}
	return l.nodes[i]
}

// Nodes returns the hosts in order, without the guest.
func (l *Lab) Nodes() []*Node { return l.nodes[1:] }

func (l *Lab) up() error {
	var err error
	if err = l.tools.ip("netns", "add", l.plan.switchName()); err != nil {
		return err
	}
	if l.sw, err = openNamespace(l.plan.switchName()); err != nil {
		return err
	}
	if err := l.sw.inside(func() error { return sysctls(switchSysctls) }); err != nil {
		return err
	}
	for i := range l.plan.hosts + 1 {
		if err := l.tools.ip("netns", "add", l.plan.nodeName(i)); err != nil {
			return err
		}
		n, err := newNode(l, i)
		if err != nil {
			return err
		}
		l.nodes = append(l.nodes, n)
	}
	if err := l.tools.batch(l.sw.name, l.plan.switchCommands()); err != nil {
		return err
	}
	for i, n := range l.nodes {
		if err := n.inside(func() error { return sysctls(l.plan.sysctls(i)) }); err != nil {
			return err
		}
		if err := l.tools.batch(n.name, l.plan.nodeCommands(i)); err != nil {
			return err
		}
	}
	return l.forwarding()
}

// forwarding waits until every port of the switch passes frames. The kernel
// notices a cable at both ends in its own time, which on a busy machine is late
// enough to lose the first question for an address, asked again a second later.
func (l *Lab) forwarding() error {
	want := len(l.nodes) + len(l.plan.second)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(toolLimit); ; <-tick.C {
		ports, err := output(l.tools.ipPath, "-n", l.sw.name, "-o", "-d", "link", "show", "type", "bridge_slave")
		if err != nil {
			return err
		}
		if strings.Count(ports, "bridge_slave state forwarding") == want {
			return nil
		}
		if time.Now().After(end) {
			return fmt.Errorf("lab: ports do not come up:\n%s", ports)
		}
	}
}

func sysctls(values map[string]string) error {
	for path, value := range values {
		if err := os.WriteFile("/proc/sys/net/"+path, []byte(value), 0); err != nil && !os.IsNotExist(err) {
			return fmt.Errorf("lab: %w", err)
		}
	}
	return nil
}

// down removes everything. Programs that were started in the lab have ended by
// then, as their cleanup came later; others, such as children that made their
// own process group, are killed here.
func (l *Lab) down() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, d := range l.delays {
		d.close()
	}
	for _, n := range l.nodes {
		n.close()
	}
	if l.sw.name != "" {
		l.sw.close()
	}
	for _, name := range append(l.plan.nodeNames(), l.plan.switchName()) {
		l.tools.remove(name)
	}
}

// toolLimit bounds one call of ip or nft, which take milliseconds.
const toolLimit = 30 * time.Second

// tools are the programs that the lab drives.
type tools struct{ ipPath, nftPath string }

func findTools() (tools, error) {
	if os.Geteuid() != 0 {
		return tools{}, fmt.Errorf("lab: needs root for network namespaces")
	}
	var found tools
	for name, path := range map[string]*string{"ip": &found.ipPath, "nft": &found.nftPath} {
		p, err := exec.LookPath(name)
		if err != nil { // often not on the PATH of a plain shell
			if p, err = exec.LookPath("/usr/sbin/" + name); err != nil {
				return tools{}, fmt.Errorf("lab: needs %s (packages iproute2 and nftables)", name)
			}
		}
		*path = p
	}
	return found, nil
}

func (t tools) ip(args ...string) error { return run("", t.ipPath, args...) }

// batch gives ip many commands at once, in a namespace.
func (t tools) batch(namespace string, commands []string) error {
	return run(strings.Join(commands, "\n")+"\n", t.ipPath, "-n", namespace, "-b", "-")
}

// nft applies a ruleset in a namespace as one transaction.
func (t tools) nft(namespace, rules string) error {
	return run(rules, t.ipPath, "netns", "exec", namespace, t.nftPath, "-f", "-")
}

// remove ends what runs in a namespace and deletes it. Errors are of no use:
// what is left is swept by the next lab.
func (t tools) remove(namespace string) {
	ctx, cancel := context.WithTimeout(context.Background(), toolLimit)
	defer cancel()
	pids, err := exec.CommandContext(ctx, t.ipPath, "netns", "pids", namespace).Output()
	if err != nil {
		return
	}
	for f := range strings.FieldsSeq(string(pids)) {
		if pid, err := strconv.Atoi(f); err == nil && pid != os.Getpid() {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	}
	_ = t.ip("netns", "del", namespace)
}

func run(stdin, name string, args ...string) error {
	_, err := call(stdin, name, args...)
	return err
}

func output(name string, args ...string) (string, error) { return call("", name, args...) }

func call(stdin, name string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), toolLimit)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("lab: ip %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return string(out), nil
}

// sweep removes the namespaces of test processes that are gone.
func sweep(t tools) {
	entries, err := os.ReadDir("/run/netns")
	if err != nil {
		return // none yet
	}
	for _, e := range entries {
		if pid, ok := owner(e.Name()); ok && !alive(pid) {
			t.remove(e.Name())
		}
	}
}

func alive(pid int) bool { return syscall.Kill(pid, 0) == nil }

// IP is the host's main address: IPv4, or IPv6 on a LAN without IPv4.
func (n *Node) IP() netip.Addr { return n.lab.plan.mainAddr(n.index) }

// IPv6 is the host's IPv6 address; it has none on a LAN without IPv6.
func (n *Node) IPv6() netip.Addr { return addr6(n.index) }

// SecondIP is the address of eth1 (see [SecondLAN]).
func (n *Node) SecondIP() netip.Addr { return addrSecond(n.index) }
