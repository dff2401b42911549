package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh/hardware"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh/identity"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/admin"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/backend"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/guard"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/lane"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/metrics"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/registry"
)

// Node is one machine of a mesh.
type Node struct {
	config   Config
	log      *slog.Logger
	identity *identity.Identity
	mesh     *mesh.Mesh
	backend  *backend.Backend
	ollama   *url.URL
	router   *router.Router
	guard    *guard.Guard
	registry *registry.Registry

	voice   voice
	metrics *metrics.Metrics
	page    *page

	api, peer      net.Listener
	clients, peers *lane.Server
	forward        *link // to other nodes

	draining sync.Mutex
	stopping atomic.Bool // from now on nobody can undrain it

	parallel int          // as last set, of Reload
	grace    atomic.Int64 // ns, for running answers when the node stops

	leave   chan struct{} // closed by Leave: stop in order
	leaving sync.Once
	kill    chan struct{} // closed by Kill: stop at once
	killing sync.Once
}

// errKilled ends a node that Kill stopped.
var errKilled = errors.New("node: killed")

// New checks c, loads or makes the node's identity and binds its three ports.
// It starts nothing; Close gives the ports back when Run is never called.
func New(c Config) (*Node, error) {
	if err := c.validate(); err != nil {
		return nil, err
	}
	n := &Node{config: c, log: c.Logger, leave: make(chan struct{}), kill: make(chan struct{})}
	n.grace.Store(int64(c.Grace))
	n.parallel = c.Parallel
	if err := n.build(); err != nil {
		n.Close()
		return nil, err
	}
	return n, nil
}

func (n *Node) build() (err error) {
	c := &n.config
	if n.identity, err = identity.LoadOrCreate(c.StateDir); err != nil {
		return err
	}
	if n.api, err = c.listenAPI(); err != nil {
		return err
	}
	if n.peer, err = listen("peer", c.Peer); err != nil {
		return err
	}
	if n.mesh, err = n.buildMesh(); err != nil {
		return err
	}
	if n.ollama, err = backend.ParseHost(c.Ollama); err != nil {
		return err
	}
	if n.isOwnPort(n.ollama) {
		return backend.ErrLoop
	}
	n.backend, err = backend.New(backend.Config{
		Host: c.Ollama, Parallel: c.Parallel, MaxLoaded: c.MaxLoaded,
		Node: n.identity.ID(), RatesFile: filepath.Join(c.StateDir, "rates.json"),
		Logger: c.Logger,
	})
	if err != nil {
		return err
	}
	if n.registry, err = registry.New(n.bulk(), c.Logger); err != nil {
		return err
	}
	disk := &disk{dirs: n.stores()}
	n.voice = voice{
		mesh: n.mesh, disk: disk, cloud: c.Cloud, log: c.Logger,
		trouble: func() time.Duration { return n.router.Trouble() },
	}
	n.metrics = metrics.New(metrics.Config{
		View: n.mesh.View, Version: c.Version, Awareness: n.mesh.Awareness,
		Running: func() int { return n.router.Running() },
	})
	n.page = newPage(admin.EventsConfig{
		Mesh: n.mesh, Requests: n.requests, Cluster: c.Cluster, Endpoint: n.Endpoint(), Version: c.Version,
	})
	n.forward = n.link()
	n.router, err = router.New(router.Config{
		Metrics: n.metrics.Handler(), Done: n.metrics.Observe, Tracer: c.Tracer,
		Mesh: n.mesh, Backend: local{n.backend, n.voice}, Peers: n.forward, Pulse: n.pulse,
		Disk: n.backend, Await: n.mesh.Wait, Peering: n.peering(), Sizes: n.sizes(), Cloud: c.Cloud,
		Admin: n.page.around(admin.Handler(admin.Config{
			View: n.mesh.View, Cluster: c.Cluster, API: n.Endpoint(), Version: c.Version, Leave: n.Leave, Drain: n.DrainNode,
			Explain:  func(q router.Request) router.Explanation { return n.router.Explain(q) },
			Recorded: func(id string) (router.Record, router.Explanation, bool) { return n.router.Recorded(id) },
			Requests: n.requests,
			Trust:    n.mesh, Checkup: n.checkup,
		})),
		MaxBody: c.MaxBody, StreamIdle: c.StreamIdle, NoContinue: c.NoContinue, Policy: c.Policy, Version: c.Version, Logger: c.Logger,
	})
	if err != nil {
		return err
	}
	if n.guard, err = n.buildGuard(); err != nil {
		return err
	}
	n.buildServers()
	return nil
}

// requests is Router.Requests, for those who are made before the router.
func (n *Node) requests(since uint64) (running, ended []router.Record, ends uint64) {
	return n.router.Requests(since)
}

func (n *Node) buildMesh() (*mesh.Mesh, error) {
	c := &n.config
	m := mesh.DefaultConfig()
	m.Identity, m.Cluster, m.Log, m.Profile = n.identity, c.Cluster, c.Logger, c.Detection
	m.Expect = c.Expect
	m.Info.Hostname, m.Info.Version = c.Name, c.Version
	m.Info.PeerPort, m.Info.APIPort = port(n.peer), port(n.api)
	store := mesh.OpenKeys(filepath.Join(c.StateDir, mesh.KeyFile))
	settled, err := store.Settle(c.Key)
	if err != nil {
		return nil, err
	}
	switch {
	case settled.Stale:
		n.log.Warn("the mesh key given was rotated out; the stored one is used, change what gives the old one")
	case settled.Replaced:
		n.log.Warn("another mesh key was given; it replaces the stored one")
	}
	m.Keys, m.KeyStore, m.DeniedFile = settled.Keys, store, filepath.Join(c.StateDir, mesh.DeniedFile)
	if m.Bind, err = address(c.Gossip); err != nil {
		return nil, &PortError{What: "gossip", Addr: c.Gossip, Err: err}
	}
	if c.Advertise != "" {
		if m.Advertise, err = address(c.Advertise); err != nil {
			return nil, fmt.Errorf("node: advertise address: %w", err)
		}
	}
	made, err := mesh.New(m)
	if errors.Is(err, mesh.ErrPortInUse) {
		err = &PortError{What: "gossip", Addr: c.Gossip, Err: err}
	}
	return made, err
}

// address reads host:port or host; without a host it is every address, without
// a port port 0.
func address(text string) (netip.AddrPort, error) {
	if ip, err := netip.ParseAddr(text); err == nil {
		return netip.AddrPortFrom(ip, 0), nil
	}
	addr, err := net.ResolveTCPAddr("tcp", text)
	if err != nil {
		return netip.AddrPort{}, err
	}
	if addr.IP == nil {
		return netip.AddrPortFrom(netip.IPv6Unspecified(), uint16(addr.Port)), nil //nolint:gosec // a port
	}
	return addr.AddrPort(), nil
}

func port(l net.Listener) int { return l.Addr().(*net.TCPAddr).Port }

// Mesh is the node's membership.
func (n *Node) Mesh() *mesh.Mesh { return n.mesh }

// Backend is the node's local Ollama.
func (n *Node) Backend() *backend.Backend { return n.backend }

// Router is the node's request path.
func (n *Node) Router() *router.Router { return n.router }

// Name is what the node calls itself.
func (n *Node) Name() string { return n.config.Name }

// ID names the node.
func (n *Node) ID() mesh.NodeID { return n.identity.ID() }

// APIAddr is where clients reach the node; its host may be unspecified.
func (n *Node) APIAddr() netip.AddrPort { return n.api.Addr().(*net.TCPAddr).AddrPort() }

// LendAPI calls f with the descriptor of the client port, for somebody who keeps a
// copy of it open while the node starts anew. It is valid during the call only.
func (n *Node) LendAPI(f func(fd uintptr) error) error {
	l, ok := n.api.(syscall.Conn)
	if !ok {
		return errors.New("node: the client port has no descriptor")
	}
	raw, err := l.SyscallConn()
	if err != nil {
		return err
	}
	var ferr error
	if err := raw.Control(func(fd uintptr) { ferr = f(fd) }); err != nil {
		return err
	}
	return ferr
}

// Endpoint is the URL of the client port on this machine.
func (n *Node) Endpoint() string {
	addr := n.APIAddr()
	host := "127.0.0.1"
	if ip := addr.Addr().Unmap(); !ip.IsUnspecified() {
		host = ip.String()
	}
	return "http://" + net.JoinHostPort(host, fmt.Sprint(addr.Port()))
}

// Inventory detects the hardware anew and applies the overrides.
func (n *Node) Inventory(ctx context.Context) hardware.Inventory {
	return n.config.Detect(ctx).Apply(n.config.Overrides)
}

// Leave asks a running node to stop in order; it returns at once.
func (n *Node) Leave() { n.leaving.Do(func() { close(n.leave) }) }

// Kill stops a running node at once, without goodbye, as a crash would. For
// tests and demonstrations.
func (n *Node) Kill() { n.killing.Do(func() { close(n.kill) }) }

// Close gives back the ports of a node that never ran.
func (n *Node) Close() {
	for _, l := range []net.Listener{n.api, n.peer, n.config.Kept} { // closing twice is no harm
		if l != nil {
			_ = l.Close()
		}
	}
	if n.registry != nil {
		n.registry.Close()
	}
	if n.mesh != nil {
		n.mesh.Close()
	}
}

// Run runs the node until ctx ends or Leave is called, and then stops it in
// order: drain, finish or hand over, say goodbye. It returns when everything has ended; nil
// after a stop that was asked for.
func (n *Node) Run(ctx context.Context) error {
	if err := n.refuseLoop(ctx); err != nil {
		n.Close()
		return err
	}
	life, end := context.WithCancelCause(context.WithoutCancel(ctx))
	defer end(nil)
	group, gctx := errgroup.WithContext(life)
	group.Go(func() error { return n.mesh.Run(gctx) })
	group.Go(func() error {
		return n.backend.Run(gctx, n.voice, n.Inventory(gctx), n.config.Refresh)
	})
	group.Go(func() error { return n.registry.Run(gctx) })
	group.Go(func() error { return serving(n.clients.Serve(n.guard.Listener(lane.Sockets(n.api)))) })
	group.Go(func() error {
		return serving(n.peers.Serve(guard.Bounded(lane.Sockets(n.peer), maxPeerConns, maxPeerConnsPerAddr)))
	})
	group.Go(func() error { return n.page.history.Run(gctx) })
	group.Go(func() error {
		<-gctx.Done() // whatever ends the group ends the servers
		_ = n.clients.Close()
		_ = n.peers.Close()
		n.forward.close()
		return nil
	})
	select {
	case <-ctx.Done():
		n.farewell(life)
	case <-n.leave:
		n.farewell(life)
	case <-n.kill:
		end(errKilled)
	case <-gctx.Done():
	}
	end(nil)
	return group.Wait()
}

func serving(err error) error {
	if errors.Is(err, http.ErrServerClosed) || errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// OllamaHost is where the node looks for its Ollama.
func (n *Node) OllamaHost() string { return n.ollama.Host }
