//go:build linux

package lab

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os/exec"
	"strings"
	"time"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/deploy/lab/proc"
)

// Node is one host of the LAN.
type Node struct {
	lab   *Lab
	index int
	namespace
	http *http.Transport
}

func newNode(l *Lab, i int) (*Node, error) {
	ns, err := openNamespace(l.plan.nodeName(i))
	if err != nil {
		return nil, err
	}
	n := &Node{lab: l, index: i, namespace: ns}
	n.http = &http.Transport{
		DialContext:         n.DialContext,
		MaxIdleConnsPerHost: 64,
		IdleConnTimeout:     time.Minute,
		DisableCompression:  true, // a test sees the bytes that were sent
	}
	return n, nil
}

func (n *Node) close() {
	n.http.CloseIdleConnections()
	n.namespace.close()
}

// Index is the host's number in the lab.
func (n *Node) Index() int { return n.index }

// String is the host's number and address, for messages.
func (n *Node) String() string { return fmt.Sprintf("node %d (%s)", n.index, n.IP()) }

// Command is a program to be run on this host. Its process id is the
// program's own.
func (n *Node) Command(ctx context.Context, name string, args ...string) *exec.Cmd {
	path, err := exec.LookPath(name)
	if err != nil {
		path = name // let the start report it
	}
	return exec.CommandContext(ctx, n.lab.tools.ipPath,
		append([]string{"netns", "exec", n.name, path}, args...)...)
}

// Start starts a program on this host, in its own process group, until the
// test ends.
func (n *Node) Start(name string, args ...string) *proc.Proc {
	n.lab.t.Helper()
	return n.StartCommand(n.Command(context.Background(), name, args...))
}

// StartCommand is Start for a command from [Node.Command] that needs an
// environment or a directory of its own.
func (n *Node) StartCommand(cmd *exec.Cmd) *proc.Proc {
	n.lab.t.Helper()
	name := cmd.Path
	if len(cmd.Args) > 4 { // ip netns exec NAMESPACE PROGRAM
		name = cmd.Args[4]
	}
	return proc.Start(n.lab.t, cmd).Name(fmt.Sprintf("%s on node %d", name[strings.LastIndexByte(name, '/')+1:], n.index))
}

// HTTPClient is a client on this host: 127.0.0.1 is the host's own loopback.
// It has no time limit of its own. URLs name hosts by address, as the LAN has
// no DNS.
func (n *Node) HTTPClient() *http.Client { return &http.Client{Transport: n.http} }

// DialContext connects from this host. The address names an IP or localhost.
func (n *Node) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	address, err := literal(address)
	if err != nil {
		return nil, err
	}
	var c net.Conn
	err = n.inside(func() (err error) {
		c, err = (&net.Dialer{}).DialContext(ctx, network, address)
		return err
	})
	return c, err
}

// Listen listens on this host, for a server that runs in the test itself, such
// as a fake Ollama on 127.0.0.1:11434.
func (n *Node) Listen(network, address string) (net.Listener, error) {
	address, err := literal(address)
	if err != nil {
		return nil, err
	}
	var ln net.Listener
	err = n.inside(func() (err error) {
		ln, err = (&net.ListenConfig{}).Listen(context.Background(), network, address)
		return err
	})
	return ln, err
}

// ListenPacket is [Node.Listen] for datagrams.
func (n *Node) ListenPacket(network, address string) (net.PacketConn, error) {
	address, err := literal(address)
	if err != nil {
		return nil, err
	}
	var c net.PacketConn
	err = n.inside(func() (err error) {
		c, err = (&net.ListenConfig{}).ListenPacket(context.Background(), network, address)
		return err
	})
	return c, err
}

// literal makes sure that no name has to be looked up: a lookup runs on
// goroutines of its own, which are not in the namespace. The same holds for
// racing a name's addresses.
func literal(address string) (string, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return "", fmt.Errorf("lab: %w", err)
	}
	if host == "localhost" {
		host = "127.0.0.1"
	}
	ip, _, _ := strings.Cut(host, "%")
	if host != "" && net.ParseIP(ip) == nil {
		return "", fmt.Errorf("lab: %q: hosts of the lab have addresses and no names", host)
	}
	return net.JoinHostPort(host, port), nil
}
