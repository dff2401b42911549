package ollamatest

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

var twoModels = []Model{{Name: "m", Answer: 10, Decode: 10}, {Name: "n", Answer: 10, Decode: 10}}

func TestFaultsBeforeTheAnswer(t *testing.T) {
	request := body("model", "m", "prompt", "hi", "options", greedy)
	for _, tt := range []struct {
		name   string
		fault  Fault
		status int
		body   string
	}{
		{"500", Fault{Kind: Status}, 500, `{"error":"injected fault"}`},
		{"502", Fault{Kind: Status, Status: 502, Text: "bad gateway"}, 502, `{"error":"bad gateway"}`},
		{"body of its own", Fault{Kind: Status, Status: 429, Text: `{"slow":"down"}`}, 429, `{"slow":"down"}`},
		{"queue full", Fault{Kind: Busy}, 503, `{"error":"server busy, please try again.  maximum pending requests exceeded"}`},
		{"failed load", Fault{Kind: FailLoad, Text: "no luck"}, 500, `{"error":"no luck"}`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inBubble(t, Config{Models: twoModels}, func(t *testing.T, b *bubble) {
				b.Fault(tt.fault)
				if r := b.post("/api/generate", request); r.status != tt.status || r.body != tt.body {
					t.Errorf("got %d %s", r.status, r.body)
				}
				if err := Verify(b.answer("/api/generate", request), 10); err != nil {
					t.Errorf("the next request: %v", err)
				}
				if n := b.Stats().Faults; n != 1 {
					t.Errorf("%d faults counted", n)
				}
			})
		})
	}
}

func TestResetAndHang(t *testing.T) {
	inBubble(t, Config{Models: twoModels}, func(t *testing.T, b *bubble) {
		b.Fault(Fault{Kind: Reset})
		if r := b.post("/api/generate", body("model", "m", "prompt", "x")); r.err == nil {
			t.Errorf("reset: got %d", r.status)
		}
		b.Fault(Fault{Kind: Hang})
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		start := time.Now()
		if r := do(ctx, b.client, "POST", "http://ollama/api/generate", body("model", "m", "prompt", "x")); !errors.Is(r.err, context.DeadlineExceeded) || time.Since(start) != time.Hour {
			t.Errorf("hang: %v after %v", r.err, time.Since(start))
		}
		b.Fault(Fault{Kind: Hang, Delay: time.Minute}) // then the answer comes
		start = time.Now()
		after(t, start, b.ask(t.Context(), "/api/generate", body("model", "m", "prompt", "x")), time.Minute+time.Second+100*time.Millisecond)
	})
}

// What a client sees of an answer of ten tokens when something happens to it
// after four, in every streaming dialect.
func TestFaultsInTheAnswer(t *testing.T) {
	requests := map[string]string{
		"/api/generate":        body("model", "m", "prompt", "hi", "options", greedy),
		"/api/chat":            body("model", "m", "messages", user("hi"), "options", greedy),
		"/v1/chat/completions": body("model", "m", "messages", user("hi"), "temperature", 0, "stream", true),
		"/v1/completions":      body("model", "m", "prompt", "hi", "temperature", 0, "stream", true),
		"/v1/messages":         body("model", "m", "messages", user("hi"), "temperature", 0, "stream", true, "max_tokens", 99),
		"/v1/responses":        body("model", "m", "input", "hi", "temperature", 0, "stream", true),
	}
	for _, tt := range []struct {
		name    string
		fault   Fault
		tokens  int // that arrive
		cut     bool
		end     bool // the last record comes
		takes   time.Duration
		invalid int // lines that are no JSON
	}{
		{"die", Fault{Kind: Die}, 4, true, false, 500 * time.Millisecond, 0},
		{"die in a frame", Fault{Kind: Die, Half: true}, 4, true, false, 500 * time.Millisecond, 1},
		{"clean end", Fault{Kind: CleanEOF}, 4, false, false, 500 * time.Millisecond, 0},
		{"error", Fault{Kind: ErrorLine}, 4, false, false, 500 * time.Millisecond, 0},
		{"crash", Fault{Kind: Crash}, 4, false, false, 500 * time.Millisecond, 0},
		{"stall", Fault{Kind: Stall, Delay: time.Minute}, 10, false, true, 61 * time.Second, 0},
		{"drip", Fault{Kind: Drip, Delay: time.Second}, 10, false, true, 8*time.Second + 100*time.Millisecond, 0}, // while it drips, nothing is decoded
		{"malformed", Fault{Kind: Malformed}, 10, false, true, time.Second, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for path, request := range requests {
				inBubble(t, Config{Models: twoModels}, func(t *testing.T, b *bubble) {
					b.answer("/api/generate", body("model", "m", "prompt", "warm up", "options", map[string]any{"num_predict": 1}))
					f := tt.fault
					f.After, f.Path = 4, path
					b.Fault(f)
					start := time.Now()
					r := b.post(path, request)
					took := time.Since(start)
					// The model ends its turn with one more token.
					if want := tt.takes; took != want && took != want+100*time.Millisecond {
						t.Errorf("%s: took %v, want %v", path, took, want)
					}
					if r.status != 200 || (r.err != nil) != tt.cut {
						t.Errorf("%s: status %d, error %v", path, r.status, r.err)
					}
					if err := Verify(r.text(), tt.tokens); err != nil {
						t.Errorf("%s: %v", path, err)
					}
					ended := strings.Contains(r.body, `"done":true`) || strings.Contains(r.body, "[DONE]") ||
						strings.Contains(r.body, "message_stop") || strings.Contains(r.body, "response.completed")
					if ended != tt.end {
						t.Errorf("%s: last record %v", path, ended)
					}
					invalid := 0
					for _, line := range r.lines {
						if !json.Valid([]byte(line)) && line != "[DONE]" {
							invalid++
						}
					}
					if invalid != tt.invalid {
						t.Errorf("%s: %d lines are no JSON", path, invalid)
					}
					if tt.fault.Kind == ErrorLine || tt.fault.Kind == Crash {
						native := strings.HasPrefix(path, "/api/")
						if native != strings.HasSuffix(r.body, `{"error":"an error was encountered while running the model: unexpected EOF"}`+"\n") {
							t.Errorf("%s: ends in %s", path, r.lines[len(r.lines)-1])
						}
					}
					synctest.Wait()
					if s := b.Stats(); s.Running != 0 || s.Faults != 1 {
						t.Errorf("%s: %d still running, %d faults", path, s.Running, s.Faults)
					}
				})
			}
		})
	}
}

func TestFreezeAndKillAfterTokens(t *testing.T) {
	inBubble(t, Config{Models: twoModels}, func(t *testing.T, b *bubble) {
		b.Fault(Fault{Kind: Freeze, After: 3, Delay: time.Minute, Model: "m"})
		start := time.Now()
		r := after(t, start, b.generate(t.Context(), "m", 10), time.Minute+time.Second)
		if err := Verify(r.text(), 10); err != nil {
			t.Error(err)
		}
		b.Fault(Fault{Kind: Kill, After: 3, Model: "m"})
		other := b.generate(t.Context(), "n", 1000)
		victim := b.generate(t.Context(), "m", 1000)
		if r := <-victim; r.err == nil || Verify(r.text(), 3) != nil {
			t.Errorf("killed after 3 tokens: %v %q", r.err, r.text())
		}
		if r := <-other; r.err == nil || Check(r.text()) != nil {
			t.Errorf("the other stream of the killed server: %v %q", r.err, r.text())
		}
		if _, err := b.client.Get("http://ollama/"); err == nil {
			t.Error("the killed server answers")
		}
	})
}

func TestDripInPieces(t *testing.T) {
	inBubble(t, Config{Models: []Model{{Name: "m", Answer: 2}}}, func(t *testing.T, b *bubble) {
		b.Fault(Fault{Kind: Drip, Delay: time.Second, Size: 10})
		start := time.Now()
		r := b.post("/api/generate", body("model", "m", "prompt", "x", "options", greedy))
		pieces := 0
		for _, line := range r.lines {
			pieces += (len(line) + 1 + 9) / 10
		}
		if took := time.Since(start); took != time.Duration(pieces)*time.Second || Verify(r.text(), 2) != nil {
			t.Errorf("took %v for %d pieces: %s", took, pieces, r.body)
		}
	})
}

func TestHugeLine(t *testing.T) {
	inBubble(t, Config{Models: twoModels}, func(t *testing.T, b *bubble) {
		b.Fault(Fault{Kind: HugeLine, After: 1, Size: 1 << 20})
		r := b.post("/api/chat", body("model", "m", "messages", user("x")))
		if len(r.body) < 1<<20 || !r.last().Done {
			t.Errorf("%d bytes, done %v", len(r.body), r.last().Done)
		}
	})
}

func TestFaultsOfAWholeAnswer(t *testing.T) {
	for _, tt := range []struct {
		kind   Kind
		status int // 0 = no answer at all
	}{{Die, 0}, {CleanEOF, 0}, {ErrorLine, 500}, {Crash, 500}, {Malformed, 200}, {Stall, 200}} {
		t.Run(string(tt.kind), func(t *testing.T) {
			inBubble(t, Config{Models: twoModels}, func(t *testing.T, b *bubble) {
				b.Fault(Fault{Kind: tt.kind, After: 4, Delay: time.Second})
				r := b.post("/api/generate", body("model", "m", "prompt", "x", "stream", false))
				if r.status != tt.status || (r.err != nil) != (tt.status == 0) {
					t.Errorf("got %d, %v: %s", r.status, r.err, r.body)
				}
				if json.Valid([]byte(r.body)) == (tt.kind == Malformed) && tt.status != 0 {
					t.Errorf("body %s", r.body)
				}
			})
		})
	}
}

func TestCrashTakesAllRequestsOfTheRunner(t *testing.T) {
	inBubble(t, Config{Models: twoModels, Parallel: 2}, func(t *testing.T, b *bubble) {
		b.Fault(Fault{Kind: Crash, After: 5})
		first := b.generate(t.Context(), "m", 10)
		second := b.generate(t.Context(), "m", 10)
		queued := b.generate(t.Context(), "m", 10)
		other := b.generate(t.Context(), "n", 10)
		for _, c := range []<-chan reply{first, second} {
			if r := <-c; !strings.Contains(r.body, "an error was encountered") {
				t.Errorf("ended with %s", r.body)
			}
		}
		if r := <-queued; r.status != 500 || !strings.Contains(r.body, "unexpectedly stopped") {
			t.Errorf("queued: %d %s", r.status, r.body)
		}
		if err := Verify((<-other).text(), 10); err != nil {
			t.Errorf("the other model: %v", err)
		}
		if r := <-b.generate(t.Context(), "m", 10); Verify(r.text(), 10) != nil || b.Stats().Loads != 3 {
			t.Errorf("after the crash: %d loads, %s", b.Stats().Loads, r.body)
		}
	})
}

func TestSlowLoad(t *testing.T) {
	inBubble(t, Config{Models: twoModels}, func(t *testing.T, b *bubble) {
		b.Fault(Fault{Kind: SlowLoad, Model: "m", Delay: time.Minute})
		after(t, time.Now(), b.generate(t.Context(), "n", 10), time.Second)
		after(t, time.Now(), b.generate(t.Context(), "m", 10), 61*time.Second)
	})
}

func TestFaultMatching(t *testing.T) {
	inBubble(t, Config{Models: twoModels, Seed: 1}, func(t *testing.T, b *bubble) {
		generate := func(model string) int { return b.post("/api/generate", body("model", model, "prompt", "x")).status }
		version := func() int { return do(t.Context(), b.client, "GET", "http://ollama/api/version", "").status }

		b.Fault(Fault{Kind: Status, Model: "m:latest", Times: 2})
		if got := []int{generate("n"), version(), generate("library/M"), generate("m"), generate("m")}; got[0] != 200 || got[1] != 200 || got[2] != 500 || got[3] != 500 || got[4] != 200 {
			t.Errorf("twice for m: %v", got)
		}
		remove := b.Fault(Fault{Kind: Status, Path: "*", Times: Always})
		if a, c := version(), generate("m"); a != 500 || c != 500 {
			t.Errorf("every route: %d, %d", a, c)
		}
		remove()
		b.Fault(Fault{Kind: Status, Path: "/api/version", Times: Always})
		if a, c := version(), generate("m"); a != 500 || c != 200 {
			t.Errorf("one route: %d, %d", a, c)
		}
		b.ClearFaults()
		b.Fault(Fault{Kind: Status, Path: "/api/version", Probability: 0.3})
		failed := 0
		for range 400 {
			if version() == 500 {
				failed++
			}
		}
		if failed < 80 || failed > 160 {
			t.Errorf("a probability of 0.3 hit %d of 400", failed)
		}
	})
}

func TestFreeze(t *testing.T) {
	inBubble(t, Config{Models: twoModels}, func(t *testing.T, b *bubble) {
		start := time.Now()
		running := b.generate(t.Context(), "m", 10)
		time.Sleep(450 * time.Millisecond)
		b.Freeze()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if r := do(ctx, b.client, "GET", "http://ollama/api/version", ""); r.err == nil {
			t.Error("a frozen server answered")
		}
		if n := b.Stats().Tokens; n != 5 { // the fifth is decoded, but not sent
			t.Errorf("%d tokens", n)
		}
		b.Thaw()
		r := <-running
		if err := Verify(r.text(), 10); err != nil {
			t.Error(err)
		}
		if took := time.Since(start); took < time.Minute || took > time.Minute+2*time.Second {
			t.Errorf("took %v", took)
		}
	})
}

func TestCloseAndKillEndEverything(t *testing.T) {
	for name, end := range map[string]func(*Server){"close": func(s *Server) { s.Close() }, "kill": (*Server).Kill} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, Config{Models: twoModels, MaxLoaded: 1}, func(t *testing.T, b *bubble) {
				b.Fault(Fault{Kind: SlowLoad, Model: "n", Delay: time.Hour})
				b.Fault(Fault{Kind: Hang, Path: "/api/version"})
				replies := []<-chan reply{
					b.generate(t.Context(), "m", 100), b.generate(t.Context(), "m", 100), b.generate(t.Context(), "n", 1),
					b.ask(t.Context(), "/api/generate", body("model", "m", "prompt", "x", "stream", false)),
				}
				time.Sleep(time.Second)
				b.Freeze()
				end(b.Server)
				for i, c := range replies {
					if r := <-c; r.err == nil {
						t.Errorf("request %d ended well: %d %s", i, r.status, r.body)
					}
				}
				if s := b.Stats(); s.Running != 0 || s.Waiting != 0 {
					t.Errorf("stats: %+v", s)
				}
			})
		})
	}
}

func TestKillResetsAndRestartServesAgain(t *testing.T) {
	s := Start(t, Config{Models: []Model{{Name: "m", Decode: 1000, Answer: -1, Load: time.Millisecond}}})
	url := s.URL()
	client := tcpClient(t)
	resp, err := client.Post(url+"/api/generate", "", strings.NewReader(body("model", "m", "prompt", "x")))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if _, err := io.ReadFull(resp.Body, make([]byte, 500)); err != nil {
		t.Fatal(err)
	}
	s.Kill()
	if _, err := io.Copy(io.Discard, resp.Body); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("a killed server's stream ended with %v, want a reset", err)
	}
	if _, err := client.Get(url); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("a killed server's port: %v, want refused", err)
	}
	if err := s.Install(Model{Name: "later"}); err != nil {
		t.Fatal(err)
	}
	if err := s.Restart(); err != nil {
		t.Fatal(err)
	}
	if s.URL() != url {
		t.Errorf("restarted at %s, was %s", s.URL(), url)
	}
	for model, want := range map[string]int{"m": 200, "later": 200, "nosuch": 404} {
		r := do(t.Context(), client, "POST", url+"/api/generate", body("model", model, "prompt", "x", "options", map[string]any{"num_predict": 3}))
		if r.status != want {
			t.Errorf("%s after restart: %d %v", model, r.status, r.err)
		}
	}
	if n := s.Stats().Loads; n != 3 {
		t.Errorf("%d loads; the restart should have emptied the memory", n)
	}
}

func TestDieResetsTheConnection(t *testing.T) {
	s := Start(t, Config{Models: twoModels, Speed: 100})
	client := tcpClient(t)
	s.Fault(Fault{Kind: Die, After: 3})
	r := do(t.Context(), client, "POST", s.URL()+"/api/generate", body("model", "m", "prompt", "x"))
	if !errors.Is(r.err, syscall.ECONNRESET) || r.status != 200 {
		t.Errorf("status %d, error %v, want a reset", r.status, r.err)
	}
	if err := Verify(r.text(), 3); err != nil {
		t.Error(err)
	}
	s.Fault(Fault{Kind: Reset})
	if r := do(t.Context(), client, "POST", s.URL()+"/api/generate", body("model", "m", "prompt", "x")); r.err == nil {
		t.Errorf("reset before headers: %d", r.status)
	}
}

func TestHandlerAlone(t *testing.T) {
	// Without Serve the server has no listener, but dies all the same.
	inBubble(t, Config{}, func(t *testing.T, _ *bubble) {
		s, pipe := New(Config{Models: twoModels}), NewPipe()
		web := &http.Server{Handler: s.Handler()}
		go web.Serve(pipe)
		defer web.Close()
		b := &bubble{s, t, pipe.Client()}
		c := b.generate(t.Context(), "m", 100)
		time.Sleep(time.Second)
		s.Kill()
		if r := <-c; r.err == nil {
			t.Error("the stream ended well")
		}
		if r := b.post("/api/generate", body("model", "m", "prompt", "x")); r.err == nil {
			t.Errorf("a dead server answered %d", r.status)
		}
	})
}
