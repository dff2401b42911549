package backend

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh"
)

var t0 = time.Unix(1_800_000_000, 0)

func at(seconds float64) time.Time { return t0.Add(time.Duration(seconds * float64(time.Second))) }

// disk is a state with these models on disk, of which the first loaded are in
// memory; all names of a model that start with "twin" share their weights.
func disk(loaded int, keys ...string) *State {
	s := &State{Up: true, Version: "0.33.0", Listed: true, Polled: t0, families: map[string]string{}}
	for i, key := range keys {
		m := mesh.Model{Key: key, Digest: key, Blob: "blob-" + key, Size: 10 << 30, Layers: 1, KVHeads: 1, HeadDim: 1}
		if len(key) > 4 && key[:4] == "twin" {
			m.Blob = "blob-twin"
		}
		s.Catalog = append(s.Catalog, m)
		if i < loaded {
			s.Resident = append(s.Resident, Resident{Key: key, Digest: key, Size: 10 << 30, SizeVRAM: 10 << 30, Context: 4096})
		}
	}
	sortCatalog(s.Catalog)
	return s
}

// admission has 1 slot, 1 token/s, loads of 10 s and answers of 10 tokens.
func admission(l Limits, s *State) *Admission {
	if l.Speed == nil {
		l.Speed = func(string, *mesh.Model) Speed {
			return Speed{Decode: 1, Prefill: 100, Cold: 10, Output: 10, Samples: 9}
		}
	}
	if l.Parallel == 0 {
		l.Parallel = 1
	}
	a := NewAdmission(l)
	a.Observe(t0, s)
	return a
}

// enter takes in one request with no promise and settles.
func enter(a *Admission, s float64, w Work) *Entry {
	w.Promise = -1
	e := a.Enter(at(s), w)
	a.Settle(at(s))
	return e
}

func leave(a *Admission, s float64, e *Entry) {
	a.Leave(at(s), e, true)
	a.Settle(at(s))
}

func running(t *testing.T, es ...*Entry) {
	t.Helper()
	for _, e := range es {
		if !e.Running() {
			t.Errorf("%s does not run", e.Key)
		}
	}
}

func waiting(t *testing.T, es ...*Entry) {
	t.Helper()
	for _, e := range es {
		if e.Running() || e.Refused() != nil || e.done {
			t.Errorf("%s does not wait", e.Key)
		}
	}
}

func TestModelsInMemoryRunSideBySide(t *testing.T) {
	a := admission(Limits{}, disk(2, "a", "b"))
	running(t, enter(a, 0, Work{Key: "a"}), enter(a, 0, Work{Key: "b"}))
	waiting(t, enter(a, 0, Work{Key: "a"}))
}

// An ingress that took the node for idle is told when it no longer is, although
// a slot is free: elsewhere the answer may end sooner.
func TestCompanyThatTheIngressDidNotKnowOf(t *testing.T) {
	for _, c := range []struct {
		name    string
		work    Work // the second request; an answer takes 10 s alone
		slope   float64
		refused bool
	}{
		{"as it assumed", Work{Key: "a", Slow: 1.5}, 0.5, false},
		{"took it for idle", Work{Key: "a", Slow: 1}, 0.5, true},
		{"less than the margin", Work{Key: "a", Slow: 1}, 0.2, false},
		{"another model shares the device", Work{Key: "b", Slow: 1}, 0, true},
		{"knew of the other model", Work{Key: "b", Slow: 2}, 0, false},
		{"said nothing", Work{Key: "a"}, 0.5, false},
		{"takes what there is", Work{Key: "a", Slow: 1, Promise: -1}, 0.5, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := admission(Limits{Parallel: 2, Speed: func(string, *mesh.Model) Speed {
				return Speed{Decode: 1, Prefill: 100, Slope: c.slope, Cold: 10, Output: 10, Samples: 9}
			}}, disk(2, "a", "b"))
			first := enter(a, 0, Work{Key: "a"})
			second := a.Enter(at(0), c.work)
			a.Settle(at(0))
			running(t, first)
			if c.refused != (second.Refused() != nil && errors.Is(second.Refused(), ErrLate)) || c.refused == second.Running() {
				t.Errorf("refused: %v", second.Refused())
			}
		})
	}
}

func TestNamesOfOneFileShareItsSlots(t *testing.T) {
	a := admission(Limits{}, disk(1, "twin1", "twin2"))
	first := enter(a, 0, Work{Key: "twin2"})
	running(t, first)
	if first.Cold() {
		t.Error("twin2 is in memory as twin1, its start is no load")
	}
	waiting(t, enter(a, 0, Work{Key: "twin1"}))
}

func TestModelsLoadOneAtATime(t *testing.T) {
	a := admission(Limits{}, disk(0, "a", "b", "c"))
	first, second := enter(a, 0, Work{Key: "a"}), enter(a, 0, Work{Key: "b"})
	running(t, first)
	waiting(t, second)
	if !first.Cold() {
		t.Error("the first request of a model on disk does not count as cold")
	}
	third := enter(a, 1, Work{Key: "c"})
	a.Progress(at(9), first, 1) // its first token proves the load over
	a.Settle(at(9))
	running(t, first, second)
	waiting(t, third)
	// c's turn comes with the end of b's load, although nobody tells of it: an
	// unstreamed answer shows no token.
	a.Observe(at(9+25), &State{Up: true, Polled: at(34)})
	a.Settle(at(9 + 25))
	running(t, third)
}

func TestRoom(t *testing.T) {
	const gib = 1 << 30
	for name, c := range map[string]struct {
		limits Limits
		free   bool
	}{
		"unknown memory is no obstacle":     {Limits{}, true},
		"both fit":                          {Limits{Memory: 24 * gib}, true},
		"only with what Ollama keeps free":  {Limits{Memory: 21 * gib}, false},
		"only one model allowed":            {Limits{MaxLoaded: 1}, false},
		"two models allowed and one loaded": {Limits{MaxLoaded: 2}, true},
	} {
		t.Run(name, func(t *testing.T) {
			a := admission(c.limits, disk(1, "a", "b"))
			busy := enter(a, 0, Work{Key: "a"})
			other := enter(a, 0, Work{Key: "b"})
			if other.Running() != c.free {
				t.Errorf("b beside a busy a: running %v, want %v", other.Running(), c.free)
			}
			leave(a, 5, busy)
			running(t, other) // an idle model is Ollama's to evict
		})
	}
}

func TestAModelLoadedAnewForAnotherContextWaitsUntilItIsIdle(t *testing.T) {
	a := admission(Limits{Parallel: 4}, disk(1, "a"))
	same := []*Entry{enter(a, 0, Work{Key: "a"}), enter(a, 0, Work{Key: "a", Context: 4096})}
	other := enter(a, 0, Work{Key: "a", Context: 8192})
	running(t, same...)
	waiting(t, other)
	leave(a, 1, same[0])
	waiting(t, other)
	leave(a, 2, same[1])
	running(t, other)
	if !other.Cold() {
		t.Error("another context is a load")
	}
	running(t, enter(a, 3, Work{Key: "a", Context: 8192}))
}

func TestARequestThatNeedsRoomIsPassedForATime(t *testing.T) {
	a := admission(Limits{MaxLoaded: 1, Parallel: 2}, disk(1, "a", "b"))
	first := enter(a, 0, Work{Key: "a"})
	b := enter(a, 1, Work{Key: "b"})
	second := enter(a, 2, Work{Key: "a"}) // a is kept busy
	running(t, first, second)
	leave(a, 20, first)
	third := enter(a, 22, Work{Key: "a"})
	running(t, third) // two loads of 10 s for one request relieve less
	leave(a, 90, second)
	fourth := enter(a, 91.5, Work{Key: "a"})
	waiting(t, b, fourth) // three times the loads and 5 s for each have passed
	leave(a, 93, third)
	running(t, b)
	waiting(t, fourth)
	leave(a, 94, b)
	running(t, fourth)
}

func TestSlots(t *testing.T) {
	s := disk(0, "chat", "embed", "vision", "both")
	s.Catalog.Find("embed").Capabilities = []string{"embedding"}
	s.Catalog.Find("both").Capabilities = []string{"completion", "embedding"}
	s.families["blob-vision"] = "qwen3vlmoe"
	for key, want := range map[string]int{"chat": 4, "embed": 1, "vision": 1, "both": 4, "unknown": 4} {
		if got := s.Slots(key, 4); got != want {
			t.Errorf("%s has %d slots, want %d", key, got, want)
		}
	}
	if got := s.Slots("chat", 0); got != 1 {
		t.Errorf("with an unknown number %d slots, want 1", got)
	}
}

func TestParallelOf(t *testing.T) {
	for version, want := range map[string]int{
		"": 1, "0.0.0": 1, "dev": 1, "0.9.6": 2, "v0.10.1": 2, "0.11.4": 1, "0.12.0": 1, "0.33.0-rc2": 1, "1.0.0": 1,
		"0.5.13-rc0": 2, "0.x.1": 1, "0.": 1, "0.99999999999999999999.1": 1,
	} {
		if got := ParallelOf(version); got != want {
			t.Errorf("ParallelOf(%q) = %d, want %d", version, got, want)
		}
	}
}

func TestSlotsAreLearntFromTheVersion(t *testing.T) {
	old := disk(1, "a")
	old.Version = "0.9.6"
	a := NewAdmission(Limits{})
	a.Observe(t0, old)
	first, second, third := enter(a, 0, Work{Key: "a"}), enter(a, 0, Work{Key: "a"}), enter(a, 0, Work{Key: "a"})
	running(t, first, second)
	waiting(t, third)
	a.SetLimits(Limits{Parallel: 3})
	a.Settle(t0)
	running(t, third)
}

func TestADigestThatBecomesKnownOpensNoSecondSetOfSlots(t *testing.T) {
	s := disk(0, "a")
	s.Catalog[0].Blob = ""
	a := admission(Limits{}, s)
	first := enter(a, 0, Work{Key: "a"})
	a.Observe(at(1), disk(1, "a")) // show has been read
	second := enter(a, 1, Work{Key: "a"})
	running(t, first)
	waiting(t, second)
	leave(a, 2, first)
	running(t, second)
	leave(a, 3, second)
	running(t, enter(a, 4, Work{Key: "a"}))
}

func TestForecast(t *testing.T) {
	speed := func(s Speed) func(string, *mesh.Model) Speed {
		return func(string, *mesh.Model) Speed { return s }
	}
	lone := Speed{Decode: 10, Prefill: 100, Cold: 5, Output: 100, Samples: 9} // 10 s decode
	batched := lone
	batched.Slope = 0.5
	for name, c := range map[string]struct {
		limits Limits
		loaded int
		works  []Work
		now    float64
		key    string
		want   float64
	}{
		"free": {Limits{Speed: speed(lone)}, 1, nil, 0, "a", 0},
		"decode of the mean answer": {
			Limits{Speed: speed(lone)}, 1, []Work{{Key: "a"}}, 0, "a", 10,
		},
		"prefill and a bound": {
			Limits{Speed: speed(lone)}, 1, []Work{{Key: "a", PromptTokens: 300, OutputTokens: 20}}, 0, "a", 5,
		},
		"a bound above the mean does not count": {
			Limits{Speed: speed(lone)}, 1, []Work{{Key: "a", OutputTokens: 5000}}, 0, "a", 10,
		},
		"the other slot is free": {
			Limits{Speed: speed(lone), Parallel: 2}, 1, []Work{{Key: "a"}}, 0, "a", 0,
		},
		"the sooner of two": {
			Limits{Speed: speed(lone), Parallel: 2}, 1, []Work{{Key: "a"}, {Key: "a", OutputTokens: 40}}, 0, "a", 4,
		},
		"together each is slower by the slope": {
			Limits{Speed: speed(batched), Parallel: 2}, 1, []Work{{Key: "a"}, {Key: "a", OutputTokens: 40}}, 0, "a", 6,
		},
		"a queue": {
			Limits{Speed: speed(lone)}, 1, []Work{{Key: "a"}, {Key: "a"}, {Key: "a", OutputTokens: 10}}, 0, "a", 21,
		},
		"time that has passed": {
			Limits{Speed: speed(lone)}, 1, []Work{{Key: "a"}}, 4, "a", 6,
		},
		"longer than expected": {
			Limits{Speed: speed(lone)}, 1, []Work{{Key: "a"}}, 60, "a", 2.5,
		},
		"a cold load in the way": {
			Limits{Speed: speed(lone)}, 0, []Work{{Key: "a"}}, 0, "a", 15,
		},
		"a cold load half done": {
			Limits{Speed: speed(lone)}, 0, []Work{{Key: "a"}}, 3, "a", 12,
		},
		"joined a cold load": {
			Limits{Speed: speed(lone), Parallel: 2}, 0, []Work{{Key: "a"}, {Key: "a"}}, 0, "a", 15,
		},
		"another model on the device takes half": {
			Limits{Speed: speed(lone)}, 2, []Work{{Key: "a"}, {Key: "b", OutputTokens: 50}}, 0, "a", 15,
		},
		"a model that must load waits for the load of another": {
			Limits{Speed: speed(lone)}, 0, []Work{{Key: "a"}}, 0, "b", 5,
		},
		"a model without room waits for idle": {
			Limits{Speed: speed(lone), MaxLoaded: 1}, 1, []Work{{Key: "a"}}, 0, "b", 10,
		},
		"nothing known": {
			Limits{Speed: speed(Speed{})}, 1, []Work{{Key: "a", PromptTokens: 100}}, 0, "a", 1 + 25.6,
		},
		"batch requests are no obstacle for others": {
			Limits{Speed: speed(lone)}, 1, []Work{{Key: "a"}, {Key: "a", Batch: true}, {Key: "a", Batch: true}}, 0, "a", 10,
		},
	} {
		t.Run(name, func(t *testing.T) {
			a := admission(c.limits, disk(c.loaded, "a", "b"))
			for _, w := range c.works {
				enter(a, 0, w)
			}
			before := a.clone()
			got := a.Starts(at(c.now), []string{c.key})[c.key]
			if math.Abs(got.Seconds()-c.want) > 1e-6 {
				t.Errorf("start of a new %s in %v, want %v s", c.key, got, c.want)
			}
			for id, r := range before.runners {
				if *a.runners[id] != *r {
					t.Errorf("the forecast changed runner %s: %+v, was %+v", id, *a.runners[id], *r)
				}
			}
		})
	}
}

// checkAdmission tests what must hold after every step.
func checkAdmission(t *testing.T, a *Admission, all []*Entry, now time.Time) {
	t.Helper()
	busy := map[string]int{}
	for _, e := range a.running {
		if !e.Running() || e.Refused() != nil {
			t.Fatalf("entry %d in running: %+v", e.seq, e)
		}
		busy[e.runner]++
	}
	for id, r := range a.runners {
		if r.running != busy[id] {
			t.Fatalf("runner %s books %d, %d run", id, r.running, busy[id])
		}
		if r.slots < 1 {
			t.Fatalf("runner %s has %d slots", id, r.slots)
		}
		delete(busy, id)
	}
	if len(busy) > 0 {
		t.Fatalf("running without a runner: %v", busy)
	}
	if !slices.IsSortedFunc(a.line, byTurn) || len(a.line) > a.given.Queue {
		t.Fatalf("line of %d out of order or too long", len(a.line))
	}
	if e := a.next(now); e != nil {
		t.Fatalf("entry %d may start and was not started: a lost wakeup", e.seq)
	}
	if len(a.line) > 0 && len(a.running) == 0 {
		t.Fatalf("%d wait and nothing runs that could let them in", len(a.line))
	}
	places := 0
	for _, e := range all {
		in := 0
		if slices.Contains(a.line, e) {
			in++
		}
		if slices.Contains(a.running, e) {
			in++
		}
		if e.done {
			in++
		}
		if in != 1 {
			t.Fatalf("entry %d is in %d places: %+v", e.seq, in, e)
		}
		places++
	}
	o := a.forecast(now, nil)
	for _, e := range a.line {
		start, known := o.starts[e]
		if !known || start < 0 || start > 1000*time.Hour {
			t.Fatalf("forecast of entry %d: %v, %v", e.seq, start, known)
		}
	}
}

// play lets an admission live through steps drawn from next, which returns
// numbers below its argument.
func play(t *testing.T, steps int, next func(n int) int) {
	keys := []string{"a", "b", "twin1", "twin2", "embed"}
	state := disk(next(4), keys...)
	state.Catalog.Find("embed").Capabilities = []string{"embedding"}
	limits := Limits{Parallel: 1 + next(3), MaxLoaded: 1 + next(3), Queue: 1 + next(8), Memory: uint64(next(4)) * 12 << 30}
	a := admission(limits, state)
	var all []*Entry
	last := map[string]uint64{} // client, class and runner -> seq of the last start
	now := t0
	for range steps {
		now = now.Add(time.Duration(next(4000)) * time.Millisecond)
		switch next(10) {
		case 0, 1, 2, 3:
			w := Work{
				Key: keys[next(len(keys))], Client: fmt.Sprint(next(3)), Batch: next(4) == 0,
				OutputTokens: next(3) * 20, PromptTokens: next(100), Context: next(3) * 4096,
				Promise: time.Duration(next(60)-30) * time.Second, NoWait: next(10) == 0,
			}
			all = append(all, a.Enter(now, w))
		case 4, 5, 6:
			if len(a.running) > 0 {
				a.Leave(now, a.running[next(len(a.running))], next(5) > 0)
			}
		case 7:
			if len(all) > 0 { // anyone, also who has left already
				a.Leave(now, all[next(len(all))], false)
			}
		case 8:
			if len(a.running) > 0 {
				a.Progress(now, a.running[next(len(a.running))], 1+next(50))
			}
		case 9:
			s := disk(next(5), keys...)
			s.Polled = now.Add(-time.Duration(next(2000)) * time.Millisecond)
			s.Up = next(20) > 0
			if s.Up {
				a.Observe(now, s)
			} else {
				a.Observe(now, &State{})
				a.Settle(now)
				checkAdmission(t, a, all, now)
				a.Observe(now, s)
			}
			if next(30) == 0 {
				a.Drain()
				a.Settle(now)
				a.Undrain()
			}
		}
		for _, e := range a.Settle(now) {
			if e.Running() {
				// First come, first served within a client, class and runner,
				// among those that want it loaded alike.
				line := fmt.Sprint(e.Client, e.Batch, e.runner, e.want)
				if e.seq < last[line] {
					t.Fatalf("entry %d started after %d of the same client", e.seq, last[line])
				}
				last[line] = e.seq
			} else if e.Refused() == nil {
				t.Fatalf("entry %d was decided and neither runs nor is refused", e.seq)
			}
		}
		checkAdmission(t, a, all, now)
	}
	// Everybody leaves: nothing is left behind.
	for len(a.running) > 0 {
		now = now.Add(time.Second)
		a.Leave(now, a.running[0], true)
		a.Settle(now)
		checkAdmission(t, a, all, now)
	}
	if len(a.line) > 0 {
		t.Fatalf("%d never started", len(a.line))
	}
	for _, r := range a.runners {
		if r.running != 0 || r.loading {
			t.Fatalf("runner left behind: %+v", r)
		}
	}
}

func TestAdmissionKeepsItsBooks(t *testing.T) {
	for seed := range uint64(60) {
		rng := rand.New(rand.NewPCG(seed, 7))
		t.Run(fmt.Sprint(seed), func(t *testing.T) { play(t, 300, rng.IntN) })
	}
}

func FuzzAdmission(f *testing.F) {
	f.Add([]byte{3, 1, 2, 3, 4, 0, 0, 0, 1, 1, 1, 5, 5, 5, 9, 9, 9})
	f.Add([]byte("the quick brown fox jumps over the lazy dog, twice, and then some more"))
	f.Fuzz(func(t *testing.T, data []byte) {
		i := 0
		play(t, min(len(data)/4, 200), func(n int) int {
			if i+1 >= len(data) {
				return 0
			}
			v := int(data[i])<<8 | int(data[i+1])
			i++
			return v % n
		})
	})
}

// How often a model is wanted here is counted over some minutes, and forgotten
// when nobody wants it any more.
func TestRateOfRequests(t *testing.T) {
	a := admission(Limits{}, disk(1, "m"))
	rate := func(s float64) float64 { return a.Occupancy(at(s), []string{"m"}).Models["m"].Rate }
	if got := rate(0); got != 0 {
		t.Errorf("%.4f/s before any request", got)
	}
	for i := range 60 {
		s := float64(10 * i)
		leave(a, s+1, enter(a, s, Work{Key: "m"}))
	}
	if got := rate(600); math.Abs(got-0.1) > 0.01 {
		t.Errorf("one every 10 s for 10 minutes: %.4f/s", got)
	}
	if got := rate(1200); got > 0.002 {
		t.Errorf("ten minutes later: %.4f/s", got)
	}
}
