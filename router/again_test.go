package router_test

import (
	"context"
	"errors"
	"net"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/backend"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/ollamatest"
)

var (
	errUnplugged = errors.New("no route to host")
	errAbsent    = &net.OpError{Op: "dial", Net: "tcp", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}
)

// The only capable node, lost before the first byte and alive all the same, is
// asked again.
func TestTheLastCapableNodeIsAskedAgain(t *testing.T) {
	tests := []struct {
		name  string
		harm  func(*world)
		most  time.Duration
		tries string
	}{
		{"its link is silent for six seconds", func(w *world) { w.freeze("a", 6*time.Second) }, 10 * time.Second, "2"},
		{"it cannot be reached for three seconds", func(w *world) {
			w.unplug("a", errUnplugged)
			time.AfterFunc(3*time.Second, func() { w.unplug("a", nil) })
		}, 5 * time.Second, "7"},
		{"its process begins anew at once", func(w *world) {
			w.unplug("a", errAbsent)
			time.AfterFunc(250*time.Millisecond, func() { w.unplug("a", nil) })
		}, time.Second, "3"},
		{"its link is reset", func(w *world) {
			var struck atomic.Bool
			w.enter["a"] = func(ctx context.Context, _ backend.Work) {
				if !struck.Swap(true) {
					w.reset("a")
					<-ctx.Done()
				}
			}
		}, time.Second, "2"},
		{"its Ollama breaks off", func(w *world) { w.owners["a"].Fault(ollamatest.Fault{Kind: ollamatest.Reset, Times: 1}) }, time.Second, "2"},
	}
	for _, tt := range tests {
		for _, stream := range []bool{true, false} {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, byName, fake("a", 0))
				tt.harm(w)
				g := w.ask("/api/generate", generate(5, stream))
				if g.err != nil || !g.whole || ollamatest.Verify(g.text, 5) != nil || g.took > tt.most {
					t.Errorf("%s, stream %v: %v after %v, status %d: %s\n%s", tt.name, stream, g.err, g.took, g.status, g.body, w.log.String())
				}
				if got := g.header.Get("X-Kage-Attempts"); got != tt.tries {
					t.Errorf("%s, stream %v: after %s attempts, want %s", tt.name, stream, got, tt.tries)
				}
			})
		}
	}
}

// The same after the first byte, when nobody else can take the answer up.
func TestTheLastCapableNodeIsAskedToGoOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, byName, fake("a", 2))
		time.AfterFunc(2200*time.Millisecond, func() {
			w.unplug("a", errAbsent) // its process is gone
			w.reset("a")
		})
		time.AfterFunc(4700*time.Millisecond, func() { w.unplug("a", nil) }) // and is back
		g := w.ask("/api/generate", generate(12, true))
		if g.err != nil || !g.whole || ollamatest.Verify(g.text, 12) != nil || g.silences > 5*time.Second {
			t.Errorf("%v, %v of silence: %s", g.err, g.silences, g.body)
		}
	})
}

// Patience with it has an end: it is over when the mesh gives the node up, when
// three tries may have cost work, and after ten seconds at any rate.
func TestPatienceWithTheLastCapableNodeEnds(t *testing.T) {
	tests := []struct {
		name        string
		harm        func(*world)
		least, most time.Duration
		runs        int
		because     string
	}{
		{"it stays out of reach", func(w *world) { w.unplug("a", errUnplugged) }, 9 * time.Second, 11 * time.Second, 0, "a cannot be reached"},
		{"the mesh gives it up", func(w *world) {
			w.unplug("a", errUnplugged)
			time.AfterFunc(2*time.Second, func() { w.gone("a") })
		}, time.Second, 4 * time.Second, 0, "a cannot be reached"},
		{"nothing listens there", func(w *world) { w.unplug("a", errAbsent) }, 500 * time.Millisecond, time.Second, 0, "a cannot be reached"},
		{"it breaks off each time", func(w *world) {
			w.owners["a"].Fault(ollamatest.Fault{Kind: ollamatest.Die, Times: ollamatest.Always})
		}, 0, time.Second, 3, "a answered 502"},
	}
	for _, tt := range tests {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, byName, fake("a", 0))
			tt.harm(w)
			g := w.ask("/api/generate", generate(5, true))
			if g.status != http.StatusServiceUnavailable || !strings.Contains(g.body, tt.because) || g.took < tt.least || g.took > tt.most {
				t.Errorf("%s: status %d after %v: %s", tt.name, g.status, g.took, g.body)
			}
			if n := w.runs("a"); n != tt.runs {
				t.Errorf("%s: it ran %d times, want %d", tt.name, n, tt.runs)
			}
		})
	}
}

// What its Ollama says stands: nobody waits for another answer of it.
func TestAnAnswerOfTheLastCapableNodeStands(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, byName, fake("a", 0))
		w.owners["a"].Fault(ollamatest.Fault{Kind: ollamatest.Status, Status: 500, Text: "sick", Times: ollamatest.Always})
		g := w.ask("/api/generate", generate(5, true))
		if g.status != 500 || !strings.Contains(g.body, "sick") || g.took > 100*time.Millisecond {
			t.Errorf("status %d after %v: %s", g.status, g.took, g.body)
		}
	})
}

// A clean end before the first frame looks like an answer in one piece, of no
// bytes. It is none.
func TestNothingIsNoAnswer(t *testing.T) {
	for _, path := range []string{"/api/generate", "/v1/completions"} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, byName, fake("a", 0), fake("b", 0))
			w.owners["a"].Fault(ollamatest.Fault{Kind: ollamatest.CleanEOF})
			g := w.ask(path, generate(5, true))
			if g.status != http.StatusOK || g.body == "" || g.header.Get("X-Kage-Node") != "b" {
				t.Errorf("%s: %+v", path, g)
			}
		})
	}
}

// A full queue costs no GPU anything: it is none of the three tries that may.
func TestFullQueuesAreNoTries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, byName, fake("a", 0), fake("b", 0), fake("c", 0), fake("d", 0), fake("e", 0))
		for name, kind := range map[string]ollamatest.Kind{"a": ollamatest.Reset, "b": ollamatest.Busy, "c": ollamatest.Reset, "d": ollamatest.Busy} {
			w.owners[name].Fault(ollamatest.Fault{Kind: kind})
		}
		g := w.ask("/api/generate", generate(5, true))
		if g.err != nil || !g.whole || g.header.Get("X-Kage-Node") != "e" || g.header.Get("X-Kage-Attempts") != "5" {
			t.Errorf("%+v", g)
		}
	})
}
