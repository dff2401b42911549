package meshtest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh/identity"
)

// Patience is how long helpers wait for what should happen within a few
// seconds. It is a bound against hanging, not a promise.
const Patience = 60 * time.Second

// Main runs the tests of a package and returns the exit code, which is not 0
// either when goroutines are left:
//
//	func TestMain(m *testing.M) { os.Exit(meshtest.Main(m)) }
//
// Unlike goleak.VerifyTestMain it waits some seconds for them: a probe of the
// gossip library ends up to a second after its engine, by its own time limit.
func Main(m *testing.M) int {
	code := m.Run()
	if code != 0 {
		return code
	}
	deadline := time.Now().Add(5 * time.Second)
	for {
		err := goleak.Find()
		if err == nil {
			return 0
		}
		if time.Now().After(deadline) {
			fmt.Fprintln(os.Stderr, "meshtest:", err)
			return 1
		}
	}
}

// Node is a running node of a test.
type Node struct {
	*mesh.Mesh
	Identity *identity.Identity
	Dir      string         // state directory; a Restart keeps it
	Peer     netip.AddrPort // peer listener

	t      testing.TB
	config func(*mesh.Config)
	extra  http.Handler
	gossip netip.AddrPort

	mu     sync.Mutex
	cancel context.CancelFunc
	server *http.Server
	err    error         // of Run
	done   chan struct{} // closed when Run and the listener have ended
}

type options struct {
	config  func(i int, c *mesh.Config)
	handler func(i int) http.Handler
	apart   bool
}

// Option changes what [Start] makes.
type Option func(*options)

// WithConfig changes the configuration of node i before it starts.
func WithConfig(f func(i int, c *mesh.Config)) Option { return func(o *options) { o.config = f } }

// WithHandler serves f(i) on node i's peer port, beside the mesh's own routes
// under /mesh/v1/card and /mesh/v1/load.
func WithHandler(f func(i int) http.Handler) Option { return func(o *options) { o.handler = f } }

// Apart leaves the nodes unjoined.
func Apart() Option { return func(o *options) { o.apart = true } }

// Start runs n nodes and, unless [Apart], joins them and waits until each sees
// all others alive.
func Start(t testing.TB, n int, opts ...Option) []*Node {
	t.Helper()
	o := options{config: func(int, *mesh.Config) {}, handler: func(int) http.Handler { return nil }}
	for _, opt := range opts {
		opt(&o)
	}
	nodes := make([]*Node, n)
	for i := range nodes {
		nodes[i] = &Node{
			t: t, Dir: t.TempDir(), extra: o.handler(i),
			config: func(c *mesh.Config) { o.config(i, c) },
			gossip: netip.MustParseAddrPort("127.0.0.1:0"),
			Peer:   netip.MustParseAddrPort("127.0.0.1:0"),
		}
		nodes[i].start()
		t.Cleanup(nodes[i].Kill)
	}
	if o.apart || n == 0 {
		return nodes
	}
	for _, node := range nodes[1:] {
		node.MustJoin(nodes[0])
	}
	WaitAll(t, nodes)
	return nodes
}

// start runs the node on the addresses it had, or on free ones.
func (n *Node) start() {
	n.t.Helper()
	id, err := identity.LoadOrCreate(n.Dir)
	if err != nil {
		n.t.Fatal(err)
	}
	ln := n.listen(n.Peer)
	n.Identity, n.Peer = id, netip.MustParseAddrPort(ln.Addr().String())

	cfg := mesh.DefaultConfig()
	cfg.Identity, cfg.Bind = id, n.gossip
	cfg.Info.PeerPort = int(n.Peer.Port())
	cfg.Log = slog.New(slog.DiscardHandler)
	n.config(&cfg)
	m, err := mesh.New(cfg)
	if err != nil {
		_ = ln.Close()
		n.t.Fatal(err)
	}
	n.Mesh, n.gossip = m, m.Addr()

	mux := http.NewServeMux()
	mux.Handle("/mesh/v1/card", m.Handler())
	for _, path := range []string{"load", "keys", "denied"} {
		mux.Handle("/mesh/v1/"+path, m.Handler())
	}
	if n.extra != nil {
		mux.Handle("/", n.extra)
	}
	srv := &http.Server{Handler: mux, ErrorLog: log.New(io.Discard, "", 0)}
	identity.ConfigureServer(srv)
	srv.TLSConfig = id.ServerTLS(m.Allow)
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := srv.ServeTLS(ln, "", ""); !errors.Is(err, http.ErrServerClosed) {
			n.t.Errorf("meshtest: peer listener: %v", err)
		}
	})
	done := make(chan struct{})
	wg.Go(func() {
		err := m.Run(ctx)
		n.mu.Lock()
		n.err = err
		n.mu.Unlock()
	})
	go func() { wg.Wait(); close(done) }()
	n.mu.Lock()
	n.cancel, n.server, n.done = cancel, srv, done
	n.mu.Unlock()
}

// listen opens the peer port; after a restart the old one may need a moment.
func (n *Node) listen(addr netip.AddrPort) net.Listener {
	n.t.Helper()
	ln, err := net.Listen("tcp", addr.String())
	if err != nil {
		n.t.Fatal(err)
	}
	return ln
}

// Kill ends the node as a crash does: every socket closes, nobody is told. It
// can be called again.
func (n *Node) Kill() {
	n.mu.Lock()
	cancel, srv, done := n.cancel, n.server, n.done
	n.mu.Unlock()
	cancel()
	_ = srv.Close()
	select {
	case <-done:
	case <-time.After(Patience):
		n.t.Error("meshtest: a node did not end")
	}
}

// Err is what Run returned; wait for [Node.Done] before.
func (n *Node) Err() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.err
}

// Restart runs a killed node again: same state directory, same ports, a new
// process as far as others can tell. It joins nobody.
func (n *Node) Restart() {
	n.t.Helper()
	n.Kill()
	n.start()
}

// Move is Restart on other ports.
func (n *Node) Move() {
	n.t.Helper()
	n.Kill()
	n.gossip = netip.AddrPortFrom(n.gossip.Addr(), 0)
	n.Peer = netip.AddrPortFrom(n.Peer.Addr(), 0)
	n.start()
}

// MustJoin joins the mesh of others.
func (n *Node) MustJoin(others ...*Node) {
	n.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	for _, o := range others {
		if _, err := n.Join(ctx, o.Addr().String()); err != nil {
			n.t.Fatalf("meshtest: %v", err)
		}
	}
}

// Await returns the first View for which ok is true, or ends the test.
func (n *Node) Await(what string, ok func(*mesh.View) bool) *mesh.View {
	n.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	v, err := n.Wait(ctx, ok)
	if err != nil {
		n.t.Fatalf("meshtest: %s did not happen within %v; members: %s", what, Patience, Describe(v))
	}
	return v
}

// WaitAll waits until each of nodes sees all of them alive, and nobody else.
func WaitAll(t testing.TB, nodes []*Node) {
	t.Helper()
	for _, n := range nodes {
		n.Await("all members alive", func(v *mesh.View) bool { return AliveCount(v) == len(nodes) })
	}
}

// AliveCount is the number of members of v that are alive, with the node itself.
func AliveCount(v *mesh.View) int {
	alive := 0
	for _, m := range v.Members() {
		if m.Status == mesh.Alive {
			alive++
		}
	}
	return alive
}

// StatusOf is the status of id in v; "" when v does not know it.
func StatusOf(v *mesh.View, id mesh.NodeID) mesh.Status {
	if m, ok := v.Member(id); ok {
		return m.Status
	}
	return ""
}

// Describe lists the members of v in one line.
func Describe(v *mesh.View) string {
	var s []string
	for _, m := range v.Members() {
		s = append(s, m.ID.Short()+"="+string(m.Status)+"@"+m.Addr.String())
	}
	return strings.Join(s, " ")
}
