package mesh

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"
)

var epoch = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)

// idOf makes a valid id that begins with name.
func idOf(name string) NodeID {
	return NodeID((strings.ToLower(name) + strings.Repeat("a", 26))[:26])
}

func seen(name string, status Status) sighting {
	return sighting{
		ID: idOf(name), Addr: netip.MustParseAddrPort("192.0.2.1:11437"), Status: status,
		Info: Info{Hostname: name, PeerPort: 11436},
	}
}

func with(g sighting, f func(*sighting)) sighting { f(&g); return g }

func report(name string, incarnation, seq uint64) *Load {
	return &Load{Node: idOf(name), Incarnation: incarnation, Seq: seq, Up: true}
}

// script feeds a state and keeps the contexts it has handed out.
type script struct {
	*state
	t     *testing.T
	now   time.Time
	lives map[string]context.Context
}

func newScript(t *testing.T) *script {
	self := idOf("self")
	return &script{
		t: t, now: epoch, lives: map[string]context.Context{},
		state: newState(self, &Member{ID: self, Self: true, Status: Alive, Since: epoch}),
	}
}

func (s *script) after(d time.Duration) *script { s.now = s.now.Add(d); return s }

func (s *script) see(engine uint64, list ...sighting) bool {
	return s.sighted(s.now, engine, append([]sighting{{ID: s.self, Status: Alive}}, list...))
}

func (s *script) get(name string) *Member {
	s.t.Helper()
	m, ok := s.view(s.now).Member(idOf(name))
	if !ok {
		return nil
	}
	return m
}

// hold remembers the present lifetime of a member under a label.
func (s *script) hold(label, name string) { s.lives[label] = s.get(name).Context() }

func (s *script) want(what string, got, want any) {
	s.t.Helper()
	if fmt.Sprint(got) != fmt.Sprint(want) {
		s.t.Errorf("at %v: %s is %v, want %v", s.now.Sub(epoch), what, got, want)
	}
}

func (s *script) wantEnded(label string, cause error) {
	s.t.Helper()
	if got := context.Cause(s.lives[label]); !errors.Is(got, cause) || (got == nil) != (cause == nil) {
		s.t.Errorf("at %v: lifetime %q ended with %v, want %v", s.now.Sub(epoch), label, got, cause)
	}
}

func (s *script) log() string {
	var out []string
	for _, c := range s.takeChanges() {
		out = append(out, c.member.Info.Hostname+" "+string(c.what))
	}
	return strings.Join(out, ", ")
}

func TestStateFollowsMembership(t *testing.T) {
	s := newScript(t)
	s.want("change", s.see(1, seen("a", Alive), seen("b", Alive)), true)
	s.want("log", s.log(), "a joined, b joined")
	s.want("the same again", s.see(1, seen("a", Alive), seen("b", Alive)), false)
	s.hold("a first", "a")
	s.hold("b first", "b")

	s.after(time.Minute).see(1, seen("a", Failed), seen("b", Left))
	s.want("log", s.log(), "a failed, b left")
	s.wantEnded("a first", ErrMemberFailed)
	s.wantEnded("b first", ErrMemberLeft)
	s.want("a", s.get("a").Status, Failed)
	s.want("since", s.get("a").Since, s.now)
	s.wantEnded("a first", ErrMemberFailed)
	s.hold("a dead", "a")
	s.wantEnded("a dead", ErrMemberFailed) // who asks late is told at once

	s.after(time.Minute).see(1, seen("a", Alive), seen("b", Alive))
	s.want("log", s.log(), "a returned, b returned")
	s.hold("a second", "a")
	s.wantEnded("a second", nil)
	s.wantEnded("a first", ErrMemberFailed)

	s.after(time.Second).see(1, seen("b", Alive))
	s.want("a", s.get("a"), (*Member)(nil)) // the engine forgot it
	s.wantEnded("a second", ErrMemberFailed)
}

func TestStateLearnsOfTheDeadWithoutAWord(t *testing.T) {
	s := newScript(t)
	s.see(1, seen("a", Failed), seen("b", Left))
	s.want("log", s.log(), "")
	s.hold("a", "a")
	s.hold("b", "b")
	s.wantEnded("a", ErrMemberFailed)
	s.wantEnded("b", ErrMemberLeft)
	// Failed, and then removed by an operator.
	s.after(time.Second).see(1, seen("a", Left), seen("b", Left))
	s.want("a", s.get("a").Status, Left)
}

func TestStateExpiry(t *testing.T) {
	tests := []struct {
		status Status
		after  time.Duration
		shown  bool
	}{
		{Left, 9 * time.Minute, true},
		{Left, 11 * time.Minute, false},
		{Failed, 23 * time.Hour, true},
		{Failed, 25 * time.Hour, false},
		{Alive, 1000 * time.Hour, true},
	}
	for _, tt := range tests {
		t.Run(fmt.Sprintf("%s %v", tt.status, tt.after), func(t *testing.T) {
			s := newScript(t)
			s.see(1, seen("a", Alive))
			s.see(1, seen("a", tt.status))
			s.after(tt.after)
			s.want("shown", s.get("a") != nil, tt.shown)
			s.want("number shown", len(s.view(s.now).Members()) == 2, tt.shown)
			// The engine still lists it: it is not taken for a new member.
			s.see(1, seen("a", tt.status))
			s.want("shown after another look", s.get("a") != nil, tt.shown)
			// And when it comes back it is there again.
			s.see(1, seen("a", Alive))
			s.want("back", s.get("a").Status, Alive)
		})
	}
}

// When the machine moves to another network the engine starts anew and knows
// nobody. That is no failure of the others.
func TestStateKeepsMembersOverANewEngine(t *testing.T) {
	s := newScript(t)
	s.see(1, seen("a", Alive), seen("b", Alive))
	s.hold("a", "a")
	s.hold("b", "b")
	s.after(time.Second).see(2)
	s.want("a", s.get("a").Status, Alive)
	s.after(lostGrace/2).see(2, seen("a", Alive))
	s.wantEnded("a", nil)
	s.wantEnded("b", nil)
	s.after(lostGrace).see(2, seen("a", Alive))
	s.wantEnded("a", nil)
	s.wantEnded("b", ErrMemberFailed)
	s.want("b", s.get("b").Status, Failed)
	s.after(25*time.Hour).see(2, seen("a", Alive))
	s.want("members held", len(s.members), 2)
}

func TestStateMergesLoads(t *testing.T) {
	s := newScript(t)
	s.want("load of a stranger", s.heard(s.now, report("a", 1, 1)), false)
	s.see(1, seen("a", Alive))
	s.want("first", s.heard(s.now, report("a", 100, 5)), true)
	s.want("heard", s.get("a").Heard, s.now)
	s.after(time.Second)
	s.want("duplicate", s.heard(s.now, report("a", 100, 5)), false)
	s.want("older", s.heard(s.now, report("a", 100, 4)), false)
	s.want("heard still", s.get("a").Heard, epoch)
	s.want("newer", s.heard(s.now, report("a", 100, 6)), true)
	s.want("own by gossip", s.heard(s.now, report("self", 1, 99)), false)
}

func TestStateNoticesANewProcess(t *testing.T) {
	s := newScript(t)
	s.see(1, seen("a", Alive))
	s.heard(s.now, report("a", 100, 5))
	s.hold("old process", "a")
	s.log()
	s.after(time.Second)
	s.want("new process", s.heard(s.now, report("a", 200, 1)), true)
	s.wantEnded("old process", ErrMemberFailed)
	s.want("log", s.log(), "a restarted")
	s.hold("new process", "a")
	s.wantEnded("new process", nil)
	s.want("the old one again", s.heard(s.now, report("a", 100, 6)), false)

	// Seen to fail and to return: its lifetime is new already.
	s.see(1, seen("a", Failed))
	s.see(1, seen("a", Alive))
	s.hold("third", "a")
	s.log()
	s.want("first report of the third", s.heard(s.now, report("a", 300, 1)), true)
	s.wantEnded("third", nil)
	s.want("log", s.log(), "")
}

// A board without a battery starts in 1970: its reports look older for ever.
func TestStateSurvivesAClockSetBack(t *testing.T) {
	s := newScript(t)
	s.see(1, seen("a", Alive))
	s.heard(s.now, report("a", 1000, 500))
	s.hold("old", "a")
	s.after(time.Second)
	s.want("at once", s.heard(s.now, report("a", 7, 1)), false)
	s.after(quiet)
	s.want("after silence", s.heard(s.now, report("a", 7, 2)), true)
	s.wantEnded("old", ErrMemberFailed)

	s.see(1, seen("a", Failed))
	s.see(1, seen("a", Alive))
	s.want("after a failure at once", s.heard(s.now, report("a", 3, 1)), true)
}

func TestStateInheritsMeasurementsOfDroppedModels(t *testing.T) {
	s := newScript(t)
	s.see(1, seen("a", Alive))
	whole := report("a", 1, 1)
	whole.Models = []ModelLoad{
		{Key: "hot", Resident: true, Running: 2, Decode: 10},
		{Key: "cold", Decode: 20, Samples: 4, Resident: true, Running: 1, Size: 5},
	}
	s.heard(s.now, whole)
	partial := report("a", 1, 2)
	partial.Models, partial.Dropped = []ModelLoad{{Key: "hot", Resident: true, Running: 3, Decode: 11}}, 1
	s.heard(s.now, partial)
	l := s.get("a").Load
	s.want("hot", l.Model("hot").Running, 3)
	cold := l.Model("cold")
	if cold == nil || cold.Decode != 20 || cold.Samples != 4 {
		t.Fatalf("the measurement is lost: %+v", cold)
	}
	if cold.Resident || cold.Running != 0 || cold.Size != 0 {
		t.Errorf("a state that nobody reported: %+v", cold)
	}
	if len(partial.Models) != 1 {
		t.Error("the report itself was changed")
	}
	whole2 := report("a", 1, 3)
	whole2.Models = []ModelLoad{{Key: "hot"}}
	s.heard(s.now, whole2)
	s.want("a model that is gone", s.get("a").Load.Model("cold"), (*ModelLoad)(nil))
}

func TestStateTakesOverChangedFacts(t *testing.T) {
	s := newScript(t)
	s.see(1, seen("a", Alive))
	s.hold("a", "a")
	moved := netip.MustParseAddrPort("192.0.2.99:1")
	s.want("address", s.see(1, with(seen("a", Alive), func(g *sighting) { g.Addr = moved })), true)
	s.want("address", s.get("a").Addr, moved)
	s.want("peer", s.get("a").Peer(), "192.0.2.99:11436")
	s.wantEnded("a", nil) // the same life elsewhere
	g := with(seen("a", Alive), func(g *sighting) { g.Addr, g.Info.Draining = moved, true })
	s.want("tags", s.see(1, g), true)
	s.want("draining", s.get("a").Draining(), true)
	for _, tt := range []struct {
		rtt  time.Duration
		want bool
	}{{time.Millisecond, true}, {1050 * time.Microsecond, false}, {2 * time.Millisecond, true}, {0, true}, {0, false}} {
		g.RTT = tt.rtt
		s.want(fmt.Sprintf("rtt %v", tt.rtt), s.see(1, g), tt.want)
	}
}

func TestStateOfTheNodeItself(t *testing.T) {
	s := newScript(t)
	card := &Card{Parallel: 2}
	l := report("self", 1, 1)
	s.want("own", s.own(s.now, Info{Hostname: "me"}, card, l), true)
	s.want("the same", s.own(s.now, Info{Hostname: "me"}, card, l), false)
	s.want("older load", s.own(s.now, Info{Hostname: "me"}, card, report("self", 1, 0)), false)
	self := s.view(s.now).Self()
	if self == nil || self.Card != card || self.Load != l || self.Name != "me" {
		t.Errorf("self is %+v", self)
	}
	// Nothing that gossip says can take the node out of its own View.
	s.see(1)
	s.sighted(s.now, 1, []sighting{{ID: s.self, Status: Failed, Addr: netip.MustParseAddrPort("192.0.2.7:7")}})
	self = s.view(s.now).Self()
	if self.Status != Alive || self.Addr.Port() != 7 {
		t.Errorf("self is %s at %s", self.Status, self.Addr)
	}
}

func TestStateFetchesCards(t *testing.T) {
	carded := func(digest string) sighting {
		return with(seen("a", Alive), func(g *sighting) { g.Info.Card = digest })
	}
	due := func(s *script) string {
		var out []string
		for _, j := range s.due(s.now, maxFetches) {
			out = append(out, fmt.Sprintf("%s card=%v", j.digest, j.card))
		}
		return strings.Join(out, ",")
	}
	job := func(digest string) job { return job{id: idOf("a"), card: true, digest: digest} }
	failed := errors.New("refused")

	s := newScript(t)
	s.see(1, carded("v1"))
	s.want("due", due(s), "v1 card=true")
	s.want("while busy", due(s), "")
	s.want("failure", s.fetched(s.now, job("v1"), fetchResult{err: failed}, 0), false)
	s.want("at once", due(s), "")
	s.after(fetchBackoff - 1)
	s.want("too early", due(s), "")
	s.after(1)
	s.want("retry", due(s), "v1 card=true")
	s.fetched(s.now, job("v1"), fetchResult{err: failed}, 0)
	s.after(fetchBackoff)
	s.want("second wait is longer", due(s), "")
	// A new digest is a new reason.
	s.see(1, carded("v2"))
	s.want("new digest", due(s), "v2 card=true")
	card := &Card{Parallel: 3}
	s.want("success", s.fetched(s.now, job("v2"), fetchResult{card: card, digest: "v2"}, 0), true)
	s.want("card", s.get("a").Card.Parallel, 3)
	s.want("done", due(s), "")
	// The node changed between tag and fetch: its tag will follow, or we ask
	// again, but not without pause.
	s.see(1, carded("v3"))
	s.want("due", due(s), "v3 card=true")
	s.fetched(s.now, job("v3"), fetchResult{card: card, digest: "v4"}, 0)
	s.want("not at once", due(s), "")
	s.see(1, carded("v4"))
	s.want("the tag followed", due(s), "")
	// Nobody asks the dead, and the returned are asked at once.
	s.see(1, carded("v5"))
	s.due(s.now, 1)
	s.fetched(s.now, job("v5"), fetchResult{err: failed}, 0)
	s.see(1, with(carded("v5"), func(g *sighting) { g.Status = Failed }))
	s.after(time.Second)
	s.want("dead", due(s), "")
	s.see(1, carded("v5"))
	s.want("returned", due(s), "v5 card=true")
	delete(s.members, idOf("a"))
	s.want("forgotten meanwhile", s.fetched(s.now, job("v5"), fetchResult{card: card, digest: "v5"}, 0), false)
}

func TestStateFetchesFewAtOnce(t *testing.T) {
	s := newScript(t)
	var list []sighting
	for i := range 26 {
		list = append(list, with(seen(string(rune('a'+i))+"x", Alive), func(g *sighting) { g.Info.Card = "v1" }))
	}
	s.see(1, list...)
	s.want("first", len(s.due(s.now, maxFetches)), maxFetches)
	s.want("no room", len(s.due(s.now, 0)), 0)
	s.want("next", len(s.due(s.now, 3)), 3)
}

func TestStateAsksTheUnheardForTheirLoad(t *testing.T) {
	s := newScript(t)
	s.see(1, seen("a", Alive))
	s.want("at first", len(s.due(s.now, 8)), 0)
	s.after(deaf + 1)
	jobs := s.due(s.now, 8)
	if len(jobs) != 1 || jobs[0].card {
		t.Fatalf("due %+v", jobs)
	}
	s.want("somebody else's load", s.fetched(s.now, jobs[0], fetchResult{load: report("b", 1, 1)}, 0), false)
	s.want("not yet again", len(s.due(s.now, 8)), 0)
	s.after(deafEvery + 1)
	jobs = s.due(s.now, 8)
	s.want("again", len(jobs), 1)
	s.want("load", s.fetched(s.now, jobs[0], fetchResult{load: report("a", 1, 1)}, 0), true)
	s.heard(s.now, report("a", 1, 2))
	s.after(deafEvery + 1)
	s.heard(s.now, report("a", 1, 3))
	s.want("heard by datagram", len(s.due(s.now, 8)), 0)
}

func TestBackoff(t *testing.T) {
	for tries, want := range map[int]time.Duration{1: fetchBackoff, 2: 2 * fetchBackoff, 5: 16 * fetchBackoff, 50: maxBackoff} {
		if got := backoff(tries, 0); got != want {
			t.Errorf("after %d tries %v, want %v", tries, got, want)
		}
		if got := backoff(tries, 0.999); got < want/2 || got > want {
			t.Errorf("after %d tries with jitter %v", tries, got)
		}
	}
}
