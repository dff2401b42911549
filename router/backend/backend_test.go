package backend

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh/hardware"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/ollamatest"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/wire"
)

// mailbox keeps what a node says.
type mailbox struct {
	mu    sync.Mutex
	cards []mesh.Card
	loads []mesh.Load
}

func (m *mailbox) Announce(c mesh.Card) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.cards = append(m.cards, c)
}

func (m *mailbox) Publish(l mesh.Load) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.loads = append(m.loads, l)
}

func (m *mailbox) last() (mesh.Card, mesh.Load) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.cards) == 0 || len(m.loads) == 0 {
		return mesh.Card{}, mesh.Load{}
	}
	return m.cards[len(m.cards)-1], m.loads[len(m.loads)-1]
}

// node runs f in fake time beside a running Backend of a place.
func node(t *testing.T, c Config, f func(*testing.T, *place, *Backend, *mailbox)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		var p place
		c.Transport = &http.Transport{DialContext: p.dial}
		b, err := New(c)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		var m mailbox
		ended := make(chan error, 1)
		go func() {
			ended <- b.Run(ctx, &m, gpu(), func(_ context.Context, i hardware.Inventory) hardware.Inventory { return i })
		}()
		f(t, &p, b, &m)
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run = %v", err)
		}
		m.mu.Lock()
		defer m.mu.Unlock()
		for i := 1; i < len(m.loads); i++ {
			if !m.loads[i].Supersedes(&m.loads[i-1]) {
				t.Errorf("load %d does not supersede the one before: %+v", i, m.loads[i])
			}
		}
	})
}

// ask runs one request as the router does: admission, Ollama, progress, usage.
func ask(ctx context.Context, b *Backend, w Work, predict int) (Usage, error) {
	leave, err := b.Enter(ctx, w)
	if err != nil {
		return Usage{}, err
	}
	var u Usage
	defer func() { leave(u) }()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "/api/generate", strings.NewReader(
		fmt.Sprintf(`{"model":%q,"prompt":"tell me more about it please","options":{"num_predict":%d}}`, w.Key, predict)))
	if err != nil {
		return u, err
	}
	began := time.Now()
	resp, err := b.Do(req)
	if err != nil {
		return u, err
	}
	defer resp.Body.Close()
	lines, chunks := bufio.NewScanner(resp.Body), 0
	for lines.Scan() {
		chunks++
		b.Progress(w.ID, chunks)
		if v, ok := wire.BodyUsage(wire.Generate, lines.Bytes()); ok {
			u = Usage{Usage: v, Took: time.Since(began)}
		}
	}
	return u, lines.Err()
}

func ready(t *testing.T, b *Backend, key string) {
	t.Helper()
	until(t, b.watcher, key+" with its shape", func(s *State) bool { m := s.Model(key); return m != nil && m.Blob != "" })
	synctest.Wait() // the gate has heard of it too
}

func TestANodeFromNothingToAnswers(t *testing.T) {
	file := filepath.Join(t.TempDir(), "rates.json")
	config := Config{Parallel: 2, Node: "n1", Incarnation: 9, RatesFile: file}
	ollama := ollamatest.Config{Parallel: 2, Models: []ollamatest.Model{
		{Name: "m", Decode: 50, Prefill: 1000, Load: 3 * time.Second, Size: 4 << 30},
	}}
	node(t, config, func(t *testing.T, p *place, b *Backend, m *mailbox) {
		pass(10 * time.Second)
		card, load := m.last()
		if load.Up || card.Ollama != "" || card.Hardware.VRAM.N != 24*gib || load.Node != "n1" || load.Incarnation != 9 || load.FreeVRAM != 23*gib {
			t.Errorf("without Ollama: %+v\n%+v", card, load)
		}
		if _, err := ask(t.Context(), b, Work{Key: "m:latest"}, 5); !errors.Is(err, ErrDown) {
			t.Errorf("without Ollama: %v", err)
		}

		server := ollamatest.New(ollama)
		p.start(server)
		defer p.stop(server)
		ready(t, b, "m:latest")
		pass(100 * time.Millisecond)
		card, load = m.last()
		if !load.Up || card.Ollama == "" || len(card.Catalog) != 1 || card.Parallel != 2 || len(load.Models) != 0 {
			t.Errorf("with Ollama: %+v\n%+v", card, load)
		}
		if _, err := ask(t.Context(), b, Work{Key: "nosuch"}, 5); !errors.Is(err, ErrNoModel) {
			t.Errorf("unknown model: %v", err)
		}

		done := make(chan error)
		go func() {
			_, err := ask(t.Context(), b, Work{ID: "one", Key: "m:latest", Promise: -1}, 100)
			done <- err
		}()
		pass(time.Second)
		if _, load = m.last(); load.Running != 1 || !load.Models[0].Loading || load.Models[0].Resident {
			t.Errorf("during the load: %+v", load)
		}
		pass(3 * time.Second)
		if _, load = m.last(); load.Running != 1 || load.Models[0].Loading || !load.Models[0].Resident || load.Models[0].Slots != 2 {
			t.Errorf("during the answer: %+v", load)
		}
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		pass(100 * time.Millisecond)
		_, load = m.last()
		if l := load.Models[0]; load.Running != 0 || l.Samples != 1 || !near(l.Decode, 50, 0.05) || !near(l.Cold, 3, 0.2) || load.Foreign {
			t.Errorf("after the answer: %+v", load)
		}
		for range 3 {
			if _, err := ask(t.Context(), b, Work{ID: "more", Key: "m:latest"}, 50); err != nil {
				t.Fatal(err)
			}
		}
		if n := len(m.cards); n > 5 {
			t.Errorf("%d cards were announced for one node without and one with Ollama and its one model", n)
		}
		if fresh, again := b.Load(), b.Load(); fresh != again || fresh.Seq <= load.Seq {
			t.Errorf("load %d after %d", fresh.Seq, load.Seq)
		}
		b.Drain()
		pass(100 * time.Millisecond)
		if _, load = m.last(); !load.Draining {
			t.Error("draining is not published")
		}
		_, err := b.Enter(t.Context(), Work{Key: "m:latest"})
		var refused *Refused
		if !errors.As(err, &refused) || !errors.Is(err, ErrDraining) || refused.Load == nil || !refused.Load.Draining {
			t.Errorf("while draining: %v", err)
		}
	})
	node(t, config, func(t *testing.T, p *place, b *Backend, m *mailbox) {
		server := ollamatest.New(ollama)
		p.start(server)
		defer p.stop(server)
		ready(t, b, "m:latest")
		pass(100 * time.Millisecond)
		if _, load := m.last(); len(load.Models) != 1 || load.Models[0].Samples != 4 || !near(load.Models[0].Decode, 50, 0.05) {
			t.Errorf("after a restart: %+v", load)
		}
	})
}

func TestNothingWaitsInsideOllama(t *testing.T) {
	node(t, Config{Parallel: 2, MaxLoaded: 2}, func(t *testing.T, p *place, b *Backend, _ *mailbox) {
		server := ollamatest.New(ollamatest.Config{Parallel: 2, MaxLoaded: 2, Batching: 0.3, Models: []ollamatest.Model{
			{Name: "a", Decode: 50, Load: 2 * time.Second}, {Name: "b", Decode: 30, Load: time.Second}, {Name: "c", Decode: 80, Load: time.Second},
		}})
		p.start(server)
		defer p.stop(server)
		ready(t, b, "c:latest")
		var wg sync.WaitGroup
		for i := range 30 {
			wg.Go(func() {
				key := []string{"a:latest", "b:latest", "c:latest"}[i%3]
				if _, err := ask(t.Context(), b, Work{ID: fmt.Sprint(i), Key: key, Promise: -1}, 20+i); err != nil {
					t.Errorf("request %d: %v", i, err)
				}
			})
		}
		over := make(chan struct{})
		go func() { wg.Wait(); close(over) }()
		for waited, looks := 0, 0; ; looks++ {
			select {
			case <-over:
				if s := server.Stats(); s.MaxRunning["a:latest"] != 2 || s.Completed != 30 {
					t.Errorf("%+v", s)
				}
				// A request whose model loads is "waiting" in Ollama's sense: at
				// most the slots of the one model that loads.
				if waited > 2 || looks == 0 {
					t.Errorf("%d requests waited inside Ollama at once (%d looks)", waited, looks)
				}
				return
			case <-time.After(50 * time.Millisecond):
				waited = max(waited, server.Stats().Waiting)
			}
		}
	})
}

func TestSomebodyElseUsesOllama(t *testing.T) {
	node(t, Config{}, func(t *testing.T, p *place, b *Backend, m *mailbox) {
		server := ollamatest.New(ollamatest.Config{Models: []ollamatest.Model{{Name: "m", Decode: 50}}})
		p.start(server)
		defer p.stop(server)
		ready(t, b, "m:latest")
		for range 5 {
			if _, err := ask(t.Context(), b, Work{Key: "m:latest", Promise: -1}, 100); err != nil {
				t.Fatal(err)
			}
			pass(1500 * time.Millisecond)
			if b.Load().Foreign {
				t.Fatal("our own request counts as foreign")
			}
		}
		pass(10 * time.Second)
		generate(t, b.client, "m", "") // past the gate
		pass(1200 * time.Millisecond)
		if !b.Load().Foreign {
			t.Error("a direct request was not noticed")
		}
		pass(foreignFor)
		if _, load := m.last(); load.Foreign {
			t.Error("it is not forgotten")
		}
	})
}

func TestSlopeIsLearntFromOllama(t *testing.T) {
	node(t, Config{Parallel: 4}, func(t *testing.T, p *place, b *Backend, _ *mailbox) {
		server := ollamatest.New(ollamatest.Config{Parallel: 4, Batching: 0.5, Models: []ollamatest.Model{{Name: "m", Decode: 50}}})
		p.start(server)
		defer p.stop(server)
		ready(t, b, "m:latest")
		batch := func(n int) {
			var wg sync.WaitGroup
			for i := range n {
				wg.Go(func() { _, _ = ask(t.Context(), b, Work{ID: fmt.Sprint(i), Key: "m:latest", Promise: -1}, 200) })
			}
			wg.Wait()
		}
		batch(1)
		batch(1)
		for range 4 {
			batch(4)
			batch(2)
		}
		s := b.Speed(b.State().Model("m:latest").Digest)
		if !near(s.Decode, 50, 0.05) || !near(s.Slope, 0.5, 0.1) {
			t.Errorf("%+v", s)
		}
	})
}

func TestOpenAIAnswersAreTimedByOurClock(t *testing.T) {
	u := Usage{Usage: wire.Usage{PromptTokens: 300, OutputTokens: 101}}
	s := Finished{Usage: u, First: 2 * time.Second, Took: 12 * time.Second, Together: 1}.sample()
	if s.OutputTime != 10100*time.Millisecond || s.PromptTime != 2*time.Second {
		t.Errorf("%+v", s)
	}
	s = Finished{Usage: u, First: 2 * time.Second, Took: 12 * time.Second, Cold: true}.sample()
	if s.PromptTime != 0 {
		t.Errorf("a cold load counts as prefill: %+v", s)
	}
	u.EvalDuration = time.Second
	if s = (Finished{Usage: u, First: 2 * time.Second, Took: 12 * time.Second}).sample(); s.OutputTime != time.Second {
		t.Errorf("Ollama's own figure was replaced: %+v", s)
	}
	u = Usage{Usage: wire.Usage{OutputTokens: 50}}
	if s = (Finished{Usage: u, Took: time.Second}).sample(); s.OutputTime != 0 {
		t.Errorf("an answer in one piece tells no rate: %+v", s)
	}
}

func TestNewChecksItsConfig(t *testing.T) {
	for name, c := range map[string]Config{
		"host": {Host: "ftp://x"}, "parallel": {Parallel: -1}, "queue": {Queue: -1}, "loaded": {MaxLoaded: -2},
	} {
		if _, err := New(c); err == nil {
			t.Errorf("%s: took %+v", name, c)
		}
	}
}

func TestOllamasVariablesCount(t *testing.T) {
	t.Setenv("OLLAMA_NUM_PARALLEL", `"4"`)
	t.Setenv("OLLAMA_MAX_LOADED_MODELS", "2")
	b, err := New(Config{})
	if err != nil {
		t.Fatal(err)
	}
	if o := b.gate.Occupancy(nil); o.Parallel != 4 || o.MaxLoaded != 2 {
		t.Errorf("%+v", o)
	}
	b, err = New(Config{Parallel: 3})
	if err != nil {
		t.Fatal(err)
	}
	if o := b.gate.Occupancy(nil); o.Parallel != 3 {
		t.Errorf("configured 3: %+v", o)
	}
	t.Setenv("OLLAMA_NUM_PARALLEL", "lots")
	if b, err = New(Config{}); err != nil || b.gate.Occupancy(nil).Parallel != 1 {
		t.Errorf("a variable that is no number: %v", err)
	}
}

func TestRatesThatCannotBeReadAreNoObstacle(t *testing.T) {
	if _, err := New(Config{RatesFile: t.TempDir()}); err != nil { // a directory
		t.Error(err)
	}
}
