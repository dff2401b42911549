package router_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/ollamatest"
)

func fake(name string, decode float64) ollamatest.Config {
	return ollamatest.Config{Name: name, Parallel: 8, Models: []ollamatest.Model{{Name: "m", Size: 1 << 20, Decode: decode}}}
}

// A cold load of a minute is waited for: the owner says that it lives.
func TestAColdLoadOfAMinuteIsWaitedFor(t *testing.T) {
	for _, stream := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, byName, fake("a", 0), fake("b", 0))
			w.owners["a"].Fault(ollamatest.Fault{Kind: ollamatest.SlowLoad, Delay: time.Minute})
			g := w.ask("/api/generate", generate(5, stream))
			if g.err != nil || !g.whole || ollamatest.Verify(g.text, 5) != nil || g.took < time.Minute || g.took > time.Minute+time.Second {
				t.Errorf("%+v", g)
			}
			if w.runs("a") != 1 || w.runs("b") != 0 {
				t.Errorf("ran %d and %d times", w.runs("a"), w.runs("b"))
			}
		})
	}
}

// An answer in one piece that takes three minutes, as of a 72B model at 2.8
// tokens a second, is not restarted: nothing but its end says anything.
func TestALongAnswerInOnePieceIsNotRestarted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, byName, fake("a", 2.8), fake("b", 2.8))
		g := w.ask("/api/generate", generate(505, false))
		if g.err != nil || ollamatest.Verify(g.text, 505) != nil || g.took < 3*time.Minute || w.runs("a") != 1 || w.runs("b") != 0 {
			t.Errorf("%v after %v, ran %d and %d times", g.err, g.took, w.runs("a"), w.runs("b"))
		}
	})
}

// An owner that lives and says nothing more is left after the idle limit; one
// that membership has given up as well, much sooner. A slow one is neither.
func TestSilenceInsideAnAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, byName, fake("a", 2), fake("b", 2))
		w.owners["a"].Fault(ollamatest.Fault{Kind: ollamatest.Stall, After: 4})
		g := w.ask("/api/generate", generate(12, true))
		if g.err != nil || !g.whole || ollamatest.Verify(g.text, 12) != nil || g.silences < 119*time.Second || g.silences > 122*time.Second {
			t.Errorf("silent: %v after %v of silence: %q", g.err, g.silences, g.text)
		}
		if c := w.ingress.Continued(); c.Breaks[router.ContinuedKey{Cause: "silent", Path: "exact"}] != 1 {
			t.Errorf("counted %+v", c)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, byName, fake("a", 2), fake("b", 2))
		w.owners["a"].Fault(ollamatest.Fault{Kind: ollamatest.Stall, After: 4})
		time.AfterFunc(5*time.Second, func() { w.gone("a") })
		g := w.ask("/api/generate", generate(12, true))
		if g.err != nil || !g.whole || ollamatest.Verify(g.text, 12) != nil || g.silences > 15*time.Second {
			t.Errorf("silent and given up: %v after %v of silence: %q", g.err, g.silences, g.text)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, byName, fake("a", 1), fake("b", 1))
		time.AfterFunc(2500*time.Millisecond, func() { w.gone("a") })
		g := w.ask("/api/generate", generate(12, true))
		if g.err != nil || !g.whole || w.runs("b") != 0 {
			t.Errorf("given up and flowing: %v, %q", g.err, g.text)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, byName, fake("a", 0), fake("b", 0))
		w.owners["a"].Fault(ollamatest.Fault{Kind: ollamatest.Drip, After: 2, Delay: 100 * time.Second})
		g := w.ask("/api/generate", generate(5, true))
		if g.err != nil || !g.whole || ollamatest.Verify(g.text, 5) != nil || w.runs("b") != 0 {
			t.Errorf("dripping: %v, %q", g.err, g.text)
		}
	})
}

// What another balancer passes on to its clients, or makes worse.
func TestFailuresBeforeTheFirstByte(t *testing.T) {
	tests := []struct {
		name    string
		fault   ollamatest.Fault
		request map[string]any
		status  int
		body    string
		b       int // runs on the other owner
	}{
		{"503 of a full queue, streamed", ollamatest.Fault{Kind: ollamatest.Busy}, generate(5, true), 200, "", 1},
		{"503 of a full queue", ollamatest.Fault{Kind: ollamatest.Busy}, generate(5, false), 200, "", 1},
		{"500", ollamatest.Fault{Kind: ollamatest.Status, Status: 500, Text: "no luck"}, generate(5, true), 200, "", 1},
		{"reset after the request", ollamatest.Fault{Kind: ollamatest.Reset}, generate(5, true), 200, "", 1},
		{"reset inside an answer in one piece", ollamatest.Fault{Kind: ollamatest.Die, After: 3}, generate(5, false), 200, "", 1},
		{"a stream that dies before its first token", ollamatest.Fault{Kind: ollamatest.Die}, generate(5, true), 200, "", 1},
		{"400 of Ollama's own, streamed", ollamatest.Fault{Kind: ollamatest.Status, Status: 400, Text: "bad thing"}, generate(5, true), 400, `{"error":"bad thing"}`, 0},
		{"422", ollamatest.Fault{Kind: ollamatest.Status, Status: 422, Text: "worse"}, generate(5, false), 422, `{"error":"worse"}`, 0},
		{"a model that is gone there", ollamatest.Fault{Kind: ollamatest.Status, Status: 404, Text: "model 'm' not found"}, generate(5, true), 200, "", 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, byName, fake("a", 0), fake("b", 0))
				w.owners["a"].Fault(tt.fault)
				g := w.ask("/api/generate", tt.request)
				if g.status != tt.status || g.err != nil || w.runs("b") != tt.b {
					t.Fatalf("%+v, %d runs on b", g, w.runs("b"))
				}
				if tt.status == http.StatusOK && (!g.whole || ollamatest.Verify(g.text, 5) != nil || g.header.Get("X-Kage-Attempts") != "2") {
					t.Errorf("%+v", g)
				}
				if began := g.header.Get("X-Kage-Continued"); (began == "restart") != (strings.HasPrefix(tt.name, "reset") || strings.Contains(tt.name, "dies")) {
					t.Errorf("continued %q", began)
				}
				if tt.body != "" && strings.TrimSpace(g.body) != tt.body {
					t.Errorf("body %q, want %q", g.body, tt.body)
				}
			})
		})
	}
}

// When nobody can, the client is told so in its dialect, and when to come back.
func TestWhenEveryNodeIsFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, byName, fake("a", 0), fake("b", 0))
		for _, o := range w.owners {
			o.Fault(ollamatest.Fault{Kind: ollamatest.Busy, Times: ollamatest.Always})
		}
		g := w.ask("/api/generate", generate(5, true))
		if g.status != http.StatusServiceUnavailable || !strings.Contains(g.body, "server busy") {
			t.Errorf("%+v", g)
		}
	})
}

// A node that fails fast looks idle. It must not attract what a healthy one
// could do: nobody's request fails, few are even tried there, and once it is
// well again it gets work again by itself.
func TestASickNodeBesideAHealthyOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil, fake("a", 0), fake("b", 0))
		heal := w.owners["a"].Fault(ollamatest.Fault{Kind: ollamatest.Status, Status: 500, Times: ollamatest.Always})
		failed, asked := 0, 0
		ask := func() got { // something new each time, that no node has cached
			asked++
			return w.ask("/api/generate", with(generate(3, true), "prompt", fmt.Sprint(asked)))
		}
		for range 100 {
			if g := ask(); g.err != nil || !g.whole {
				failed++
				t.Errorf("%+v", g)
			}
			time.Sleep(100 * time.Millisecond)
		}
		tries := w.owners["a"].Stats().Requests["POST /api/generate"]
		t.Logf("%d of 100 failed; the sick node was tried %d times in 10 s", failed, tries)
		if tries == 0 || tries > 10 {
			t.Errorf("the sick node was tried %d times", tries)
		}
		heal()
		healed := time.Now()
		for w.runs("a") == 0 {
			if time.Since(healed) > 2*time.Minute {
				t.Fatal("the node is well and gets no work")
			}
			if g := ask(); !g.whole {
				t.Errorf("%+v", g)
			}
			time.Sleep(time.Second)
		}
		t.Logf("it got work again %v after it was well", time.Since(healed))
	})
}

// The last node that can is never left out, however sick it was.
func TestTheLastCapableNodeIsNeverEjected(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil, fake("a", 0))
		heal := w.owners["a"].Fault(ollamatest.Fault{Kind: ollamatest.Status, Status: 500, Text: "sick", Times: ollamatest.Always})
		for i := range 20 {
			if g := w.ask("/api/generate", generate(3, true)); g.status != 500 || !strings.Contains(g.body, "sick") {
				t.Errorf("request %d: %+v", i, g)
			}
		}
		if n := w.owners["a"].Stats().Requests["POST /api/generate"]; n != 20 {
			t.Errorf("it was asked %d times of 20", n)
		}
		heal()
		if g := w.ask("/api/generate", generate(3, true)); g.err != nil || !g.whole {
			t.Errorf("well again: %+v", g)
		}
	})
}

// A client that leaves while its answer is being taken up elsewhere stops that,
// too, and it is nobody's fault.
func TestAClientThatLeavesDuringAContinuation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, byName, fake("a", 1), fake("b", 1))
		w.owners["a"].Fault(ollamatest.Fault{Kind: ollamatest.Die, After: 3})
		w.client.Timeout = 6500 * time.Millisecond
		g := w.ask("/api/generate", generate(100, true))
		if g.err == nil || g.whole || w.runs("b") == 0 {
			t.Fatalf("%+v", g)
		}
		left := time.Now()
		for w.owners["b"].Stats().Running > 0 {
			time.Sleep(10 * time.Millisecond)
			if time.Since(left) > time.Second {
				t.Fatal("the work goes on a second after the client left")
			}
		}
		// Nobody is held responsible: the next request goes there first.
		w.client.Timeout = 0
		if g := w.ask("/api/generate", generate(2, true)); !g.whole {
			t.Errorf("%+v", g)
		}
	})
}

// A rejoined member is another one: an answer that lost all others goes back
// to it.
func TestANodeThatCameBackMayGoOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, byName, fake("a", 1), fake("b", 1))
		w.owners["a"].Fault(ollamatest.Fault{Kind: ollamatest.Die, After: 3})
		w.owners["b"].Fault(ollamatest.Fault{Kind: ollamatest.Die, After: 3, Path: "/api/generate", Times: ollamatest.Always})
		time.AfterFunc(5500*time.Millisecond, func() { w.returned("a") })
		g := w.ask("/api/generate", generate(10, true))
		if g.err != nil || !g.whole || ollamatest.Verify(g.text, 10) != nil {
			t.Errorf("%+v", g)
		}
		if w.runs("a") != 2 {
			t.Errorf("a ran it %d times", w.runs("a"))
		}
	})
}

func TestNoTextInLogsOrHeaders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, byName, fake("a", 0), fake("b", 0))
		w.owners["a"].Fault(ollamatest.Fault{Kind: ollamatest.Die, After: 3})
		body := generate(6, true)
		body["prompt"] = "secretword"
		g := w.ask("/api/generate", body)
		if !g.whole || strings.Contains(fmt.Sprint(g.header), "secret") {
			t.Errorf("%+v", g)
		}
		if log := w.log.String(); strings.Contains(log, "secretword") || strings.Contains(log, strings.TrimSpace(g.text[:8])) || !strings.Contains(log, "answer broke off") {
			t.Errorf("the log: %s", log)
		}
	})
}
