package mesh

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"github.com/hashicorp/serf/serf"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh/identity"
)

// A claim is a record of this node's id at another address. Usually it is our
// own, from before a restart or a move, and goes away when the others notice
// that nobody answers there. It may also be a second machine with a copy of our
// state directory; such a mesh would send work to either. Gossip proves
// nothing, so we go there and look: only the holder of our key passes the
// handshake.
type claim struct {
	gossip netip.AddrPort
	peer   netip.AddrPort
}

// claimed is called by the engine under its locks: it must not block.
func (m *Mesh) claimed(other serf.Member) {
	addr, ok := netip.AddrFromSlice(other.Addr)
	if !ok {
		return
	}
	addr = addr.Unmap()
	c := claim{
		gossip: netip.AddrPortFrom(addr, other.Port),
		peer:   netip.AddrPortFrom(addr, uint16(infoOf(other.Tags).PeerPort)), //nolint:gosec // at most 65535, as read from tags
	}
	select {
	case m.claims <- c:
	default: // one is being looked into
	}
}

// claimPause is the least time between two looks; a stale record is gone after
// the failure detection's few seconds.
const claimPause = 2 * time.Second

// watchClaims looks into claims until ctx ends, or until one proves that an
// older process has our key.
func (m *Mesh) watchClaims(ctx context.Context) error {
	for {
		var c claim
		select {
		case <-ctx.Done():
			return nil
		case c = <-m.claims:
		}
		switch start, err := m.visit(ctx, c); {
		case err != nil, start == m.incarnation:
			// Nobody is there, or it is us by another way.
			poke(m.unsettled)
			pause(ctx, claimPause)
		case start < m.incarnation:
			return fmt.Errorf("%w: %s at %s", ErrIdentityConflict, m.self, c.gossip)
		default:
			m.log.Error("a copy of this node's key runs elsewhere; each machine needs its own state directory",
				"node", m.self, "addr", c.gossip)
			pause(ctx, time.Minute)
		}
	}
}

// settle tells the others again where this node is, twice within some seconds
// after it joined, moved, or heard of an old record of itself. Whoever still
// has that record alive or under suspicion ignores the new address at first
// (and does not say so in the latter case), and takes it when the record is
// dead; the periodic exchange would get there too, in 10 to 20 s.
func (m *Mesh) settle(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-m.unsettled:
		}
		for range 2 {
			pause(ctx, m.cfg.Profile.slow(claimPause))
			if ctx.Err() != nil || m.left.Load() {
				return
			}
			m.rejoin(m.Addrs())
		}
	}
}

// visit asks the claimant, who must hold our key, when its process started.
func (m *Mesh) visit(ctx context.Context, c claim) (uint64, error) {
	rt := m.cfg.Identity.Transport(
		func(NodeID) (netip.AddrPort, error) { return c.peer, nil },
		identity.TransportOptions{DialTimeout: claimPause},
	)
	defer rt.CloseIdleConnections()
	l, err := fetchLoad(ctx, rt, m.self)
	if err != nil {
		return 0, err
	}
	return l.Incarnation, nil
}
