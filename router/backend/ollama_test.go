//go:build linux || darwin

package backend

import (
	"context"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/deploy/realollama"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh/hardware"
)

// soon waits until a real server is in a state, and the gate has heard of it, too,
// and returns how long it took.
func soon(t *testing.T, b *Backend, what string, ok func(*State) bool) time.Duration {
	t.Helper()
	began := time.Now()
	deadline := time.After(30 * time.Second)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		b.gate.mu.Lock()
		heard := b.gate.a.state
		b.gate.mu.Unlock()
		if ok(b.State()) && ok(heard) {
			return time.Since(began)
		}
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("not within 30 s: %s; state %+v", what, *b.State())
		}
	}
}

func TestARealOllama(t *testing.T) {
	o := realollama.Start(t, realollama.Options{Models: []string{"tiny", "prefill", "big", "embed"}})
	b, err := New(Config{Host: o.URL, Parallel: 1})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- b.Run(ctx, nil, hardware.Inventory{}, nil) }()
	defer func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}()

	soon(t, b, "all shapes", func(s *State) bool {
		for _, m := range s.Catalog {
			if m.Layers == 0 || m.KVHeads == 0 || m.HeadDim == 0 || m.Blob == "" {
				return false
			}
		}
		return len(s.Catalog) == 4
	})
	s := b.State()
	if m := s.Model("big:latest"); m.Size < 100<<20 || m.ContextLength == 0 || len(m.Capabilities) == 0 {
		t.Errorf("big: %+v", m)
	}
	if s.Slots("embed:latest", 4) != 1 || s.Slots("tiny:latest", 4) != 4 {
		t.Errorf("slots of embed %d, of tiny %d", s.Slots("embed:latest", 4), s.Slots("tiny:latest", 4))
	}

	// A lone request, measured by Ollama's own figures.
	u, err := ask(ctx, b, Work{ID: "1", Key: "tiny:latest", Promise: -1}, 30)
	if err != nil || u.OutputTokens != 30 || u.EvalDuration <= 0 || u.LoadDuration <= 0 {
		t.Fatalf("usage %+v, %v", u, err)
	}
	soon(t, b, "tiny in memory", func(s *State) bool { return s.InMemory("tiny:latest") != nil })
	if v := b.Speed(s.Model("tiny:latest").Digest); v.Samples != 1 || v.Decode <= 0 || v.Output != 30 || v.Cold <= 0 {
		t.Errorf("tiny: %+v", v)
	}
	// prefill has tiny's weights: ps keeps the name that was loaded first.
	if _, err := ask(ctx, b, Work{ID: "2", Key: "prefill:latest", Promise: -1}, 5); err != nil {
		t.Fatal(err)
	}
	if err := b.Refresh(ctx); err != nil {
		t.Fatal(err)
	}
	if s := b.State(); s.Runner("prefill:latest") != s.Runner("tiny:latest") || s.InMemory("prefill:latest") == nil || s.InMemory("big:latest") != nil {
		t.Errorf("in memory: %+v", s.Resident)
	}
	if b.Load().Foreign {
		t.Error("our own requests count as foreign")
	}

	// Cancelling stops Ollama: the next request need not wait for 2000 tokens.
	slow, stop := context.WithCancel(ctx)
	started := make(chan struct{})
	go func() {
		defer close(started)
		req, err := http.NewRequestWithContext(slow, http.MethodPost, "/api/generate",
			strings.NewReader(`{"model":"big","prompt":"hi","options":{"num_predict":2000}}`))
		if err != nil {
			t.Error(err)
			return
		}
		resp, err := b.Do(req)
		if err != nil {
			t.Error(err)
			return
		}
		defer resp.Body.Close()
		if _, err := io.ReadFull(resp.Body, make([]byte, 10)); err != nil {
			t.Error(err)
		}
		stop()
	}()
	<-started
	stop()
	next, giveUp := context.WithTimeout(ctx, 60*time.Second) // 2000 tokens take minutes
	defer giveUp()
	if _, err := ask(next, b, Work{ID: "3", Key: "big:latest", Promise: -1}, 2); err != nil {
		t.Fatalf("after a cancelled request: %v", err)
	}

	o.Kill()
	b.Poke()
	if took := soon(t, b, "down", down); took > 5*time.Second {
		t.Errorf("its death was noticed after %v", took)
	}
	o.Restart()
	soon(t, b, "up again", func(s *State) bool { return s.Up && len(s.Resident) == 0 && len(s.Catalog) == 4 })
	if _, err := ask(ctx, b, Work{ID: "4", Key: "tiny:latest", Promise: -1}, 5); err != nil {
		t.Fatal(err)
	}
}
