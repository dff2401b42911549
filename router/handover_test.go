package router_test

import (
	"errors"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/ollamatest"
)

// An owner that must be free hands over what it does for others: streams go on
// from where they are, answers in one piece are made anew, and nobody holds
// that against it.
func TestAnOwnerHandsItsAnswersOver(t *testing.T) {
	for _, stream := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, byName, fake("a", 2), fake("b", 2))
			time.AfterFunc(3200*time.Millisecond, func() { w.routers["a"].HandOver(true) })
			g := w.ask("/api/generate", generate(12, stream))
			if g.err != nil || !g.whole || ollamatest.Verify(g.text, 12) != nil || w.runs("b") != 1 {
				t.Fatalf("stream %v: %+v", stream, g)
			}
			breaks := w.ingress.Continued().Breaks
			if stream && breaks[router.ContinuedKey{Cause: "drained", Path: "exact"}] != 1 || !stream && len(breaks) != 0 {
				t.Errorf("stream %v: %+v", stream, breaks)
			}
			if stream && g.silences > time.Second {
				t.Errorf("%v of silence", g.silences)
			}
			if trouble := w.ingress.Snapshot(router.Request{Key: "m:latest"}).Trouble; len(trouble) > 0 {
				t.Errorf("held against it: %v", trouble)
			}
			// What comes is not handed over: the gate decides on that.
			if g := w.ask("/api/generate", generate(3, stream)); !g.whole || w.runs("a") != 2 {
				t.Errorf("afterwards: %+v", g)
			}
		})
	}
}

// It may happen more often than a request may fail: a rolling restart of a
// whole mesh hands a long answer from node to node.
func TestAnAnswerIsHandedOverManyTimes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		names := []string{"a", "b", "c", "d", "e", "f"}
		var fakes []ollamatest.Config
		for _, n := range names {
			fakes = append(fakes, fake(n, 1))
		}
		w := newWorld(t, byName, fakes...)
		for i, n := range names[:5] {
			// Each leaves for good: those before it are not there any more.
			time.AfterFunc(time.Duration(i)*4*time.Second+3500*time.Millisecond, func() {
				w.gone(n)
				w.routers[n].HandOver(true)
			})
		}
		g := w.ask("/api/generate", generate(40, true))
		if g.err != nil || !g.whole || ollamatest.Verify(g.text, 40) != nil || w.runs("f") != 1 {
			t.Errorf("%+v\n%s", g, w.log.String())
		}
	})
}

// When the ingress itself stops, its clients learn it in their dialect.
func TestStoppingTellsTheClients(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, byName, fake("a", 1))
		time.AfterFunc(5500*time.Millisecond, w.ingress.Stop)
		g := w.ask("/api/generate", generate(40, true))
		if !errors.Is(g.err, io.ErrUnexpectedEOF) || g.whole || !strings.Contains(g.body, `{"error":"`) || !strings.Contains(g.body, "being stopped") {
			t.Errorf("stream: %+v", g)
		}
		time.AfterFunc(5500*time.Millisecond, w.ingress.Stop)
		g = w.ask("/api/generate", generate(40, false))
		if g.status != 503 || !strings.Contains(g.body, "being stopped") || g.header.Get("Retry-After") == "" {
			t.Errorf("in one piece: %+v", g)
		}
		for range 20 {
			synctest.Wait()
			time.Sleep(100 * time.Millisecond)
		}
		if n := w.owners["a"].Stats().Running; n != 0 {
			t.Errorf("%d still run", n)
		}
	})
}
