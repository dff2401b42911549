package discovery

import (
	"cmp"
	"slices"
	"time"
)

// table is what discovery knows of addresses: when each was last offered, when
// to look at it next, how often it failed. It holds no clock, no goroutine and
// no lock; the run loop owns it and passes the time in.
type table struct {
	cfg     *Config
	entries map[string]*entry // by Peer.Addr
	seq     uint64
	last    string // source picked last, so that the next pick takes another
	dirty   bool   // found() would answer differently than when last asked
}

// entry is one address.
type entry struct {
	peer     Peer
	seq      uint64    // order of the first offer: a peer's better addresses came earlier
	seen     time.Time // last offered, or last known to be a member
	next     time.Time // not looked at before
	failures int       // in a row
	busy     bool      // an attempt is under way
	heard    string    // node id that another source gives this address: for reports only
	answered bool      // its port answered: it counts as found
	member   bool      // its node was a member: it counts as found
	settling bool      // joined; the next look tells whether membership agrees
}

func newTable(cfg *Config) *table {
	return &table{cfg: cfg, entries: map[string]*entry{}}
}

// offer notes that a source speaks of p and reports whether it is kept. An
// address already here keeps its back-off: if a fresh offer could reset it,
// anyone who repeats himself on the local network could make us dial.
func (t *table) offer(p Peer, now time.Time) bool {
	if e := t.entries[p.Addr]; e != nil {
		e.seen = now
		t.merge(e, p)
		return true
	}
	if !t.room(p.Source) {
		return false
	}
	t.seq++
	t.entries[p.Addr] = &entry{peer: p, seq: t.seq, seen: now, next: now}
	t.dirty = true
	return true
}

// merge combines what two offers say of one address. Anybody on the local
// network can forge an mDNS answer that gives a seed's address the id of some
// alive member, and Known would then keep us from ever dialling the seed. So
// the id that decides comes from the source that owns the entry, a seed takes
// an entry over, and other ids only serve to count peers.
func (t *table) merge(e *entry, p Peer) {
	before, heard := e.peer, e.heard
	switch {
	case p.Source == SourceSeed && e.peer.Source != SourceSeed:
		e.heard = cmp.Or(e.peer.ID, e.heard)
		e.peer = p
	case p.Source == e.peer.Source:
		if p.ID != "" {
			e.peer = p
		}
	default:
		e.heard = cmp.Or(p.ID, e.heard)
	}
	t.dirty = t.dirty || e.peer != before || e.heard != heard
}

// room makes place for one more address of source, and reports whether there is
// any. The bound is per source, so a flood of forged mDNS answers pushes out
// nothing that seeds or the remembered file offer. Only an address that has
// never answered and has failed may go, the one with most failures first.
func (t *table) room(source string) bool {
	n := 0
	var victim *entry
	for _, e := range t.entries {
		if e.peer.Source != source {
			continue
		}
		n++
		if e.answered || e.member || e.busy || e.failures == 0 {
			continue
		}
		if victim == nil || e.failures > victim.failures || e.failures == victim.failures && e.seq < victim.seq {
			victim = e
		}
	}
	if n < t.cfg.MaxPeers {
		return true
	}
	if victim == nil {
		return false
	}
	delete(t.entries, victim.peer.Addr)
	t.dirty = true
	return true
}

// pick chooses the next address to look at, nil if none is due. Sources take
// turns, so none starves another; within a source the longest due goes first.
// A node id is tried at one address at a time.
func (t *table) pick(now time.Time) *entry {
	trying := map[string]bool{}
	for _, e := range t.entries {
		if e.busy && e.peer.ID != "" {
			trying[e.peer.ID] = true
		}
	}
	best := map[string]*entry{}
	for _, e := range t.entries {
		if e.busy || e.next.After(now) || trying[e.peer.ID] {
			continue
		}
		if b := best[e.peer.Source]; b == nil || cmp.Or(e.next.Compare(b.next), cmp.Compare(e.seq, b.seq)) < 0 {
			best[e.peer.Source] = e
		}
	}
	var first, after string
	for s := range best {
		if first == "" || s < first {
			first = s
		}
		if s > t.last && (after == "" || s < after) {
			after = s
		}
	}
	t.last = cmp.Or(after, first)
	return best[t.last]
}

// wait is how long until something may be due or expires; an address whose node is being
// tried elsewhere waits for that attempt and is not counted.
func (t *table) wait(now time.Time) time.Duration {
	d := t.cfg.Expiry
	for _, e := range t.entries {
		if e.busy {
			continue
		}
		d = min(d, e.seen.Add(t.cfg.Expiry).Sub(now))
		if e.next.After(now) {
			d = min(d, e.next.Sub(now))
		}
	}
	return d
}

// known notes that e is an alive member.
func (t *table) known(e *entry, now time.Time) {
	t.dirty = t.dirty || !e.member
	e.seen, e.next = now, now.Add(t.cfg.Recheck)
	e.failures, e.settling, e.member = 0, false, true
}

// joined notes that the mesh joined e. Whether that brought the node we meant
// shows after a moment.
func (t *table) joined(e *entry, now time.Time) {
	t.dirty = t.dirty || !e.answered
	e.busy, e.settling, e.answered = false, true, true
	e.next = now.Add(t.cfg.Settle)
}

// unsettled handles an address that joined and still is no member by
// [Config.Known]. With a node id something else answered there (this very
// node behind a bridge address that two hosts share, for one), which is a
// failure. Without an id, or anyone to ask, it is joined again now and then.
func (t *table) unsettled(e *entry, now time.Time, r float64) {
	e.settling = false
	if e.peer.ID != "" && t.cfg.Known != nil {
		t.failed(e, now, r)
		return
	}
	e.failures, e.next = 0, now.Add(spread(t.cfg.Rejoin, r))
}

// failed notes that e did not answer, or not as a member.
func (t *table) failed(e *entry, now time.Time, r float64) {
	e.busy = false
	e.failures++
	hi := t.cfg.BackoffMax
	if e.peer.Source == SourceTailnet {
		// Most machines of a tailnet run no node; do not knock at each
		// every two minutes for ever.
		hi *= 5
	}
	e.next = now.Add(backoff(e.failures, t.cfg.BackoffMin, hi, r))
}

// expire forgets the addresses that no source has offered for Config.Expiry.
func (t *table) expire(now time.Time) {
	for addr, e := range t.entries {
		if !e.busy && now.Sub(e.seen) >= t.cfg.Expiry {
			delete(t.entries, addr)
			t.dirty = true
		}
	}
}

// found lists the distinct peers, by source, then id, then address. What mDNS
// says counts at once, a peer said it; an address from elsewhere counts once
// it has answered.
func (t *table) found() []Peer {
	all := make([]*entry, 0, len(t.entries))
	for _, e := range t.entries {
		if e.answered || e.member || e.peer.Source == SourceMDNS {
			all = append(all, e)
		}
	}
	slices.SortFunc(all, func(a, b *entry) int {
		if a.answered != b.answered { // the address that works stands for the peer
			if a.answered {
				return -1
			}
			return 1
		}
		return cmp.Compare(a.seq, b.seq)
	})
	peers, seen := []Peer{}, map[string]bool{}
	for _, e := range all {
		p := e.peer
		p.ID = cmp.Or(p.ID, e.heard)
		if p.ID != "" && seen[p.ID] {
			continue
		}
		seen[p.ID] = true
		peers = append(peers, p)
	}
	slices.SortFunc(peers, func(a, b Peer) int {
		return cmp.Or(cmp.Compare(a.Source, b.Source), cmp.Compare(a.ID, b.ID), cmp.Compare(a.Addr, b.Addr))
	})
	return peers
}
