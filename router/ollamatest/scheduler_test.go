package ollamatest

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// ask starts a request in its own goroutine; the channel gives its reply.
func (b *bubble) ask(ctx context.Context, path, body string) <-chan reply {
	c := make(chan reply, 1)
	go func() { c <- do(ctx, b.client, "POST", "http://ollama"+path, body) }()
	synctest.Wait() // the request is where it waits for time to pass
	return c
}

// generate starts a generation of n tokens.
func (b *bubble) generate(ctx context.Context, model string, n int, more ...any) <-chan reply {
	options := map[string]any{"temperature": 0, "num_predict": n}
	for i := 0; i < len(more); i += 2 {
		options[more[i].(string)] = more[i+1]
	}
	return b.ask(ctx, "/api/generate", body("model", model, "prompt", "hi", "options", options))
}

// names lists what /api/ps shows.
func (b *bubble) ps() []string {
	b.t.Helper()
	r := do(b.t.Context(), b.client, "GET", "http://ollama/api/ps", "")
	var list struct{ Models []struct{ Name string } }
	decodeLine(b.t, r.body, &list)
	var names []string
	for _, m := range list.Models {
		names = append(names, strings.TrimSuffix(m.Name, ":latest"))
	}
	slices.Sort(names)
	return names
}

// after reads a reply and checks how long it took since start.
func after(t *testing.T, start time.Time, c <-chan reply, want time.Duration) reply {
	t.Helper()
	r := <-c
	if r.err != nil || r.status != 200 {
		t.Fatalf("status %d, err %v: %s", r.status, r.err, r.body)
	}
	if took := time.Since(start); took != want {
		t.Errorf("took %v, want %v", took, want)
	}
	return r
}

func TestTimesOfOneRequest(t *testing.T) {
	m := Model{Name: "m", Load: 3 * time.Second, Decode: 10, Prefill: 4}
	inBubble(t, Config{Models: []Model{m}}, func(t *testing.T, b *bubble) {
		// <|user|> hi <|end|> <|assistant|>: 4 prompt tokens, 1 s; 20 tokens, 2 s.
		r := after(t, time.Now(), b.generate(t.Context(), "m", 20), 6*time.Second)
		end := r.last()
		if end.LoadDuration != 3*time.Second || end.PromptEvalDuration != time.Second ||
			end.EvalDuration != 2*time.Second || end.TotalDuration != 6*time.Second {
			t.Errorf("durations: %+v", end)
		}
		if end.PromptEvalCount != 4 || end.EvalCount != 20 || end.DoneReason != "length" {
			t.Errorf("counts: %+v", end)
		}
		if err := Verify(r.text(), 20); err != nil {
			t.Error(err)
		}
		// Warm, and the prompt is cached but for its last token.
		after(t, time.Now(), b.generate(t.Context(), "m", 20), 2250*time.Millisecond)
	})
}

func TestSpeedScalesEverything(t *testing.T) {
	m := Model{Name: "m", Load: 3 * time.Second, Decode: 10, Prefill: 4}
	inBubble(t, Config{Models: []Model{m}, Speed: 10}, func(t *testing.T, b *bubble) {
		after(t, time.Now(), b.generate(t.Context(), "m", 20), 600*time.Millisecond)
	})
}

func TestHeadersComeWithTheFirstToken(t *testing.T) {
	m := Model{Name: "m", Load: time.Second, Decode: 2}
	inBubble(t, Config{Models: []Model{m}}, func(t *testing.T, b *bubble) {
		start := time.Now()
		resp, err := b.client.Post("http://ollama/api/generate", "", strings.NewReader(body("model", "m", "prompt", "hi")))
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if took := time.Since(start); took != 1500*time.Millisecond {
			t.Errorf("headers after %v, want load plus one token", took)
		}
	})
}

func TestSlotsAreServedInOrder(t *testing.T) {
	m := Model{Name: "m", Decode: 10}
	inBubble(t, Config{Models: []Model{m}, Parallel: 2}, func(t *testing.T, b *bubble) {
		start := time.Now()
		var waiting []<-chan reply
		for range 5 { // 10 tokens each, two at a time, no slow-down
			waiting = append(waiting, b.generate(t.Context(), "m", 10))
		}
		if s := b.Stats(); s.Running != 2 || s.Waiting != 3 {
			t.Errorf("%d run, %d wait; want 2 and 3", s.Running, s.Waiting)
		}
		for i, c := range waiting {
			after(t, start, c, time.Duration(i/2+1)*time.Second)
		}
		if s := b.Stats(); s.MaxRunning["m:latest"] != 2 || s.Completed != 5 || s.Tokens != 50 {
			t.Errorf("stats: %+v", s)
		}
	})
}

func TestBatchingSlowsEveryone(t *testing.T) {
	m := Model{Name: "m", Decode: 10}
	for _, tt := range []struct {
		slope float64
		want  time.Duration // of four requests of ten tokens together
	}{{0, time.Second}, {0.5, 2500 * time.Millisecond}, {1, 4 * time.Second}} {
		inBubble(t, Config{Models: []Model{m}, Parallel: 4, Batching: tt.slope}, func(t *testing.T, b *bubble) {
			start := time.Now()
			var all []<-chan reply
			for range 4 {
				all = append(all, b.generate(t.Context(), "m", 10))
			}
			for _, c := range all {
				<-c
			}
			// The first token of the first request is decoded alone.
			if took := time.Since(start); took > tt.want || took < tt.want-400*time.Millisecond {
				t.Errorf("slope %v: took %v, want about %v", tt.slope, took, tt.want)
			}
		})
	}
}

func TestTwoModelsShareTheDevice(t *testing.T) {
	models := []Model{{Name: "a", Decode: 10}, {Name: "b", Decode: 10}}
	inBubble(t, Config{Models: models}, func(t *testing.T, b *bubble) {
		start := time.Now()
		one, two := b.generate(t.Context(), "a", 10), b.generate(t.Context(), "b", 10)
		<-one
		<-two
		if took := time.Since(start); took < 1900*time.Millisecond {
			t.Errorf("two models at once took %v, want nearly 2 s", took)
		}
	})
}

func TestLoadedModelIsServedWhileAnotherLoads(t *testing.T) {
	models := []Model{{Name: "small", Decode: 10}, {Name: "big", Load: 5 * time.Second}}
	for _, tt := range []struct {
		old  bool
		want time.Duration
	}{{false, time.Second}, {true, 6 * time.Second}} {
		inBubble(t, Config{Models: models, OldScheduler: tt.old}, func(t *testing.T, b *bubble) {
			<-b.generate(t.Context(), "small", 1)
			start := time.Now()
			big := b.generate(t.Context(), "big", 1)
			after(t, start, b.generate(t.Context(), "small", 10), tt.want)
			<-big
		})
	}
}

func TestLoadsAreOneAtATime(t *testing.T) {
	models := []Model{{Name: "a", Load: time.Second}, {Name: "b", Load: time.Second}}
	inBubble(t, Config{Models: models}, func(t *testing.T, b *bubble) {
		start := time.Now()
		first, second := b.generate(t.Context(), "a", 1), b.generate(t.Context(), "b", 1)
		after(t, start, first, time.Second)
		after(t, start, second, 2*time.Second)
	})
}

func TestColdRequestsShareOneLoad(t *testing.T) {
	inBubble(t, Config{Models: []Model{{Name: "m", Load: time.Second}}, Parallel: 4}, func(t *testing.T, b *bubble) {
		start := time.Now()
		var all []<-chan reply
		for range 4 {
			all = append(all, b.generate(t.Context(), "m", 1))
		}
		for _, c := range all {
			after(t, start, c, time.Second)
		}
		if n := b.Stats().Loads; n != 1 {
			t.Errorf("%d loads", n)
		}
	})
}

func TestFullQueue(t *testing.T) {
	models := []Model{{Name: "a", Load: time.Second, Decode: 1}, {Name: "b"}}
	for _, tt := range []struct {
		old    bool
		loaded int // status of one more request for the loaded model
	}{{false, 200}, {true, 503}} {
		inBubble(t, Config{Models: models, MaxLoaded: 1, MaxQueue: 2, OldScheduler: tt.old}, func(t *testing.T, b *bubble) {
			busy := b.generate(t.Context(), "a", 60)
			time.Sleep(1500 * time.Millisecond) // it decodes
			var waiting []<-chan reply
			for range 3 { // one in hand, two in the queue
				waiting = append(waiting, b.generate(t.Context(), "b", 1))
			}
			r := <-b.generate(t.Context(), "b", 1)
			if want := `{"error":"server busy, please try again.  maximum pending requests exceeded"}`; r.status != 503 || r.body != want {
				t.Errorf("got %d %s", r.status, r.body)
			}
			more := b.generate(t.Context(), "a", 1)
			for _, c := range append(waiting, busy) {
				if r := <-c; r.status != 200 {
					t.Errorf("waiting request: %d %s", r.status, r.body)
				}
			}
			if r := <-more; r.status != tt.loaded {
				t.Errorf("old scheduler %v: request for the loaded model got %d", tt.old, r.status)
			}
		})
	}
}

func TestEviction(t *testing.T) {
	gb := int64(1 << 30)
	models := []Model{{Name: "a", Size: 4 * gb}, {Name: "b", Size: 4 * gb}, {Name: "c", Size: 4 * gb, Decode: 10}, {Name: "huge", Size: 40 * gb}}
	c := Config{Models: models, VRAM: 10 << 30, RAM: 16 << 30}
	inBubble(t, c, func(t *testing.T, b *bubble) {
		<-b.ask(t.Context(), "/api/generate", body("model", "a", "prompt", "x", "keep_alive", "1h"))
		<-b.ask(t.Context(), "/api/generate", body("model", "b", "prompt", "x", "keep_alive", "10m"))
		if got := b.ps(); !slices.Equal(got, []string{"a", "b"}) {
			t.Fatalf("loaded %v", got)
		}
		<-b.generate(t.Context(), "c", 1) // b has the shorter keep_alive
		if got := b.ps(); !slices.Equal(got, []string{"a", "c"}) {
			t.Errorf("loaded %v, want a and c", got)
		}
		// Both busy: c (5 m) ends first, though a would be free sooner.
		busyA := b.generate(t.Context(), "a", 1)
		start := time.Now()
		busyC := b.generate(t.Context(), "c", 20)
		after(t, start, b.generate(t.Context(), "b", 1), 0) // a is idle already
		<-busyA
		after(t, start, busyC, 2*time.Second)

		r := <-b.generate(t.Context(), "huge", 1)
		if want := `{"error":"model requires more system memory (30.5 GiB) than is available (16.0 GiB)"}`; r.status != 500 || r.body != want {
			t.Errorf("got %d %s", r.status, r.body)
		}
	})
}

func TestEvictionWaitsForABusyModel(t *testing.T) {
	models := []Model{{Name: "a", Decode: 10}, {Name: "b"}}
	inBubble(t, Config{Models: models, MaxLoaded: 1}, func(t *testing.T, b *bubble) {
		start := time.Now()
		busy := b.generate(t.Context(), "a", 10)
		other := b.generate(t.Context(), "b", 1)
		joined := b.generate(t.Context(), "a", 5) // still served, before b
		after(t, start, busy, time.Second)
		after(t, start, joined, 1500*time.Millisecond)
		after(t, start, other, 1500*time.Millisecond)
		if s := b.Stats(); s.Evictions != 1 || !slices.Equal(b.ps(), []string{"b"}) {
			t.Errorf("evictions %d, loaded %v", s.Evictions, b.ps())
		}
	})
}

func TestEvictionKeepsToItsVictim(t *testing.T) {
	models := []Model{{Name: "a", Decode: 10}, {Name: "b", Decode: 10}, {Name: "c"}}
	inBubble(t, Config{Models: models, MaxLoaded: 2}, func(t *testing.T, b *bubble) {
		long := b.ask(t.Context(), "/api/generate", body("model", "a", "prompt", "x", "keep_alive", "1m", "options", map[string]any{"num_predict": 40}))
		short := b.generate(t.Context(), "b", 10)
		other := b.generate(t.Context(), "c", 1) // a has the shorter keep_alive, b is idle sooner
		<-short
		select {
		case <-other:
			t.Error("b made room")
		default:
		}
		<-long
		<-other
		if got := b.ps(); !slices.Equal(got, []string{"b", "c"}) {
			t.Errorf("loaded %v", got)
		}
	})
}

func TestAliasesShareARunner(t *testing.T) {
	models := []Model{{Name: "a", Weights: digest("w")}, {Name: "b", Weights: digest("w")}}
	inBubble(t, Config{Models: models}, func(t *testing.T, b *bubble) {
		one, two := <-b.generate(t.Context(), "a", 3), <-b.generate(t.Context(), "b", 3)
		if one.text() != two.text() || Verify(one.text(), 3) != nil {
			t.Errorf("the same weights say %q and %q", one.text(), two.text())
		}
		if s := b.Stats(); s.Loads != 1 || !slices.Equal(b.ps(), []string{"a"}) {
			t.Errorf("%d loads, ps shows %v; want one, under its first name", s.Loads, b.ps())
		}
	})
}

func TestReload(t *testing.T) {
	for _, tt := range []struct {
		name    string
		old     bool
		options []any
		want    int
	}{
		{"same", false, nil, 0},
		{"num_ctx", false, []any{"num_ctx", 2048}, 1},
		{"num_batch", false, []any{"num_batch", 256}, 1},
		{"num_thread", true, []any{"num_thread", 2}, 1},
		{"seed", false, []any{"seed", 4}, 0},
		{"above the trained context", false, []any{"num_ctx", 1 << 20}, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inBubble(t, Config{Models: []Model{{Name: "m"}}, OldScheduler: tt.old}, func(t *testing.T, b *bubble) {
				<-b.generate(t.Context(), "m", 1)
				<-b.generate(t.Context(), "m", 1, tt.options...)
				if got := b.Stats().Reloads; got != tt.want {
					t.Errorf("%d reloads, want %d", got, tt.want)
				}
				// A request that does not name num_ctx takes what is there, but
				// with the old scheduler goes back to the default.
				<-b.generate(t.Context(), "m", 1)
				want := tt.want
				if tt.want > 0 && (tt.old || tt.name == "num_batch") {
					want++
				}
				if got := b.Stats().Reloads; got != want {
					t.Errorf("then %d reloads, want %d", got, want)
				}
			})
		})
	}
}

func TestKeepAlive(t *testing.T) {
	inBubble(t, Config{Models: []Model{{Name: "m", Decode: 10}}}, func(t *testing.T, b *bubble) {
		loaded := func(want bool, when string) {
			t.Helper()
			if got := len(b.ps()) > 0; got != want {
				t.Errorf("%s: loaded %v, want %v", when, got, want)
			}
		}
		post := func(keep any) {
			<-b.ask(t.Context(), "/api/generate", body("model", "m", "prompt", "x", "keep_alive", keep, "options", map[string]any{"num_predict": 10}))
			synctest.Wait() // the server has finished with the request too
		}
		post("2s")
		time.Sleep(2*time.Second - 1)
		loaded(true, "just before the end of 2s")
		time.Sleep(2)
		loaded(false, "after 2s")

		post(3)
		time.Sleep(2 * time.Second)
		post("3s") // counts from the last request's end
		time.Sleep(3*time.Second - 1)
		loaded(true, "after another request")
		time.Sleep(2)
		loaded(false, "after 3 s")

		post(0)
		loaded(false, "keep_alive 0")

		post(-1)
		time.Sleep(1000 * time.Hour)
		loaded(true, "keep_alive -1")
		if r := b.post("/api/generate", body("model", "m", "keep_alive", 0)); r.last().DoneReason != "unload" {
			t.Errorf("unload: %s", r.body)
		}
		loaded(false, "after unload")

		if r := b.post("/api/chat", body("model", "m", "messages", []Message{})); r.last().DoneReason != "load" || r.last().Message.Content != "" {
			t.Errorf("load: %s", r.body)
		}
		time.Sleep(5*time.Minute - 1)
		loaded(true, "just before the default of 5 minutes")
		time.Sleep(2)
		loaded(false, "after 5 minutes")
	})
}

func TestCancelFreesTheSlotAtTheNextToken(t *testing.T) {
	inBubble(t, Config{Models: []Model{{Name: "m", Decode: 2}}}, func(t *testing.T, b *bubble) {
		ctx, cancel := context.WithCancel(t.Context())
		gone := b.generate(ctx, "m", 1000)
		next := b.generate(t.Context(), "m", 2)
		time.Sleep(10*time.Second + 100*time.Millisecond)
		start := time.Now()
		cancel()
		if r := <-gone; r.err == nil {
			t.Error("the cancelled request ended well")
		}
		after(t, start, next, 1400*time.Millisecond) // 0.4 s to the next token, then two of its own
		if s := b.Stats(); s.Cancelled != 1 || s.Running != 0 {
			t.Errorf("stats: %+v", s)
		}
	})
}

func TestCancelWhileWaiting(t *testing.T) {
	models := []Model{{Name: "m", Decode: 10, Load: time.Second}, {Name: "n", Load: time.Hour}}
	inBubble(t, Config{Models: models}, func(t *testing.T, b *bubble) {
		// Of a load: it is aborted, and the next in the queue loads.
		ctx, cancel := context.WithCancel(t.Context())
		stuck := b.generate(ctx, "n", 1)
		start := time.Now()
		behind := b.generate(t.Context(), "m", 10)
		time.Sleep(500 * time.Millisecond)
		cancel()
		<-stuck
		after(t, start, behind, 2500*time.Millisecond)
		if got := b.ps(); !slices.Equal(got, []string{"m"}) {
			t.Errorf("loaded %v", got)
		}
		// In the queue for a slot.
		ctx, cancel = context.WithCancel(t.Context())
		busy := b.generate(t.Context(), "m", 20)
		queued := b.generate(ctx, "m", 20)
		cancel()
		<-queued
		synctest.Wait()
		if s := b.Stats(); s.Waiting != 0 || s.Running != 1 || s.Cancelled != 2 {
			t.Errorf("stats: %+v", s)
		}
		<-busy
	})
}

func TestOneClientLeavingDoesNotHurtTheOthersOfItsLoad(t *testing.T) {
	inBubble(t, Config{Models: []Model{{Name: "m", Load: time.Second}}}, func(t *testing.T, b *bubble) {
		ctx, cancel := context.WithCancel(t.Context())
		first := b.generate(ctx, "m", 1)
		second := b.generate(t.Context(), "m", 1)
		cancel()
		<-first
		if r := <-second; r.status != 200 {
			t.Errorf("got %d %s", r.status, r.body)
		}
	})
}

func TestPromptCache(t *testing.T) {
	inBubble(t, Config{Models: []Model{{Name: "m", Prefill: 10}}, UncachedPromptCount: true}, func(t *testing.T, b *bubble) {
		count := func(prompt string) (int, time.Duration) {
			r := b.post("/api/generate", body("model", "m", "prompt", prompt, "raw", true, "options", map[string]any{"num_predict": 1}))
			return r.last().PromptEvalCount, r.last().PromptEvalDuration
		}
		for _, tt := range []struct {
			prompt string
			want   int
		}{
			{"one two three four five six", 6},
			{"one two three four five six", 1},       // all but the last
			{"one two three four five six seven", 1}, // only what is new
			{"one two three other words", 2},         // from the difference on
			{"quite another prompt", 5},              // two of the words are two tokens
		} {
			if n, took := count(tt.prompt); n != tt.want || took != time.Duration(tt.want)*100*time.Millisecond {
				t.Errorf("%q: %d tokens evaluated in %v, want %d", tt.prompt, n, took, tt.want)
			}
		}
	})
}

func TestPromptCacheFollowsTheConversation(t *testing.T) {
	inBubble(t, Config{Models: []Model{{Name: "m"}}, Parallel: 2, UncachedPromptCount: true}, func(t *testing.T, b *bubble) {
		talk := func(who string) []Message { return user(strings.Repeat(who+" says a lot ", 20)) }
		count := func(m []Message) int {
			return b.post("/api/chat", body("model", "m", "messages", m, "options", greedy)).last().PromptEvalCount
		}
		count(talk("alice"))
		count(talk("bob"))
		for _, who := range []string{"alice", "bob", "alice"} {
			if n := count(talk(who)); n != 1 {
				t.Errorf("%s: %d tokens evaluated, want 1 in the slot that knows the conversation", who, n)
			}
		}
	})
}

func TestExecutionsById(t *testing.T) {
	inBubble(t, Config{Models: []Model{{Name: "m"}}}, func(t *testing.T, b *bubble) {
		for range 2 {
			b.post("/api/generate", body("model", "m", "prompt", "x"), HeaderRequestID, "r1")
		}
		b.post("/api/embed", body("model", "nosuch", "input", "x"), HeaderTestID, "r2")
		s := b.Stats()
		if s.Executions["r1"] != 2 || s.Executions["r2"] != 0 {
			t.Errorf("executions: %v", s.Executions)
		}
		if s.Requests["POST /api/generate"] != 2 {
			t.Errorf("requests: %v", s.Requests)
		}
	})
}

func TestAwait(t *testing.T) {
	inBubble(t, Config{Models: []Model{{Name: "m", Decode: 10}}}, func(t *testing.T, b *bubble) {
		start := time.Now()
		c := b.generate(t.Context(), "m", 10)
		if err := b.Await(t.Context(), func(s Stats) bool { return s.Tokens == 4 }); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(start); took != 400*time.Millisecond {
			t.Errorf("4 tokens after %v", took)
		}
		<-c
		ctx, cancel := context.WithTimeoutCause(t.Context(), time.Second, fmt.Errorf("too long"))
		defer cancel()
		if err := b.Await(ctx, func(s Stats) bool { return s.Tokens == 99 }); err == nil || err.Error() != "too long" {
			t.Errorf("error %v", err)
		}
	})
}
