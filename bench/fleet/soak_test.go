package fleet_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/bench/fleet"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/admin"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/ollamatest"
)

// TestSoak breaks a fleet at random for SOAK (10 s) and holds it to what it
// promises. SEED repeats the decisions of a run, not their timing. Its hours
// are rounds: clients and faults for a while, then quiet, in which everything
// must be back where it was.
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
	s := newSoak(t, seed)
	end := time.Now().Add(span)
	for n := 1; time.Now().Before(end) && !t.Failed(); n++ {
		s.round(n, min(30*time.Second, max(5*time.Second, span/10)))
	}
	s.verdict()
}

// soak is a fleet that is being broken.
type soak struct {
	t      *testing.T
	f      *fleet.Fleet
	rand   *rand.Rand // of the breaker
	seed   uint64
	ids    atomic.Uint64
	second secondDoor
	faults map[string]int
	sum    tally
	rests  []rest
}

// The two ingresses of a soak; the second is killed now and then.
const (
	steady = 0
	shaky  = 1
	owners = 4
)

// secondDoor tells clients whether the shaky ingress is there, and whether it
// has gone since.
type secondDoor struct {
	up    atomic.Bool
	kills atomic.Int64
}

// tally counts what clients saw.
type tally struct {
	mu                                sync.Mutex
	asked, whole, clear, left, orphan int
	again                             int // requests that were run more than once
	most                              int // executions of one request
	worked, given                     int // tokens: by the Ollamas, and in whole answers
}

// rest is what is held when nothing runs.
type rest struct{ goroutines, descriptors, heap int } // heap in KiB

func newSoak(t *testing.T, seed uint64) *soak {
	t.Helper()
	specs := []fleet.Spec{{Name: "steady"}, {Name: "shaky"}}
	for i := range owners {
		specs = append(specs, owner("owner-"+strconv.Itoa(i), "0.33.0", 8, ollamatest.Model{
			Name: "m", Size: 1 << 20, Decode: 60, Layers: 1, KVHeads: 1, HeadDim: 16,
		}))
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	f, err := fleet.Start(ctx, specs, fleet.Options{Grace: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.Close)
	s := &soak{t: t, f: f, seed: seed, rand: rand.New(rand.NewPCG(seed, 1)), faults: map[string]int{}}
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
		{"node and ollama killed", func() { s.collect(victim); victim.Kill(); s.pause(200, 2000); s.restart(victim) }},
		{"node leaves", func() { s.collect(victim); s.must(victim.Stop()); s.pause(100, 500); s.restart(victim) }},
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
	k.do()
}

func (s *soak) must(err error) {
	if err != nil {
		s.t.Error(err)
	}
}

func (s *soak) restart(n *fleet.Node) {
	ctx, cancel := context.WithTimeout(s.t.Context(), time.Minute)
	defer cancel()
	s.must(n.Restart(ctx))
	s.must(s.f.Settle(ctx))
}

// client asks one request after the other. One in eight leaves at its third
// frame.
func (s *soak) client(ctx context.Context, r *rand.Rand) {
	for ctx.Err() == nil {
		door := steady
		if r.IntN(3) == 0 && s.second.up.Load() {
			door = shaky
		}
		route, tokens, leaves := routes[r.IntN(len(routes))], 3+r.IntN(60), r.IntN(8) == 0
		s.one(door, s.second.kills.Load(), route.path, route.request("m", tokens, nil), tokens, leaves)
	}
}

// one asks one request and judges its answer. It is not cut off when the round
// ends: what is accepted is to be finished.
func (s *soak) one(door int, kills int64, path string, body map[string]any, tokens int, leaves bool) {
	ctx, leave := context.WithTimeout(s.t.Context(), time.Minute)
	defer leave()
	id := "soak-" + strconv.FormatUint(s.ids.Add(1), 10)
	var gone atomic.Bool
	h := heard{third: func() {
		if leaves {
			gone.Store(true)
			leave()
		}
	}}
	h.listen(ctx, s.f.Node(door).Endpoint(), path, body, ollamatest.HeaderTestID, id, ollamatest.HeaderRequestID, id)
	err := h.whole()
	if err == nil {
		err = ollamatest.Verify(h.text, tokens)
		if err == nil && h.output != tokens && h.output != 0 {
			err = fmt.Errorf("it counts %d tokens", h.output)
		}
		if err != nil {
			s.t.Errorf("%s from %s looks whole and is not: %v: %q", id, path, err, h.text)
		}
	}
	s.sum.mu.Lock()
	defer s.sum.mu.Unlock()
	s.sum.asked++
	switch {
	case err == nil:
		s.sum.whole++
		s.sum.given += tokens
	case gone.Load():
		s.sum.left++
	case door == shaky && s.second.kills.Load() != kills && h.marks == 0:
		s.sum.orphan++ // its ingress has died under it
	case h.status == http.StatusOK && h.broken() == nil:
		s.sum.clear++
	default:
		s.t.Errorf("%s, %s: %v: %v, error %q", id, path, err, h.err, h.failure)
	}
}

// collect takes the counts of an Ollama, before it is replaced or at a rest.
func (s *soak) collect(n *fleet.Node) {
	st := n.Ollama.Stats()
	n.Ollama.ResetStats()
	s.sum.mu.Lock()
	defer s.sum.mu.Unlock()
	s.sum.worked += st.Tokens
	for _, times := range st.Executions {
		s.sum.most = max(s.sum.most, times)
		if times > 1 {
			s.sum.again++
		}
	}
}

// quiet waits until nothing runs anywhere, and measures what is still held.
func (s *soak) quiet(n int) {
	ctx, cancel := context.WithTimeout(s.t.Context(), time.Minute)
	defer cancel()
	for _, node := range s.f.Nodes() {
		if node.Ollama != nil {
			node.Ollama.ClearFaults()
			err := node.Ollama.Await(ctx, func(st ollamatest.Stats) bool { return st.Running+st.Waiting == 0 })
			if err != nil {
				s.t.Errorf("%s still works: %+v", node.Spec.Name, node.Ollama.Stats())
			}
			s.collect(node)
		}
		if _, err := node.Mesh().Wait(ctx, idle); err != nil {
			s.t.Errorf("%s still sees work in flight", node.Spec.Name)
		}
		if got := node.Router().Running(); got != 0 {
			s.t.Errorf("%s still counts %d requests", node.Spec.Name, got)
		}
	}
	client.CloseIdleConnections()
	r := s.measure()
	s.rests = append(s.rests, r)
	c := &s.sum
	s.t.Logf("round %2d: %d asked, %d whole, %d clear errors, %d left, %d lost with their ingress, %d run twice (most %d); at rest %d goroutines, %d descriptors, %d KiB",
		n, c.asked, c.whole, c.clear, c.left, c.orphan, c.again, c.most, r.goroutines, r.descriptors, r.heap)
}

func idle(v *mesh.View) bool {
	for _, m := range v.Members() {
		if m.Status == mesh.Alive && m.Load != nil && m.Load.Running+m.Load.Waiting > 0 {
			return false
		}
	}
	return true
}

// measure takes the least of a few looks: connections that were just given up
// are still on their way out.
func (s *soak) measure() rest {
	least := rest{1 << 30, 1 << 30, 1 << 30}
	for range 10 {
		<-time.After(100 * time.Millisecond)
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		open := 0
		if entries, err := os.ReadDir("/proc/self/fd"); err == nil {
			open = len(entries)
		}
		least = rest{min(least.goroutines, runtime.NumGoroutine()), min(least.descriptors, open), min(least.heap, int(m.HeapAlloc>>10))}
	}
	return least
}

// verdict compares what the last rests hold with what the first did.
func (s *soak) verdict() {
	s.t.Logf("faults: %v", s.faults)
	s.t.Logf("%d tokens made for %d in whole answers", s.sum.worked, s.sum.given)
	if s.sum.most > 3 {
		s.t.Errorf("a request was run %d times on one Ollama", s.sum.most)
	}
	if s.sum.whole == 0 {
		s.t.Error(errors.New("no whole answer at all"))
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
		{"KiB of heap", func(r rest) int { return r.heap }, 8 << 10},
	} {
		before, after := most(first, what.of), most(last, what.of)
		s.t.Logf("%s at rest: at most %d in the first rounds, %d in the last", what.name, before, after)
		if after > before+before/10+what.more {
			s.t.Errorf("%s grow from %d to %d", what.name, before, after)
		}
	}
}
