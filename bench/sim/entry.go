package sim

import (
	"encoding/base32"
	"encoding/binary"
	"slices"
	"strings"
	"time"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router"
)

// entry is an ingress: what one node knows of the others, and what it remembers
// of what it sent.
type entry struct {
	s      *Sim
	index  int // of its node; -1: a dispatcher of its own
	ledger *router.Ledger
	heard  []hearing // by node
	view   *mesh.View
	viewAt float64
	gen    uint64
}

// hearing is the newest that an entry has of a node.
type hearing struct {
	load   *mesh.Load
	at     float64
	next   int // number of the first report not looked at
	status mesh.Status
	since  float64
}

func (s *Sim) newEntry(i int) *entry {
	e := &entry{s: s, index: i, ledger: router.NewLedger(), heard: make([]hearing, len(s.nodes)), viewAt: -1}
	for k := range e.heard {
		e.heard[k].status = mesh.Alive
	}
	return e
}

func nodeID(i int) mesh.NodeID {
	var raw [16]byte
	binary.BigEndian.PutUint64(raw[8:], uint64(i)+1)
	raw[0] = 0x80
	return mesh.NodeID(strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(raw[:])))
}

// observe takes in a statement that came with a response.
func (e *entry) observe(n *node, l *mesh.Load) {
	if h := &e.heard[n.index]; l.Supersedes(h.load) {
		h.load, h.at = l, n.freshAt
		e.view = nil
	}
}

// listen takes in what has arrived of a node's reports: each takes 5 to 100 ms,
// and some never come.
func (e *entry) listen(n *node) {
	h := &e.heard[n.index]
	oldest := n.sent - len(n.reports)
	h.next = max(h.next, oldest)
	for ; h.next < n.sent; h.next++ {
		r := n.reports[h.next-oldest]
		luck := hash(uint64(e.index+2), uint64(n.index), uint64(h.next), e.s.Seed)
		at := r.at + 0.005 + 0.095*unit(luck)
		if at > e.s.now {
			return
		}
		if unit(luck*0x9e3779b97f4a7c15+1) >= e.s.Loss && r.load.Supersedes(h.load) {
			h.load, h.at = r.load, at
		}
	}
}

// heeded reports whether anybody may look at a report sent now, before the next
// has taken its place. Between requests nobody does, and most of a simulation
// would be spent on reports that nobody reads. It errs only when a machine dies.
func (s *Sim) heeded() bool {
	for s.soon < len(s.times) && s.times[s.soon] < s.now {
		s.soon++
	}
	next := 1.2*s.Gossip + 0.2 // with the longest pause and trip
	if s.Loss > 0 {
		next = 8 * s.Gossip
	}
	return s.Fleet.Turns > 0 || s.waiting > 0 || s.soon < len(s.times) && s.times[s.soon] < s.now+next
}

// look is the entry's View. It is made anew when it is older than the mesh's
// own pause between Views.
func (e *entry) look() *mesh.View {
	if e.view != nil && (e.s.now-e.viewAt < 0.1 && !e.s.Rule.Perfect || e.viewAt == e.s.now && !e.s.stirred()) {
		return e.view
	}
	members := make([]*mesh.Member, len(e.s.nodes))
	for i, n := range e.s.nodes {
		h := &e.heard[i]
		if e.s.Rule.Perfect || i == e.index {
			if n.up && (h.load == nil || n.dirty || e.s.now-n.freshAt > 1) {
				h.load, h.at = n.load(), e.s.now
			} else if n.up {
				h.load, h.at = n.fresh, n.freshAt
			}
		} else {
			e.listen(n)
		}
		m := &mesh.Member{
			ID: n.id, Name: string(n.id), Status: h.status, Since: moment(h.since), Self: i == e.index,
			Info: mesh.Info{Hostname: string(n.id), Ollama: "0.33.0"}, Card: n.kind.card, Load: h.load, RTT: 500 * time.Microsecond,
		}
		if h.load != nil {
			m.Heard = moment(h.at)
		}
		members[i] = m
	}
	e.gen++
	e.view, e.viewAt = mesh.NewView(e.gen, moment(e.s.now), members), e.s.now
	return e.view
}

// stirred reports whether anything happened at a node since its last report.
func (s *Sim) stirred() bool {
	return slices.ContainsFunc(s.nodes, func(n *node) bool { return n.dirty })
}

func (e *entry) snapshot(r *request) router.Snapshot {
	v := e.look()
	s := router.Snapshot{View: v, Now: moment(e.s.now), Seed: hash(uint64(r.number), e.s.Seed)}
	if !e.s.Rule.Perfect {
		s.Outstanding = e.ledger.Outstanding(v)
	}
	s.Trouble = e.ledger.Troubles(v, s.Now)
	return s
}

// hash mixes numbers (SplitMix64's finaliser).
func hash(words ...uint64) uint64 {
	x := uint64(0)
	for _, w := range words {
		x += w + 0x9e3779b97f4a7c15
		x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
		x = (x ^ x>>27) * 0x94d049bb133111eb
		x ^= x >> 31
	}
	return x
}

func unit(x uint64) float64 { return float64(x>>11) / (1 << 53) }
