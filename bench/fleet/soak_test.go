package fleet_test

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/bench/fleet"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/admin"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/ollamatest"
)

// TestSoak breaks a fleet at random for SOAK (10 s) and holds it to what it
// promises. SEED repeats the decisions of a run, not their timing. Its hours
// are rounds: clients and faults for a while, then quiet, in which everything
// must be back where it was. SOAK_LOG names a file for all that the nodes log.
func TestSoak(t *testing.T) {
	if testing.Short() {
		t.Skip("random faults, not with -short")
	}
	span, seed := 10*time.Second, rand.Uint64()
	var err error
	if text := os.Getenv("SOAK"); text != "" {
		if span, err = time.ParseDuration(text); err != nil {
			t.Fatal(err)
		}
	}
	if text := os.Getenv("SEED"); text != "" {
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("SEED=%d SOAK=%v", seed, span)
	client.CloseIdleConnections()
	before, least := goleak.IgnoreCurrent(), measure()
	s := newSoak(t, seed)
	end := time.Now().Add(span)
	for n := 1; time.Now().Before(end) && !t.Failed(); n++ {
		s.round(n, min(30*time.Second, max(5*time.Second, span/10)))
	}
	s.verdict()
	s.f.Close()
	s.log.close()
	client.CloseIdleConnections()
	leakless(t, before)
	after := measure()
	t.Logf("before the fleet: %v; after it: %v", least, after)
	if after.descriptors > least.descriptors {
		t.Errorf("%d descriptors are left open", after.descriptors-least.descriptors)
	}
}

// soak is a fleet that is being broken.
type soak struct {
	t      *testing.T
	f      *fleet.Fleet
	rand   *rand.Rand // of the breaker
	seed   uint64
	doors  [2]string // the ingresses' endpoints, the same over restarts
	second secondDoor
	faults map[string]int
	books  books
	sum    tally
	rests  []rest
	log    tailLog
}

// The two ingresses of a soak; the second is killed now and then.
const (
	steady = 0
	shaky  = 1
	owners = 4
)

func newSoak(t *testing.T, seed uint64) *soak {
	t.Helper()
	specs := []fleet.Spec{{Name: "steady"}, {Name: "shaky"}}
	for i := range owners {
		specs = append(specs, owner("owner-"+strconv.Itoa(i), "0.33.0", 8, ollamatest.Model{
			Name: "m", Size: 1 << 20, Decode: 60, Layers: 1, KVHeads: 1, HeadDim: 16,
		}))
	}
	s := &soak{t: t, seed: seed, rand: rand.New(rand.NewPCG(seed, 1)), faults: map[string]int{}, sum: tally{refused: map[string]string{}}}
	s.log.open(t)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	f, err := fleet.Start(ctx, specs, fleet.Options{
		Grace: time.Second, Logger: slog.New(slog.NewTextHandler(&s.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	})
	if err != nil {
		t.Fatalf("%v\n%s", err, s.log.with("WARN"))
	}
	t.Cleanup(f.Close)
	s.f, s.doors = f, [2]string{f.Node(steady).Endpoint(), f.Node(shaky).Endpoint()}
	s.second.up.Store(true)
	return s
}

// round breaks things under load for a while, then waits for quiet and looks.
func (s *soak) round(n int, span time.Duration) {
	ctx, cancel := context.WithCancel(s.t.Context())
	var clients sync.WaitGroup
	for w := range 8 {
		clients.Go(func() { s.client(ctx, rand.New(rand.NewPCG(s.seed, uint64(n*100+w)))) })
	}
	for end := time.Now().Add(span); time.Now().Before(end) && !s.t.Failed(); {
		s.fault()
		s.pause(100, 500)
	}
	cancel()
	clients.Wait()
	s.quiet(n)
}

// pause lets so many milliseconds pass.
func (s *soak) pause(least, most int) {
	<-time.After(time.Duration(least+s.rand.IntN(most-least)) * time.Millisecond)
}

// fault breaks one thing, and mends it before the next where it does not mend
// itself: one owner at most is away at any time.
func (s *soak) fault() {
	victim := s.f.Node(2 + s.rand.IntN(owners))
	script := func(f ollamatest.Fault) {
		if victim.Ollama != nil {
			victim.Ollama.Fault(f)
		}
	}
	after, times := s.rand.IntN(30), 1+s.rand.IntN(3)
	kinds := []struct {
		name string
		do   func()
	}{
		{"node and ollama killed", func() { victim.Kill(); s.books.collect(victim); s.pause(200, 2000); s.restart(victim) }},
		{"node leaves", func() { s.must(victim.Stop()); s.books.collect(victim); s.pause(100, 500); s.restart(victim) }},
		{"ollama killed", func() { victim.Ollama.Kill(); s.pause(100, 1500); s.must(victim.Ollama.Restart()) }},
		{"ollama frozen", func() { victim.Ollama.Freeze(); s.pause(200, 3000); victim.Ollama.Thaw() }},
		{"node drained", func() {
			s.must(victim.Drain(admin.DrainOrder{On: true, Now: after%2 == 0}))
			s.pause(200, 1500)
			s.must(victim.Drain(admin.DrainOrder{}))
		}},
		{"ingress killed", func() {
			s.second.up.Store(false)
			s.second.kills.Add(1)
			s.f.Node(shaky).Kill()
			s.ended(s.f.Node(shaky))
			s.pause(100, 1000)
			s.restart(s.f.Node(shaky))
			s.second.up.Store(true)
		}},
		{"answers reset", func() { script(ollamatest.Fault{Kind: ollamatest.Die, After: after, Half: after%2 == 0, Times: times}) }},
		{"answers end early", func() { script(ollamatest.Fault{Kind: ollamatest.CleanEOF, After: after, Times: times}) }},
		{"answers end in an error", func() { script(ollamatest.Fault{Kind: ollamatest.ErrorLine, After: after, Times: times}) }},
		{"runner crashes", func() { script(ollamatest.Fault{Kind: ollamatest.Crash, After: after}) }},
		{"answers stall", func() {
			script(ollamatest.Fault{Kind: ollamatest.Stall, After: after, Times: times, Delay: 700 * time.Millisecond})
		}},
		{"500", func() { script(ollamatest.Fault{Kind: ollamatest.Status, Status: 500, Times: times}) }},
		{"busy", func() { script(ollamatest.Fault{Kind: ollamatest.Busy, Times: times}) }},
		{"reset before headers", func() { script(ollamatest.Fault{Kind: ollamatest.Reset, Times: times}) }},
	}
	k := kinds[s.rand.IntN(len(kinds))]
	s.faults[k.name]++
	s.log.note("fault", k.name, "victim", victim.Spec.Name)
	k.do()
}

func (s *soak) must(err error) {
	if err != nil {
		s.t.Error(err)
	}
}

func (s *soak) restart(n *fleet.Node) {
	ctx, cancel := context.WithTimeout(s.t.Context(), patience)
	defer cancel()
	s.must(n.Restart(ctx))
	s.must(s.f.Settle(ctx))
}

// ended waits until a router has no request any more, and books what became of
// them: with the node its record goes.
func (s *soak) ended(n *fleet.Node) {
	limit := time.Now().Add(patience)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for n.Router().Running() > 0 && time.Now().Before(limit) {
		<-tick.C
	}
	if got := n.Router().Running(); got != 0 {
		s.t.Errorf("%s still counts %d requests", n.Spec.Name, got)
	}
	s.books.learn(n)
}

// quiet waits until nothing runs anywhere, and measures what is still held.
func (s *soak) quiet(n int) {
	ctx, cancel := context.WithTimeout(s.t.Context(), patience)
	defer cancel()
	for _, node := range s.f.Nodes() {
		if node.Ollama != nil {
			node.Ollama.ClearFaults()
			err := node.Ollama.Await(ctx, func(st ollamatest.Stats) bool { return st.Running+st.Waiting == 0 })
			if err != nil {
				s.t.Errorf("%s still works: %+v", node.Spec.Name, node.Ollama.Stats())
			}
			s.books.collect(node)
		}
		if v, err := node.Mesh().Wait(ctx, idle); err != nil {
			s.t.Errorf("%s still sees work in flight: %v", node.Spec.Name, v)
		}
		s.ended(node)
	}
	s.judge()
	client.CloseIdleConnections()
	r := measure()
	s.rests = append(s.rests, r)
	s.t.Logf("round %2d: %v; at rest %v", n, &s.sum, r)
}

func idle(v *mesh.View) bool {
	for _, m := range v.Members() {
		if m.Status == mesh.Alive && m.Load != nil && m.Load.Running+m.Load.Waiting > 0 {
			return false
		}
	}
	return true
}

// verdict compares what the last rests hold with what the first did.
func (s *soak) verdict() {
	s.t.Logf("faults: %v", s.faults)
	s.t.Logf("%d tokens made for %d in whole answers", s.books.worked, s.sum.given)
	if s.sum.whole == 0 {
		s.t.Error("no whole answer at all")
	}
	if len(s.rests) < 4 {
		return
	}
	third := len(s.rests) / 3
	first, last := s.rests[1:1+third], s.rests[len(s.rests)-third:]
	most := func(rs []rest, of func(rest) int) (n int) {
		for _, r := range rs {
			n = max(n, of(r))
		}
		return n
	}
	for _, what := range []struct {
		name string
		of   func(rest) int
		more int // on top of a tenth
	}{
		{"goroutines", func(r rest) int { return r.goroutines }, 20},
		{"descriptors", func(r rest) int { return r.descriptors }, 10},
		{"KiB of heap", func(r rest) int { return r.heap }, 2 << 10},
	} {
		before, after := most(first, what.of), most(last, what.of)
		s.t.Logf("%s at rest: at most %d in the first rounds, %d in the last", what.name, before, after)
		if after > before+before/10+what.more {
			s.t.Errorf("%s grow from %d to %d", what.name, before, after)
		}
	}
}
