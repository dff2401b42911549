package mesh

import (
	"errors"
	"net/netip"
	"sync"

	"github.com/hashicorp/serf/serf"
)

// gatekeeper decides which members the engine may learn of. Serf asks it for
// every alive message and for the whole list at a join.
type gatekeeper struct {
	self  NodeID
	addr  netip.AddrPort
	limit int
	claim func(serf.Member) // somebody else claims to be us

	denied func(NodeID) bool

	mu    sync.Mutex
	known map[NodeID]struct{}
}

var (
	errNodeName = errors.New("its name is no node id")
	errNodeAddr = errors.New("its address is none")
	errCrowd    = errors.New("the mesh is full")
	errDenied   = errors.New("it was evicted")
	errNotUs    = errors.New("it has this node's name and another address")
)

// NotifyMerge implements serf.MergeDelegate. An error refuses the member; for
// a list, each is asked for again on its own.
func (g *gatekeeper) NotifyMerge(members []*serf.Member) error {
	if len(members) != 1 {
		return nil
	}
	return g.check(members[0])
}

func (g *gatekeeper) check(m *serf.Member) error {
	id := NodeID(m.Name)
	if !id.Valid() {
		return errNodeName
	}
	addr, ok := netip.AddrFromSlice(m.Addr)
	addr = addr.Unmap()
	if !ok || addr.IsUnspecified() || addr.IsMulticast() || m.Port == 0 {
		return errNodeAddr
	}
	if g.denied != nil && g.denied(id) {
		return errDenied
	}
	if id == g.self {
		if netip.AddrPortFrom(addr, m.Port) == g.addr {
			return nil
		}
		g.claim(*m)
		return errNotUs
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if _, ok := g.known[id]; ok {
		return nil
	}
	if len(g.known) >= g.limit {
		return errCrowd
	}
	if g.known == nil {
		g.known = make(map[NodeID]struct{})
	}
	g.known[id] = struct{}{}
	return nil
}

// forget makes room for new members: list are the ones the engine knows now. All of
// them came in here, so that as many are the same.
func (g *gatekeeper) forget(list []sighting) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.known) == len(list) {
		return
	}
	clear(g.known)
	if g.known == nil {
		g.known = make(map[NodeID]struct{}, len(list))
	}
	for _, m := range list {
		g.known[m.ID] = struct{}{}
	}
}
