package backend

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/wire"
)

// oneTokenPerSecond makes estimates easy to read: OutputTokens are seconds.
func oneTokenPerSecond(string, *mesh.Model) Speed {
	return Speed{Decode: 1, Prefill: 1e9, Cold: 1e-3, Output: 10, Samples: TrustedSamples}
}

func testGate(l Limits) *Gate {
	if l.Speed == nil {
		l.Speed = oneTokenPerSecond
	}
	g := NewGate(GateConfig{Limits: l})
	return g
}

// resident is a state with these models on disk and in memory.
func resident(keys ...string) *State {
	s := &State{Up: true, Version: "0.33.0", Listed: true, Polled: time.Now()}
	for _, key := range keys {
		s.Catalog = append(s.Catalog, mesh.Model{Key: key, Name: key, Digest: "digest of " + key, Blob: "blob of " + key, Size: 1 << 30})
		s.Resident = append(s.Resident, Resident{Key: key, Name: key, Digest: "digest of " + key, Size: 1 << 30, Expires: time.Now().Add(time.Hour)})
	}
	sortCatalog(s.Catalog)
	return s
}

// pass lets fake time go by: it is what requests take, never a wait of a test
// for something to happen.
func pass(d time.Duration) { <-time.After(d) }

// journal records what happens in order.
type journal struct {
	mu      sync.Mutex
	entries []string
}

func (j *journal) add(s string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.entries = append(j.entries, s)
}

func (j *journal) want(t *testing.T, want ...string) {
	t.Helper()
	j.mu.Lock()
	defer j.mu.Unlock()
	if !slices.Equal(j.entries, want) {
		t.Errorf("got %q\nwant %q", j.entries, want)
	}
}

// run enters w, works for the given time and leaves.
func run(t *testing.T, g *Gate, j *journal, w Work, work time.Duration) {
	leave, err := g.Enter(t.Context(), w)
	if err != nil {
		j.add(w.ID + " " + reasonOf(err))
		return
	}
	j.add(w.ID)
	pass(work)
	leave(Usage{})
}

func reasonOf(err error) string {
	for name, reason := range map[string]error{
		"saturated": ErrSaturated, "draining": ErrDraining, "late": ErrLate, "down": ErrDown, "no model": ErrNoModel,
	} {
		if errors.Is(err, reason) {
			return name
		}
	}
	return err.Error()
}

func TestThirtyRequestsOnTwoSlotsRunTwoAtATimeInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := testGate(Limits{Parallel: 2})
		g.Observe(resident("m"))
		var mu sync.Mutex
		var order []int
		running, most := 0, 0
		var wg sync.WaitGroup
		began := time.Now()
		for i := range 30 {
			wg.Go(func() {
				leave, err := g.Enter(t.Context(), Work{ID: fmt.Sprint(i), Key: "m", Promise: -1})
				if err != nil {
					t.Errorf("request %d: %v", i, err)
					return
				}
				mu.Lock()
				order = append(order, i)
				running++
				most = max(most, running)
				mu.Unlock()
				work := time.Second
				if i == 0 {
					work += time.Second / 2 // so that no two end in the same moment
				}
				pass(work)
				mu.Lock()
				running--
				mu.Unlock()
				leave(Usage{})
			})
			synctest.Wait() // the next one arrives after this one has got its place
		}
		wg.Wait()
		if most != 2 {
			t.Errorf("%d ran at once, want 2", most)
		}
		if !slices.IsSorted(order) {
			t.Errorf("started in order %v", order)
		}
		if took := time.Since(began); took != 15500*time.Millisecond {
			t.Errorf("30 requests of 1 s on 2 slots took %v, want 15.5 s: a slot stood empty", took)
		}
	})
}

func TestCancelWhileWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := testGate(Limits{Parallel: 1})
		g.Observe(resident("m"))
		var j journal
		go run(t, g, &j, Work{ID: "first", Key: "m", Promise: -1}, 10*time.Second)
		synctest.Wait()
		gone := errors.New("client gone")
		ctx, cancel := context.WithCancelCause(t.Context())
		go func() {
			leave, err := g.Enter(ctx, Work{ID: "second", Key: "m", Promise: -1})
			if leave != nil {
				t.Error("a cancelled Enter returned a leave")
			}
			j.add(err.Error())
		}()
		synctest.Wait()
		go run(t, g, &j, Work{ID: "third", Key: "m", Promise: -1}, time.Second)
		synctest.Wait()
		if w := g.Waiting(); len(w) != 2 || w[0].ID != "second" || w[1].Position != 2 {
			t.Fatalf("waiting: %+v", w)
		}
		cancel(gone)
		synctest.Wait()
		if w := g.Waiting(); len(w) != 1 || w[0].ID != "third" || w[0].Position != 1 {
			t.Errorf("after the cancel: %+v", w)
		}
		pass(20 * time.Second)
		j.want(t, "first", "client gone", "third")
	})
}

func TestEnterWithDeadContextOwnsNothing(t *testing.T) {
	g := testGate(Limits{})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if leave, err := g.Enter(ctx, Work{Key: "m"}); leave != nil || !errors.Is(err, context.Canceled) {
		t.Errorf("Enter = %v, %v", leave != nil, err)
	}
	select {
	case <-g.Idle():
	default:
		t.Error("the gate is not idle")
	}
}

func TestClientsTakeTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := testGate(Limits{Parallel: 1})
		g.Observe(resident("m"))
		var j journal
		arrive := func(ids ...string) {
			for _, id := range ids {
				go run(t, g, &j, Work{ID: id, Key: "m", Client: id[:1], Promise: -1}, time.Second)
				synctest.Wait()
			}
		}
		arrive("a1", "a2", "a3", "a4", "a5") // a floods
		pass(1500 * time.Millisecond)        // a2 runs
		arrive("b1", "b2", "c1")
		pass(20 * time.Second)
		j.want(t, "a1", "a2", "a3", "b1", "c1", "a4", "b2", "a5")
	})
}

func TestInteractiveBeforeBatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := testGate(Limits{Parallel: 1})
		g.Observe(resident("m"))
		var j journal
		for _, w := range []Work{
			{ID: "running", Client: "x"},
			{ID: "batch1", Client: "a", Batch: true},
			{ID: "batch2", Client: "a", Batch: true},
			{ID: "chat1", Client: "a"},
			{ID: "chat2", Client: "a"},
		} {
			w.Key, w.Promise = "m", -1
			go run(t, g, &j, w, time.Second)
			synctest.Wait()
		}
		pass(20 * time.Second)
		j.want(t, "running", "chat1", "chat2", "batch1", "batch2")
	})
}

func TestLate(t *testing.T) {
	for name, c := range map[string]struct {
		promise time.Duration
		refused bool
	}{
		"promised at once":           {0, true},
		"promised a bit too early":   {7 * time.Second, true},  // 10 > 7 + 1.75
		"within the quarter":         {8 * time.Second, false}, // 10 <= 8 + 2
		"promised later":             {time.Minute, false},
		"no promise waits for ever":  {-1, false},
		"barely beyond half second":  {9400 * time.Millisecond, false},
		"promise beyond the horizon": {1 << 62, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				load := &mesh.Load{Seq: 7}
				g := NewGate(GateConfig{Limits: Limits{Parallel: 1, Speed: oneTokenPerSecond}, Load: func() *mesh.Load { return load }})
				g.Observe(resident("m"))
				leave, err := g.Enter(t.Context(), Work{Key: "m", OutputTokens: 10})
				if err != nil {
					t.Fatal(err)
				}
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				result := make(chan error, 1)
				go func() {
					_, err := g.Enter(ctx, Work{Key: "m", Promise: c.promise})
					result <- err
				}()
				synctest.Wait()
				select {
				case err := <-result:
					var refused *Refused
					if !errors.As(err, &refused) || !errors.Is(err, ErrLate) {
						t.Fatalf("err = %v", err)
					}
					if !c.refused {
						t.Error("refused")
					}
					if refused.RetryAfter != 10*time.Second || refused.Load != load {
						t.Errorf("refusal says %v, load %v", refused.RetryAfter, refused.Load)
					}
				default:
					if c.refused {
						t.Error("waits")
					}
				}
				leave(Usage{})
			})
		})
	}
}

func TestLateIsJudgedByWhatIsLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := testGate(Limits{Parallel: 1})
		g.Observe(resident("m"))
		leave, err := g.Enter(t.Context(), Work{ID: "long", Key: "m", OutputTokens: 10})
		if err != nil {
			t.Fatal(err)
		}
		defer func() { leave(Usage{}) }()
		start := func() time.Duration { return g.Occupancy([]string{"m"}).Models["m"].Start }
		if d := start(); d != 10*time.Second {
			t.Errorf("at its start 10 tokens at 1 tok/s leave %v", d)
		}
		pass(4 * time.Second)
		if d := start(); d != 6*time.Second {
			t.Errorf("after 4 s without news %v are left", d)
		}
		g.Progress("long", 8) // it is faster than measured
		if d := start(); d != 2*time.Second {
			t.Errorf("after 8 of at most 10 tokens %v are left", d)
		}
		leave(Usage{})
		leave, err = g.Enter(t.Context(), Work{ID: "open", Key: "m"}) // 10 tokens are usual
		if err != nil {
			t.Fatal(err)
		}
		g.Progress("open", 5)
		if d := start(); d != 5*time.Second {
			t.Errorf("after 5 of usually 10 tokens %v are left", d)
		}
		g.Progress("open", 50)
		if d := start(); d != 2500*time.Millisecond {
			t.Errorf("after 50 of usually 10 tokens %v are left, want a quarter of the usual", d)
		}
		g.Progress("nobody", 50)
	})
}

func TestFullQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := testGate(Limits{Parallel: 1, Queue: 3})
		g.Observe(resident("m"))
		var j journal
		arrive := func(w Work) {
			w.Key, w.Promise = "m", -1
			go run(t, g, &j, w, time.Second)
			synctest.Wait()
		}
		arrive(Work{ID: "running", Client: "a"})
		arrive(Work{ID: "a1", Client: "a"})
		arrive(Work{ID: "a2", Client: "a"})
		arrive(Work{ID: "batch", Client: "b", Batch: true})
		arrive(Work{ID: "a3", Client: "a"})               // batch makes way
		arrive(Work{ID: "a4", Client: "a"})               // itself the last
		arrive(Work{ID: "c1", Client: "c"})               // a3 makes way: c has none waiting
		arrive(Work{ID: "impatient", NoWait: true})       // would not wait anyway
		arrive(Work{ID: "b2", Client: "b", Batch: true})  // the last
		arrive(Work{ID: "unknown", Client: "c", Key: ""}) // same model: c's second is behind a2
		pass(20 * time.Second)
		j.want(t, "running", "batch saturated", "a4 saturated", "a3 saturated", "impatient saturated", "b2 saturated", "unknown saturated",
			"a1", "c1", "a2")
	})
}

func TestDrain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := testGate(Limits{Parallel: 1})
		g.Observe(resident("m"))
		var j journal
		go run(t, g, &j, Work{ID: "running", Key: "m"}, 10*time.Second)
		synctest.Wait()
		go run(t, g, &j, Work{ID: "waiting", Key: "m", Promise: -1}, time.Second)
		synctest.Wait()
		idle := g.Idle()
		g.Drain()
		synctest.Wait()
		run(t, g, &j, Work{ID: "new", Key: "m"}, time.Second)
		j.want(t, "running", "waiting draining", "new draining")
		select {
		case <-idle:
			t.Error("idle while a request runs")
		default:
		}
		before := time.Now()
		<-idle
		if took := time.Since(before); took != 10*time.Second {
			t.Errorf("idle after %v, the request had 10 s to go", took)
		}
		<-g.Idle()
		g.Undrain()
		run(t, g, &j, Work{ID: "later", Key: "m"}, time.Second)
		j.want(t, "running", "waiting draining", "new draining", "later")
	})
}

func TestLosingOllamaRefusesWhoWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := testGate(Limits{Parallel: 1})
		g.Observe(resident("m", "n"))
		var j journal
		go run(t, g, &j, Work{ID: "running", Key: "m"}, 10*time.Second)
		synctest.Wait()
		go run(t, g, &j, Work{ID: "waiting", Key: "m", Promise: -1}, time.Second)
		synctest.Wait()
		run(t, g, &j, Work{ID: "unknown", Key: "nosuch"}, time.Second)
		g.Observe(&State{})
		synctest.Wait()
		run(t, g, &j, Work{ID: "new", Key: "m"}, time.Second)
		g.Observe(resident("n"))
		run(t, g, &j, Work{ID: "deleted", Key: "m"}, time.Second)
		j.want(t, "running", "unknown no model", "waiting down", "new down", "deleted no model")
		<-g.Idle()
	})
}

func TestNotifyTellsPlaceAndStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := testGate(Limits{Parallel: 1})
		g.Observe(resident("m"))
		var j journal
		go run(t, g, &j, Work{ID: "running", Key: "m", OutputTokens: 2}, 2*time.Second)
		synctest.Wait()
		go run(t, g, &j, Work{ID: "next", Key: "m", OutputTokens: 3, Promise: -1}, 3*time.Second)
		synctest.Wait()
		began := time.Now()
		var told []string
		leave, err := g.Enter(t.Context(), Work{ID: "me", Key: "m", Promise: -1, Notify: func(position int, start time.Duration) {
			line := fmt.Sprintf("%v: %d in %v", time.Since(began), position, start)
			if len(told) == 0 || told[len(told)-1] != line {
				told = append(told, line)
			}
		}})
		if err != nil {
			t.Fatal(err)
		}
		leave(Usage{})
		want := []string{
			"0s: 2 in 5s", "1s: 2 in 4s", "2s: 1 in 3s", "3s: 1 in 2s", "4s: 1 in 1s",
		}
		// At 2 s the tick and the change fall together, in either order.
		told = slices.DeleteFunc(told, func(s string) bool { return s == "2s: 2 in 3.5s" || s == "2s: 2 in 3s" || s == "5s: 1 in 750ms" })
		if !slices.Equal(told, want) {
			t.Errorf("told %q\nwant %q", told, want)
		}
	})
}

// A queue that changes all the time does not tell each who waits of each change.
func TestNotifyIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := testGate(Limits{Parallel: 1})
		g.Observe(resident("m"))
		first, err := g.Enter(t.Context(), Work{Key: "m"})
		if err != nil {
			t.Fatal(err)
		}
		wait := func(w Work) (leave func()) {
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan struct{})
			go func() { _, _ = g.Enter(ctx, w); close(done) }()
			synctest.Wait()
			return func() { cancel(); <-done }
		}
		var told, last int
		ahead := wait(Work{Key: "m", Promise: -1})
		mine := wait(Work{Key: "m", Promise: -1, Notify: func(position int, _ time.Duration) { told, last = told+1, position }})
		for range 100 {
			leave := wait(Work{Key: "m", Promise: -1})
			pass(10 * time.Millisecond)
			leave()
		}
		synctest.Wait()
		before := last
		ahead()
		pass(newsEvery)
		synctest.Wait()
		if before != 2 || last != 1 {
			t.Errorf("told the place %d, and %d later", before, last)
		}
		if told < 4 || told > 10 {
			t.Errorf("told %d times in 1.25 s", told)
		}
		mine()
		first(Usage{})
	})
}

func TestNotifyMayCancel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := testGate(Limits{Parallel: 1})
		g.Observe(resident("m"))
		leave, err := g.Enter(t.Context(), Work{Key: "m"})
		if err != nil {
			t.Fatal(err)
		}
		moved := errors.New("moved")
		ctx, cancel := context.WithCancelCause(t.Context())
		calls := 0
		_, err = g.Enter(ctx, Work{Key: "m", Promise: -1, Notify: func(int, time.Duration) { calls++; cancel(moved) }})
		if !errors.Is(err, moved) || calls != 1 {
			t.Errorf("err %v after %d calls", err, calls)
		}
		leave(Usage{})
		<-g.Idle()
	})
}

func TestLeaveCountsOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var done []Finished
		g := NewGate(GateConfig{Limits: Limits{Parallel: 2, Speed: oneTokenPerSecond}, Done: func(f Finished) { done = append(done, f) }})
		g.Observe(resident("m", "n"))
		enter := func(key string) func(Usage) {
			leave, err := g.Enter(t.Context(), Work{ID: key, Key: key})
			if err != nil {
				t.Fatal(err)
			}
			return leave
		}
		a := enter("m")
		pass(time.Second)
		b := enter("m")
		other := enter("n")
		pass(time.Second)
		a(Usage{})
		a(Usage{})
		b(Usage{})
		other(Usage{})
		if o := g.Occupancy(nil); o.Running != 0 || o.Waiting != 0 {
			t.Errorf("after all left: %+v", o)
		}
		if len(done) != 3 {
			t.Fatalf("%d requests were reported done, want 3", len(done))
		}
		f := done[0] // alone for 1 s, then 1 s beside one of its model and one of another
		if f.Together != 1.5 || f.Others != 0.5 || f.Took != 2*time.Second || f.Model == nil || f.Model.Key != "m" {
			t.Errorf("first: %+v", f)
		}
		if done[2].Together != 1 || done[2].Others != 1 {
			t.Errorf("the other model's: %+v", done[2])
		}
	})
}

func TestWaitingIsSeen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := testGate(Limits{Parallel: 1})
		g.Observe(resident("m"))
		var j journal
		ids := []string{"running", "one", "two"}
		for _, id := range ids {
			go run(t, g, &j, Work{ID: id, Key: "m", Client: "c", Promise: -1, OutputTokens: 4}, 4*time.Second)
			synctest.Wait()
		}
		want := []Ticket{
			{ID: "one", Key: "m", Client: "c", Since: time.Now(), Position: 1, Start: 4 * time.Second},
			{ID: "two", Key: "m", Client: "c", Since: time.Now(), Position: 2, Start: 8 * time.Second},
		}
		if got := g.Waiting(); !reflect.DeepEqual(got, want) {
			t.Errorf("waiting %+v\nwant %+v", got, want)
		}
		o := g.Occupancy(nil)
		if m := o.Models["m"]; o.Running != 1 || o.Waiting != 2 || m.Running != 1 || m.Waiting != 2 || m.Slots != 1 || m.Start != 12*time.Second {
			t.Errorf("occupancy %+v", o)
		}
		pass(time.Minute)
		j.want(t, ids...)
	})
}

// What is written is counted once, in pieces as they come or all at the end.
func TestWrittenIsCounted(t *testing.T) {
	g := testGate(Limits{Parallel: 2})
	for i, end := range []int{0, 4, 7} {
		leave, err := g.Enter(t.Context(), Work{ID: fmt.Sprint(i), Key: "m", Promise: -1})
		if err != nil {
			t.Fatal(err)
		}
		g.Progress(fmt.Sprint(i), 3)
		g.Progress(fmt.Sprint(i), 5)
		leave(Usage{Usage: wire.Usage{OutputTokens: end}}) // Ollama's own count may differ
		leave(Usage{Usage: wire.Usage{OutputTokens: 1000}})
	}
	if got := g.Occupancy(nil).Written; got != 5+5+7 {
		t.Errorf("%d tokens written", got)
	}
}
