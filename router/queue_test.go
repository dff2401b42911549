package router_test

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/backend"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/ollamatest"
)

// A request that has left the queue is not moved for its place there, which an
// owner used to repeat until the first byte: its work would be done twice.
func TestARunningRequestIsNotMovedForTheQueueThatItLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begun := time.Now()
		freeLater := func(q router.Request, s router.Snapshot) []router.Candidate {
			cs := byName(q, s)
			for i := range cs {
				if cs[i].Name == "b" && time.Since(begun) < 3*time.Second {
					cs[i].Estimate.Wait = time.Minute
				}
			}
			return cs
		}
		w := newWorld(t, freeLater, fake("a", 0), fake("b", 0))
		w.enter["a"] = func(_ context.Context, work backend.Work) { work.Notify(1, 10*time.Second) }
		w.owners["a"].Fault(ollamatest.Fault{Kind: ollamatest.SlowLoad, Delay: 8 * time.Second})
		g := w.ask("/api/generate", generate(5, true))
		if g.err != nil || !g.whole || ollamatest.Verify(g.text, 5) != nil || g.took < 8*time.Second {
			t.Errorf("%+v", g)
		}
		if w.runs("a") != 1 || w.runs("b") != 0 || w.owners["a"].Stats().Cancelled != 0 {
			t.Errorf("ran %d and %d times", w.runs("a"), w.runs("b"))
		}
	})
}

// sooner asks a first; b would do it sooner once moves is closed. It is told of
// every choice from then on.
func sooner(moves <-chan struct{}, chosen func()) router.Policy {
	return func(q router.Request, s router.Snapshot) []router.Candidate {
		cs := byName(q, s)
		for i := range cs {
			select {
			case <-moves:
				if cs[i].Name == "a" {
					chosen()
				}
			default:
				if cs[i].Name == "b" {
					cs[i].Estimate.Wait = time.Minute
				}
			}
		}
		return cs
	}
}

// A request moves only when its place was given up before its work began: an
// owner that starts it while its ingress finds a better node keeps it.
func TestWorkThatBeginsDuringAMoveStays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		waits, started := make(chan struct{}), make(chan struct{})
		var w *world
		start := sync.OnceFunc(func() {
			close(started)
			for w.runs("a") == 0 {
				time.Sleep(time.Millisecond)
			}
		})
		w = newWorld(t, sooner(waits, start), fake("a", 0), fake("b", 0))
		w.enter["a"] = func(_ context.Context, work backend.Work) {
			close(waits)
			work.Notify(1, 10*time.Second)
			<-started
		}
		w.owners["a"].Fault(ollamatest.Fault{Kind: ollamatest.SlowLoad, Delay: 3 * time.Second})
		g := w.ask("/api/generate", generate(5, true))
		if g.err != nil || !g.whole || ollamatest.Verify(g.text, 5) != nil || g.header.Get("X-Kage-Attempts") != "1" {
			t.Errorf("%+v", g)
		}
		if w.runs("a") != 1 || w.runs("b") != 0 || w.owners["a"].Stats().Cancelled != 0 {
			t.Errorf("ran %d and %d times", w.runs("a"), w.runs("b"))
		}
	})
}

// One that still waits is let go by its owner, and runs once, elsewhere.
func TestAWaitingRequestMoves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		waits := make(chan struct{})
		w := newWorld(t, sooner(waits, func() {}), fake("a", 0), fake("b", 0))
		w.enter["a"] = func(ctx context.Context, work backend.Work) {
			close(waits)
			work.Notify(1, 10*time.Second)
			<-ctx.Done()
		}
		g := w.ask("/api/generate", generate(5, true))
		if g.err != nil || !g.whole || ollamatest.Verify(g.text, 5) != nil || g.header.Get("X-Kage-Attempts") != "2" || g.took > time.Second {
			t.Errorf("%+v", g)
		}
		if w.runs("a") != 0 || w.runs("b") != 1 {
			t.Errorf("ran %d and %d times", w.runs("a"), w.runs("b"))
		}
	})
}

// Owners that are lost while a request waits in their queues have done no work
// for it: that may happen more often than a request may be tried.
func TestLossesInQueuesAreNoTries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, byName, fake("a", 0), fake("b", 0))
		losses := 0
		for _, name := range []string{"a", "b"} {
			w.enter[name] = func(ctx context.Context, work backend.Work) {
				if losses == 5 {
					return
				}
				losses++
				work.Notify(1, 0)
				time.AfterFunc(2*time.Second, func() { w.reset(name) })
				<-ctx.Done()
			}
		}
		g := w.ask("/api/generate", generate(5, true))
		if g.err != nil || !g.whole || ollamatest.Verify(g.text, 5) != nil || losses != 5 {
			t.Errorf("after %d losses: %+v", losses, g)
		}
		if w.runs("a")+w.runs("b") != 1 {
			t.Errorf("ran %d and %d times", w.runs("a"), w.runs("b"))
		}
	})
}

// What the ingress assumed of a node's company reaches its owner, who can tell
// whether it is still so.
func TestTheOwnerHearsWhatItsIngressAssumed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, func(q router.Request, s router.Snapshot) []router.Candidate {
			cs := byName(q, s)
			for i := range cs {
				cs[i].Estimate.Wait, cs[i].Estimate.Slow = 2*time.Second, 1.3
			}
			return cs
		}, fake("a", 0))
		var heard backend.Work
		w.enter["a"] = func(_ context.Context, work backend.Work) { heard = work }
		if g := w.ask("/api/generate", generate(5, true)); g.err != nil || !g.whole {
			t.Fatalf("%+v", g)
		}
		if heard.Promise != 2*time.Second || heard.Slow != 1.3 {
			t.Errorf("start promised %v, slowed down %v", heard.Promise, heard.Slow)
		}
	})
}
