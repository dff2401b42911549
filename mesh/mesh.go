package mesh

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh/identity"
)

// Mesh is this node's part of the mesh. All methods are safe for concurrent
// use.
type Mesh struct {
	// read-only after New
	cfg         Config
	log         *slog.Logger
	self        NodeID
	incarnation uint64
	keys        *keyring
	denied      *denials
	rotating    sync.Mutex // one rotation at a time
	transport   *transport
	beacons     *beacons
	echoes      *echoes
	hello       hello
	peers       *http.Transport
	refused     *limiter // log lines about strangers
	board       *board
	own         own
	locals      func() []local // this machine's addresses
	moveEvery   time.Duration  // between two looks at them

	// to the loop
	inbox       chan func(*state, time.Time) bool
	hint        chan struct{} // the engine has news
	ownChanged  chan struct{}
	loadChanged chan struct{} // to the beacon
	datagrams   chan datagram // that take time to check
	reports     reports
	claims      chan claim
	unsettled   chan struct{}

	started atomic.Bool
	left    atomic.Bool
	engine  atomic.Pointer[engine]
	ready   chan struct{} // closed when the first engine is up
	done    chan struct{} // closed when Run has ended

	state *state // owned by the loop
}

type datagram struct {
	b    []byte
	from netip.AddrPort
}

// New checks the configuration and binds the gossip port. It starts nothing:
// call Run, or Close to give the port back.
func New(cfg Config) (*Mesh, error) {
	cfg, err := cfg.checked()
	if err != nil {
		return nil, err
	}
	keys, err := newKeyring(cfg.Cluster, cfg.Keys, cfg.KeyStore)
	if err != nil {
		return nil, err
	}
	denied, err := loadDenials(cfg.DeniedFile)
	if err != nil {
		return nil, err
	}
	log := cfg.Log.With("component", "mesh")
	t, err := newTransport(cfg.Bind, label(cfg.Cluster), keys.ring != nil, log)
	if err != nil {
		return nil, err
	}
	m := &Mesh{
		cfg: cfg, log: log,
		self:        cfg.Identity.ID(),
		incarnation: uint64(time.Now().UnixNano()),
		keys:        keys,
		denied:      denied,
		transport:   t,
		hello:       newHello(cfg.Cluster, cfg.Keys),
		refused:     newLimiter(time.Minute),
		locals:      locals,
		moveEvery:   5 * time.Second,
		inbox:       make(chan func(*state, time.Time) bool, 1024),
		hint:        make(chan struct{}, 1),
		ownChanged:  make(chan struct{}, 1),
		loadChanged: make(chan struct{}, 1),
		datagrams:   make(chan datagram, 1024),
		reports:     reports{ready: make(chan struct{}, 1)},
		claims:      make(chan claim, 1),
		unsettled:   make(chan struct{}, 1),
		ready:       make(chan struct{}),
		done:        make(chan struct{}),
	}
	m.beacons = newBeacons(cfg.Identity, cfg.Cluster, newSealer(keys.ring, "kage-mesh beacon v1 "+Key{}.Tag(cfg.Cluster)))
	m.peers = cfg.Identity.Transport(m.resolve, identity.TransportOptions{})
	m.echoes = newEchoes(t.send)
	t.datagram = m.receiveDatagram
	t.stream = m.receiveStream

	m.own.base = cfg.Info
	m.own.stamp(m.self, m.incarnation, Load{})
	info, _, load := m.own.facts()
	now := time.Now()
	m.state = newState(m.self, &Member{
		ID: m.self, Self: true, Status: Alive, Since: now, Addr: m.chooseAddr(), Info: info, Load: load, Heard: now,
	})
	m.board = newBoard(m.state.view(now))
	return m, nil
}

// Close gives the port back when Run was never called; otherwise it does
// nothing, Run does that itself.
func (m *Mesh) Close() {
	if m.started.CompareAndSwap(false, true) {
		m.transport.close()
		close(m.done)
	}
}

// ID is this node.
func (m *Mesh) ID() NodeID { return m.self }

// Addr is the gossip address that others reach this node at.
func (m *Mesh) Addr() netip.AddrPort { return m.View().Self().Addr }

// Bound is the address that the gossip port is bound to; its host may be
// unspecified.
func (m *Mesh) Bound() netip.AddrPort { return m.transport.bound() }

// Tag is what this node may show in the open so that others of its mesh find
// it, see [Key.Tag].
func (m *Mesh) Tag() string { return m.keys.tags()[0] }

// Keyed reports whether the mesh has a key.
func (m *Mesh) Keyed() bool { return m.keys.on() }

// Addrs are the gossip addresses of the other members that are alive, to be
// remembered for the next start.
func (m *Mesh) Addrs() []netip.AddrPort {
	list := targets(m.View())
	out := make([]netip.AddrPort, len(list))
	for i, t := range list {
		out[i] = t.addr
	}
	return out
}

// Allow reports whether a node may use the peer listener: members may, and this
// node itself. It is meant for [identity.Identity.ServerTLS].
func (m *Mesh) Allow(id NodeID) bool {
	member, ok := m.View().Member(id)
	return ok && member.Status != Left && !m.denied.has(id)
}

// PeerTransport makes requests to members: https://<id>/path, pinned to the id.
func (m *Mesh) PeerTransport() http.RoundTripper { return m.peers }

// PeerDialer connects to members' peer listeners, pinned to their ids, and
// offers protocols (ALPN).
func (m *Mesh) PeerDialer(opts identity.TransportOptions, protocols ...string) func(context.Context, NodeID) (net.Conn, error) {
	return m.cfg.Identity.Dialer(m.resolve, opts, protocols...)
}

// resolve gives the address of a member's peer listener.
func (m *Mesh) resolve(id NodeID) (netip.AddrPort, error) {
	member, ok := m.View().Member(id)
	if !ok || member.Status == Left || m.denied.has(id) {
		return netip.AddrPort{}, ErrNoMember
	}
	if member.Info.PeerPort == 0 {
		return netip.AddrPort{}, fmt.Errorf("mesh: %s has not said its peer port", member.Name)
	}
	return member.Peer(), nil
}

// Leave says goodbye, so that the others know at once and do not take it for a
// crash. It takes about a second; Run goes on until its context ends, but this
// node is no member any more. Finish your work first: drain, then leave.
func (m *Mesh) Leave(ctx context.Context) error {
	e, err := m.running(ctx)
	if err != nil {
		return err
	}
	m.left.Store(true)
	done := make(chan error, 1)
	go func() { done <- e.leave() }() // Run waits for it: engine.close does
	select {
	case err := <-done:
		if err != nil {
			return fmt.Errorf("mesh: leave: %w", err)
		}
		m.log.Info("left the mesh")
		return nil
	case <-ctx.Done():
		return fmt.Errorf("mesh: leave: %w", context.Cause(ctx))
	}
}

// Awareness is how far this node is from keeping up with gossip (Lifeguard's
// local health): 0 is well, and each step makes it slower to suspect others. It
// grows when this node is starved or its network loses packets.
func (m *Mesh) Awareness() int {
	e := m.engine.Load()
	if e == nil {
		return 0
	}
	return e.serf.Memberlist().GetHealthScore()
}

// running waits until there is an engine.
func (m *Mesh) running(ctx context.Context) (*engine, error) {
	select {
	case <-m.ready:
	case <-m.done:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	select {
	case <-m.done:
		return nil, ErrNotRunning
	default:
	}
	if m.left.Load() {
		return nil, ErrLeft
	}
	e := m.engine.Load()
	if e == nil {
		return nil, ErrNotRunning
	}
	return e, nil
}

func (m *Mesh) wake() { poke(m.hint) }

// chooseAddr is the address to advertise now.
func (m *Mesh) chooseAddr() netip.AddrPort {
	bound := m.transport.bound()
	addr, port := m.cfg.Advertise.Addr(), m.cfg.Advertise.Port()
	if port == 0 {
		port = bound.Port()
	}
	if !addr.IsValid() {
		addr = bound.Addr()
	}
	if addr.IsUnspecified() {
		if addr = advertised(m.locals()); !addr.IsValid() {
			addr = netip.AddrFrom4([4]byte{127, 0, 0, 1})
		}
	}
	return netip.AddrPortFrom(addr.Unmap(), port)
}

// movable reports whether the machine's addresses decide what is advertised.
func (m *Mesh) movable() bool {
	return !m.cfg.Advertise.Addr().IsValid() && m.transport.bound().Addr().IsUnspecified()
}
