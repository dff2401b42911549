package mesh

import (
	"context"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// How long the state remembers, and how patient it is.
const (
	// leftShown is how long a member that said goodbye stays in the View.
	leftShown = 10 * time.Minute
	// failedShown is how long a failed member stays: a laptop that comes back
	// the next day was never away. Serf forgets it after the same time.
	failedShown = 24 * time.Hour
	// lostGrace is how long a new gossip engine may take to hear of the members
	// that the engine before it knew.
	lostGrace = 10 * time.Second
	// quiet is the silence of a member's current process after which a report
	// of an earlier-looking process is believed: its clock went back.
	quiet = 5 * time.Second
)

// sighting is a member as the gossip engine sees it.
type sighting struct {
	ID     NodeID
	Addr   netip.AddrPort
	Status Status
	Info   Info
	RTT    time.Duration // 0 unknown
}

// state is what this node knows of the mesh: a plain value that [Mesh.Run]'s
// loop owns and feeds with events. It starts nothing, reads no clock and does
// no I/O. Every event method reports whether the View changed.
type state struct {
	self       NodeID
	members    map[NodeID]*record
	engine     uint64 // number of the gossip engine that last reported
	since      time.Time
	looks      uint64 // member lists taken so far
	generation uint64
	last       *View
	stale      bool      // more than loads and paths changed since: its roster does not hold
	touched    []*record // that changed since, while it does
	expires    time.Time // when the first member that it shows is to be shown no more; zero: none
	changes    []change  // since the last takeChanges
}

// record is what is kept about one member beside what the View shows.
type record struct {
	member  *Member // replaced on every change by state.put, never written to
	cancel  context.CancelCauseFunc
	at      int    // in the list of the last View; below 0 it was not shown
	touched bool   // is in state.touched
	engine  uint64 // the last gossip engine that listed it
	listed  uint64 // the number of the last list that it was in
	digest  string // of member.Card, as fetched
	fresh   bool   // came alive again: its next Load may be of any incarnation
	fetch   fetchState
}

// change is one line for the log.
type change struct {
	member *Member
	what   event
}

// event is what happened to a member.
type event string

const (
	joined    event = "joined"
	returned  event = "returned"
	restarted event = "restarted"
	lost      event = "failed"
	gone      event = "left"
)

func newState(self NodeID, m *Member) *state {
	return &state{self: self, members: map[NodeID]*record{self: {member: m, at: -1}}}
}

// sighted takes the gossip engine's whole member list. Members that it no
// longer lists are forgotten; after a restart of the engine (its number grew)
// they get lostGrace to be heard of before they count as failed.
func (s *state) sighted(now time.Time, engine uint64, list []sighting) bool {
	if engine != s.engine {
		s.engine, s.since = engine, now
	}
	s.looks++
	changed := false
	for i := range list {
		if g := &list[i]; g.ID == s.self {
			changed = s.sightedSelf(g) || changed
		} else {
			changed = s.sightedOther(now, engine, g) || changed
		}
	}
	for id, r := range s.members {
		if id == s.self || r.listed == s.looks {
			continue
		}
		switch {
		case r.engine == engine || now.Sub(r.member.Since) > failedShown:
			s.end(r, now, Failed) // so that its context ends
			delete(s.members, id)
			s.stale, changed = true, true
		case now.Sub(s.since) > lostGrace && r.member.Status == Alive:
			s.end(r, now, Failed)
			changed = true
		}
	}
	return changed
}

func (s *state) sightedSelf(g *sighting) bool {
	r := s.members[s.self]
	if r.member.Addr == g.Addr {
		return false
	}
	m := *r.member
	m.Addr = g.Addr
	s.put(r, &m)
	return true
}

func (s *state) sightedOther(now time.Time, engine uint64, g *sighting) bool {
	r := s.members[g.ID]
	if r == nil {
		r = &record{engine: engine, listed: s.looks, at: -1}
		s.members[g.ID] = r
		m := &Member{ID: g.ID, Addr: g.Addr, Info: g.Info, RTT: g.RTT, Since: now}
		if g.Status != Alive {
			// History from before our time: nothing to log, nothing to end.
			m.Status, m.ctx = g.Status, ended(causeOf(g.Status))
			s.put(r, m)
			return true
		}
		r.member = m
		s.begin(r, now, joined)
		return true
	}
	r.engine, r.listed = engine, s.looks
	changed := false
	if m := r.member; m.Addr != g.Addr || m.Info != g.Info || rttMoved(m.RTT, g.RTT) {
		if m.Info.Card != g.Info.Card {
			r.fetch = fetchState{busy: r.fetch.busy}
		}
		c := *m
		c.Addr, c.Info, c.RTT = g.Addr, g.Info, g.RTT
		s.put(r, &c)
		changed = true
	}
	switch was := r.member.Status; {
	case was == g.Status:
		return changed
	case g.Status == Alive:
		r.fresh = true
		r.fetch = fetchState{busy: r.fetch.busy}
		s.begin(r, now, returned)
	case was == Alive:
		s.end(r, now, g.Status)
	default: // failed became left, or the other way round
		c := *r.member
		c.Status, c.Since, c.ctx = g.Status, now, ended(causeOf(g.Status))
		s.put(r, &c)
	}
	return true
}

// heard takes a load report that its node has proved to be its own.
func (s *state) heard(now time.Time, l *Load) bool {
	r := s.members[l.Node]
	if r == nil || l.Node == s.self {
		return false
	}
	old := r.member.Load
	newProcess := old != nil && l.Incarnation != old.Incarnation
	switch {
	case l.Supersedes(old):
	case newProcess && (r.fresh || now.Sub(r.member.Heard) > quiet):
		// It looks older, but the one we know is gone: the node's clock was set
		// back while it restarted.
	default:
		return false
	}
	l = inherit(l, old)
	if newProcess && !r.fresh && r.member.Status == Alive {
		// It restarted faster than anybody noticed. What ran there is gone.
		r.cancel(ErrMemberFailed)
		s.begin(r, now, restarted)
	}
	r.fresh = false
	c := *r.member
	c.Load, c.Heard = l, now
	s.put(r, &c)
	return true
}

// inherit carries what was measured of models for which a report had no room
// over from the report before. Only measurements: that such a model is not in
// memory and not busy is what being left out means.
func inherit(l, old *Load) *Load {
	if l.Dropped == 0 || old == nil || old.Incarnation != l.Incarnation {
		return l
	}
	have := make(map[string]bool, len(l.Models))
	for i := range l.Models {
		have[l.Models[i].Key] = true
	}
	c := *l
	c.Models = slices.Clone(l.Models)
	for i := range old.Models {
		if len(c.Models) >= len(l.Models)+l.Dropped {
			break // more than the node has: those are models it removed
		}
		if m := &old.Models[i]; !have[m.Key] {
			c.Models = append(c.Models, ModelLoad{
				Key: m.Key, Decode: m.Decode, Prefill: m.Prefill, Slope: m.Slope,
				Cold: m.Cold, Output: m.Output, Samples: m.Samples, Partial: m.Partial,
			})
		}
	}
	return &c
}

// own takes what this node says of itself.
func (s *state) own(now time.Time, info Info, card *Card, l *Load) bool {
	r := s.members[s.self]
	m := *r.member
	m.Info, m.Card = info, card
	if l.Supersedes(m.Load) {
		m.Load, m.Heard = l, now
	}
	if m.Info == r.member.Info && m.Card == r.member.Card && m.Load == r.member.Load {
		return false
	}
	s.put(r, &m)
	return true
}

// put makes m the member that r is of now.
func (s *state) put(r *record, m *Member) {
	r.member = m
	switch {
	case r.at < 0 || !sameRoster(s.last.members[r.at], m):
		s.stale = true
	case !r.touched:
		r.touched = true
		s.touched = append(s.touched, r)
	}
}

// begin starts a lifetime of a member.
func (s *state) begin(r *record, now time.Time, what event) {
	c := *r.member
	c.Status, c.Since = Alive, now
	c.ctx, r.cancel = context.WithCancelCause(context.Background())
	s.put(r, &c)
	s.changes = append(s.changes, change{&c, what})
}

// end ends the lifetime of a member that was alive.
func (s *state) end(r *record, now time.Time, status Status) {
	if r.member.Status != Alive {
		return
	}
	c := *r.member
	c.Status, c.Since = status, now
	s.put(r, &c)
	r.cancel(causeOf(status))
	what := lost
	if status == Left {
		what = gone
	}
	s.changes = append(s.changes, change{&c, what})
}

// view builds the picture of now. Between most Views only loads have changed: then
// the last one's roster holds, and the list of members is a copy of the last one's
// with those that changed.
func (s *state) view(now time.Time) *View {
	s.generation++
	whole := s.last == nil || s.stale || s.expired(now)
	var members []*Member
	if !whole {
		members = slices.Clone(s.last.members)
	}
	for _, r := range s.touched {
		if r.touched = false; !whole {
			members[r.at] = r.member
		}
	}
	clear(s.touched)
	s.touched = s.touched[:0]
	if !whole {
		s.last = s.last.with(s.generation, now, members)
		return s.last
	}

	members = make([]*Member, 0, len(s.members))
	s.stale, s.expires = false, time.Time{}
	for _, r := range s.members {
		r.at = -1
		until := shownUntil(r.member)
		if !until.IsZero() && now.After(until) {
			continue
		}
		members = append(members, r.member)
		if s.expires.IsZero() || !until.IsZero() && until.Before(s.expires) {
			s.expires = until
		}
	}
	s.last = NewView(s.generation, now, members)
	// The records keep the members as the View named them, so that the next one
	// need not name them again.
	for i, m := range s.last.members {
		r := s.members[m.ID]
		r.member, r.at = m, i
	}
	return s.last
}

// expired reports whether the last View shows a member that has been gone for so
// long that it is not to be shown any more.
func (s *state) expired(now time.Time) bool { return !s.expires.IsZero() && now.After(s.expires) }

// shownUntil is when a member that is gone is to be shown no more; zero: it is here.
func shownUntil(m *Member) time.Time {
	switch m.Status {
	case Left:
		return m.Since.Add(leftShown)
	case Failed:
		return m.Since.Add(failedShown)
	}
	return time.Time{}
}

// takeChanges hands out the changes since the last call, in order of ids.
func (s *state) takeChanges() []change {
	out := s.changes
	s.changes = nil
	slices.SortStableFunc(out, func(a, b change) int { return strings.Compare(string(a.member.ID), string(b.member.ID)) })
	return out
}

func causeOf(status Status) error {
	if status == Left {
		return ErrMemberLeft
	}
	return ErrMemberFailed
}

// ended is a context that is over already.
func ended(cause error) context.Context {
	ctx, cancel := context.WithCancelCause(context.Background())
	cancel(cause)
	return ctx
}

// rttMoved hides the jitter of the estimate: a new View for every microsecond
// would help nobody.
func rttMoved(old, now time.Duration) bool {
	if (old == 0) != (now == 0) {
		return true
	}
	d := (old - now).Abs()
	return d > old/5 && d > 100*time.Microsecond
}
