package backend

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// TestGateUnderChaos lets hundreds of clients come, wait, give up, work and
// leave, while Ollama changes under them, and counts who owns what.
func TestGateUnderChaos(t *testing.T) {
	for seed := range uint64(5) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { synctest.Test(t, func(t *testing.T) { chaos(t, seed) }) })
	}
}

func chaos(t *testing.T, seed uint64) {
	const slots = 2
	keys := []string{"a", "b", "twin1", "twin2"}
	state := func(loaded int) *State {
		s := disk(loaded, keys...)
		s.Polled = time.Now()
		return s
	}
	var mu sync.Mutex
	running, finished := map[string]int{}, 0
	g := NewGate(GateConfig{
		Limits: Limits{Parallel: slots, MaxLoaded: 2, Queue: 40, Speed: oneTokenPerSecond},
		Done:   func(Finished) { mu.Lock(); finished++; mu.Unlock() },
	})
	g.Observe(state(1))

	var wg sync.WaitGroup
	entered, refused, gone := 0, 0, 0
	gaveUp := errors.New("gave up")
	for i := range 600 {
		rng := rand.New(rand.NewPCG(seed, uint64(i)))
		wg.Go(func() {
			pass(time.Duration(rng.IntN(120_000)) * time.Millisecond)
			ctx, cancel := context.WithCancelCause(t.Context())
			defer cancel(nil)
			if rng.IntN(3) == 0 { // an impatient one; at times in the moment of its turn
				time.AfterFunc(time.Duration(rng.IntN(5))*time.Second, func() { cancel(gaveUp) })
			}
			w := Work{
				ID: fmt.Sprint(i), Key: keys[rng.IntN(len(keys))], Client: fmt.Sprint(rng.IntN(5)), Batch: rng.IntN(4) == 0,
				Promise: time.Duration(rng.IntN(40)-10) * time.Second, OutputTokens: 1 + rng.IntN(4),
			}
			if rng.IntN(2) == 0 {
				w.Notify = func(position int, start time.Duration) {
					if position < 1 || position > 41 || start < 0 {
						t.Errorf("place %d, start %v", position, start)
					}
				}
			}
			leave, err := g.Enter(ctx, w)
			mu.Lock()
			if err != nil {
				defer mu.Unlock()
				switch {
				case leave != nil:
					t.Error("an error and a slot")
				case errors.Is(err, gaveUp):
					gone++
				case errors.As(err, new(*Refused)):
					refused++
				default:
					t.Errorf("%v", err)
				}
				return
			}
			runner := w.Key[:1]
			entered++
			running[runner]++
			if running[runner] > slots {
				t.Errorf("%d run on %s", running[runner], runner)
			}
			mu.Unlock()
			pass(time.Duration(w.OutputTokens)*time.Second - 500*time.Millisecond)
			g.Progress(w.ID, 1)
			pass(500 * time.Millisecond)
			mu.Lock()
			running[runner]--
			mu.Unlock()
			leave(Usage{})
		})
	}
	wg.Go(func() {
		rng := rand.New(rand.NewPCG(seed, 1<<40))
		for range 130 {
			pass(time.Second)
			switch rng.IntN(25) {
			case 0:
				g.Observe(&State{Polled: time.Now()})
			case 1:
				g.Drain()
				g.Undrain()
			default:
				g.Observe(state(rng.IntN(3)))
			}
			_, _ = g.Occupancy(keys), g.Waiting()
		}
	})
	wg.Wait()
	<-g.Idle()
	if entered+refused+gone != 600 || entered != finished {
		t.Errorf("%d entered of whom %d finished, %d were refused, %d gave up, of 600", entered, finished, refused, gone)
	}
	if entered < 50 || refused < 20 || gone < 20 {
		t.Errorf("%d entered, %d refused, %d gave up: this proves little", entered, refused, gone)
	}
	if len(g.byID) != 0 {
		t.Errorf("%d ids are remembered", len(g.byID))
	}
}

// A gate on the way of every request must cost nothing beside it: prefill of
// one token takes milliseconds. BenchmarkEnter is one request alone; queue=n
// lets one in and out while n others wait, which includes waking the next.
func BenchmarkEnter(b *testing.B) {
	b.Run("free", func(b *testing.B) {
		g := testGate(Limits{Parallel: 4})
		g.Observe(resident("m"))
		b.ReportAllocs()
		for b.Loop() {
			leave, err := g.Enter(b.Context(), Work{Key: "m", Promise: -1})
			if err != nil {
				b.Fatal(err)
			}
			leave(Usage{})
		}
	})
	b.Run("contended", func(b *testing.B) {
		g := testGate(Limits{Parallel: 4})
		g.Observe(resident("m"))
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				leave, err := g.Enter(b.Context(), Work{Key: "m", Promise: -1})
				if err != nil {
					b.Error(err)
					return
				}
				leave(Usage{})
			}
		})
	})
	for _, n := range []int{8, 63} {
		b.Run(fmt.Sprintf("queue=%d", n), func(b *testing.B) {
			a := NewAdmission(Limits{Parallel: 2, Speed: oneTokenPerSecond})
			a.Observe(t0, resident("m"))
			for range n + 2 {
				a.Enter(t0, Work{Key: "m", Promise: -1})
			}
			a.Settle(t0)
			b.ReportAllocs()
			for b.Loop() {
				a.Leave(t0, a.running[0], true)
				a.Enter(t0, Work{Key: "m", Promise: -1})
				a.Settle(t0)
			}
		})
	}
}

func BenchmarkProgress(b *testing.B) {
	g := testGate(Limits{Parallel: 4})
	g.Observe(resident("m"))
	leave, err := g.Enter(b.Context(), Work{ID: "x", Key: "m", Promise: -1})
	if err != nil {
		b.Fatal(err)
	}
	defer leave(Usage{})
	n := 0
	for b.Loop() {
		n++
		g.Progress("x", n)
	}
}

// BenchmarkOccupancy is what one report of load costs.
func BenchmarkOccupancy(b *testing.B) {
	for _, n := range []int{0, 8, 63} {
		b.Run(fmt.Sprintf("queue=%d", n), func(b *testing.B) {
			g := testGate(Limits{Parallel: 2})
			g.Observe(resident("m", "n", "o"))
			for i := range n {
				g.a.Enter(time.Now(), Work{Key: []string{"m", "n", "o"}[i%3], Promise: -1})
			}
			g.a.Settle(time.Now())
			b.ReportAllocs()
			for b.Loop() {
				_ = g.Occupancy([]string{"m", "n", "o"})
			}
		})
	}
}
