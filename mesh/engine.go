package mesh

import (
	"errors"
	"fmt"
	"log"
	"maps"
	"net/netip"
	"reflect"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/memberlist"
	"github.com/hashicorp/serf/serf"
)

// engine is one run of Serf over the transport. Serf's events are only hints
// here (they are dropped when a consumer lags); whoever is woken reads the
// member list, which is the truth.
type engine struct {
	number uint64
	serf   *serf.Serf
	addr   netip.AddrPort // advertised
	gate   *gatekeeper
	wake   func() // something changed

	tags  chan map[string]string // newest tags to set, one slot
	infos map[NodeID]*readTags   // of the last look; owned by the loop
	wg    sync.WaitGroup

	announced atomic.Bool // that this node joins

	mu     sync.Mutex // serialises leave and close: memberlist panics on leave after shutdown
	closed bool
}

// startEngine creates Serf, which starts its goroutines at once. They end with
// close. Tags are the first ones; later ones go through setTags.
func (m *Mesh) startEngine(number uint64, advertise netip.AddrPort, tags map[string]string) (*engine, error) {
	e := &engine{
		number: number, addr: advertise, wake: m.wake, tags: make(chan map[string]string, 1), infos: make(map[NodeID]*readTags),
		gate: &gatekeeper{self: m.self, addr: advertise, limit: m.cfg.MaxMembers, claim: m.claimed, denied: m.denied.has},
	}
	events := make(chan serf.Event, 2048) // above Serf's own buffers: it must never block on us
	logger := newEngineLog(m.log)

	conf := serf.DefaultConfig()
	conf.NodeName = string(m.self)
	conf.Tags = maps.Clone(tags)
	conf.EventCh = events
	conf.Logger, conf.LogOutput = logger, nil
	conf.Merge = e.gate
	// Names are keys here: a conflict means a copied key, which is proved and
	// dealt with in conflict.go rather than put to the vote.
	conf.EnableNameConflictResolution = false
	conf.ReconnectInterval = m.cfg.Profile.ReconnectInterval
	conf.ReconnectTimeout = failedShown
	conf.TombstoneTimeout = failedShown
	// A piece of news is sent on within three gossip intervals; waiting longer
	// only holds up the end of an engine that nobody listens to.
	conf.BroadcastTimeout = 500 * time.Millisecond
	conf.LeavePropagateDelay = time.Second
	conf.MemberlistConfig = m.memberlistConfig(m.transport.newLink(advertise), logger)

	s, err := serf.Create(conf)
	if err != nil {
		_ = conf.MemberlistConfig.Transport.Shutdown()
		return nil, fmt.Errorf("mesh: start gossip: %w", err)
	}
	e.serf = s
	e.wg.Go(func() { e.drain(events) })
	e.wg.Go(e.setter)
	return e, nil
}

// label keeps two meshes on one LAN apart. It is in the clear, so it is a hash,
// and does not depend on the key, which may be rotated.
func label(cluster string) string { return "k" + Key{}.Tag(cluster) }

func (m *Mesh) memberlistConfig(l *link, logger *log.Logger) *memberlist.Config {
	p := m.cfg.Profile
	c := memberlist.DefaultLANConfig()
	c.Transport = l
	c.Label = label(m.cfg.Cluster)
	c.BindPort = int(l.advertise.Port()) // also the port of addresses that have none
	c.AdvertisePort = int(l.advertise.Port())
	c.Logger, c.LogOutput = logger, nil
	c.Keyring = m.keys.ring
	c.ProbeInterval, c.ProbeTimeout = p.ProbeInterval, p.ProbeTimeout
	c.SuspicionMult, c.SuspicionMaxTimeoutMult = p.SuspicionMult, p.SuspicionMaxTimeoutMult
	c.AwarenessMaxMultiplier = p.AwarenessMaxMultiplier
	c.IndirectChecks = p.IndirectChecks
	c.GossipInterval, c.GossipNodes = p.GossipInterval, p.GossipNodes
	c.GossipToTheDeadTime = 3 * p.PushPullInterval
	c.RetransmitMult = retransmitMult(p.Retransmits, max(m.cfg.Expect, len(m.View().Members())))
	c.PushPullInterval = p.PushPullInterval
	c.TCPTimeout = p.slow(5 * time.Second)
	// A tailnet's MTU is 1280: 1400, the default, would be cut in two there.
	c.UDPBufferSize = 1200
	// LZW of every datagram costs more CPU than a LAN's bytes are worth.
	c.EnableCompression = false
	// A node that restarts on another port or network has a new address; it is
	// believed as soon as the old one is dead. Ids prove themselves, so nobody
	// gains a node's traffic by claiming its place.
	c.DeadNodeReclaimTime = time.Millisecond
	return c
}

// drain turns Serf's events into one hint: look.
func (e *engine) drain(events <-chan serf.Event) {
	for {
		select {
		case <-events:
			e.wake()
		case <-e.serf.ShutdownCh():
			return
		}
	}
}

// setTags announces tags, later: only the newest are set.
func (e *engine) setTags(tags map[string]string) {
	for {
		select {
		case e.tags <- tags:
			return
		default:
		}
		select {
		case <-e.tags: // overtaken
		default:
		}
	}
}

// setter is the only caller of SetTags, which is not safe for two.
func (e *engine) setter() {
	for {
		select {
		case tags := <-e.tags:
			// It blocks until the news was sent on, or for BroadcastTimeout when
			// nobody takes it; the tags are set all the same.
			_ = e.serf.SetTags(maps.Clone(tags))
		case <-e.serf.ShutdownCh():
			return
		}
	}
}

// members appends the truth of now to out.
func (e *engine) members(out []sighting) []sighting {
	own, err := e.serf.GetCoordinate()
	if err != nil {
		own = nil
	}
	all := e.serf.Members()
	if len(e.infos) > len(all) {
		clear(e.infos) // some are gone
	}
	for i := range all {
		m := &all[i]
		id := NodeID(m.Name)
		addr, ok := netip.AddrFromSlice(m.Addr)
		if !id.Valid() || !ok {
			continue
		}
		g := sighting{ID: id, Addr: netip.AddrPortFrom(addr.Unmap(), m.Port), Info: e.info(id, m.Tags), Status: statusOf(m.Status)}
		if c, ok := e.serf.GetCachedCoordinate(m.Name); ok && own != nil && c.IsValid() && own.IsCompatibleWith(c) {
			g.RTT = own.DistanceTo(c)
		}
		out = append(out, g)
	}
	return out
}

// readTags is what some tags say. It holds them, so that no others can be in
// their place.
type readTags struct {
	tags map[string]string
	info Info
}

// info reads tags, unless they are the very ones that were read at the last look:
// Serf never writes to tags, it replaces them.
func (e *engine) info(id NodeID, tags map[string]string) Info {
	r := e.infos[id]
	if r == nil || reflect.ValueOf(r.tags).UnsafePointer() != reflect.ValueOf(tags).UnsafePointer() {
		r = &readTags{tags, infoOf(tags)}
		e.infos[id] = r
	}
	return r.info
}

// statusOf: whoever is leaving has left, as far as new work goes.
func statusOf(s serf.MemberStatus) Status {
	switch s {
	case serf.StatusAlive:
		return Alive
	case serf.StatusLeaving, serf.StatusLeft:
		return Left
	}
	return Failed
}

// join exchanges member lists with the node at addr. The first time it also
// announces that this node joins, so that nobody keeps an old goodbye of it. An
// announcement is news, which every member sends on a dozen times: once is enough.
func (e *engine) join(addr netip.AddrPort) error {
	join := func(addrs []string) (int, error) { return e.serf.Join(addrs, false) }
	if e.announced.Load() {
		join = e.serf.Memberlist().Join
	}
	_, err := join([]string{addr.String()})
	if err == nil {
		e.announced.Store(true)
		return nil
	}
	// The library wraps one error into a list of several lines.
	var list interface{ WrappedErrors() []error }
	if errors.As(err, &list) && len(list.WrappedErrors()) == 1 {
		return list.WrappedErrors()[0]
	}
	return err
}

// leave says goodbye; it takes about 1.1 s.
func (e *engine) leave() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return ErrNotRunning
	}
	return e.serf.Leave()
}

// close ends the engine without a word and waits for its end. It waits for a
// leave that is under way.
func (e *engine) close() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.closed {
		e.closed = true
		_ = e.serf.Shutdown()
	}
	e.wg.Wait()
}
