package node

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"path/filepath"
	"slices"
	"strconv"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/apikeys"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/backend"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/guard"
)

// buildGuard makes the policy in front of the client port.
func (n *Node) buildGuard() (*guard.Guard, error) {
	c := n.config.Guard
	c.Keys = apikeys.Open(filepath.Join(n.config.StateDir, apikeys.File))
	c.Hosts = n.hosts(c.Hosts)
	if c.Spool == "" {
		c.Spool = n.config.StateDir // the system's may be memory, too
	}
	if c.Logger == nil {
		c.Logger = n.config.Logger
	}
	var err error
	if c.TLS, err = n.buildTLS(); err != nil {
		return nil, fmt.Errorf("node: certificate of the client port: %w", err)
	}
	return guard.New(c)
}

// hosts are the names that the node answers to: the given ones and its own.
func (n *Node) hosts(given []string) []string {
	hosts := append(slices.Clone(given), n.config.Name)
	if host, _, err := net.SplitHostPort(n.config.Advertise); err == nil {
		hosts = append(hosts, host)
	} else if n.config.Advertise != "" {
		hosts = append(hosts, n.config.Advertise)
	}
	return hosts
}

// Reload takes over what of c can change while the node runs: Grace, MaxBody,
// Parallel, and of Guard RequireKey, Trusted, Hosts and Origins. The rest
// counts for nothing.
func (n *Node) Reload(c Config) error {
	door := c.Guard
	door.Hosts = n.hosts(door.Hosts)
	if err := n.guard.Update(door); err != nil {
		return err
	}
	if c.Grace > 0 {
		n.grace.Store(int64(c.Grace))
	}
	if c.MaxBody > 0 {
		n.router.SetMaxBody(c.MaxBody)
	}
	if c.Parallel != n.parallel {
		n.parallel = c.Parallel
		n.backend.SetParallel(c.Parallel)
	}
	return nil
}

// Guard is the policy in front of the node's client port.
func (n *Node) Guard() *guard.Guard { return n.guard }

// isOwnPort reports whether the address given as Ollama's is this node's own
// client port.
func (n *Node) isOwnPort(ollama *url.URL) bool {
	own := n.APIAddr()
	if ollama.Port() != strconv.Itoa(int(own.Port())) {
		return false
	}
	if ollama.Hostname() == "localhost" {
		return own.Addr().IsUnspecified() || own.Addr().IsLoopback()
	}
	ip, err := netip.ParseAddr(ollama.Hostname())
	if err != nil {
		return false
	}
	ip = ip.Unmap()
	if own.Addr().Unmap() == ip {
		return true
	}
	if !own.Addr().IsUnspecified() {
		return false
	}
	addrs, err := net.InterfaceAddrs()
	return ip.IsLoopback() || err == nil && slices.ContainsFunc(addrs, func(a net.Addr) bool {
		p, err := netip.ParsePrefix(a.String())
		return err == nil && p.Addr().Unmap() == ip
	})
}

// refuseLoop looks once, before anything starts, whether the address given as
// Ollama's belongs to another kage-mesh: work sent there would come back. An
// address where nobody answers is no reason not to start; the watcher keeps
// looking, and takes a kage-mesh that appears there later for no Ollama.
func (n *Node) refuseLoop(ctx context.Context) error {
	client := backend.NewClient(n.ollama, nil)
	defer client.CloseIdle()
	if loop, err := client.Loop(ctx); err == nil && loop {
		return backend.ErrLoop
	}
	return nil
}
