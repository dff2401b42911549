package backend

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/ollamatest"
)

// place is where an Ollama may listen, in fake time: a server can come, go and
// come again.
type place struct {
	pipe atomic.Pointer[ollamatest.Pipe]
}

func (p *place) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	if pipe := p.pipe.Load(); pipe != nil {
		return pipe.DialContext(ctx, network, addr)
	}
	return nil, &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
}

func (p *place) start(s *ollamatest.Server) {
	pipe := ollamatest.NewPipe()
	s.Start(pipe)
	p.pipe.Store(pipe)
}

func (p *place) stop(s *ollamatest.Server) {
	p.pipe.Store(nil)
	s.Close()
}

func (p *place) client() *Client {
	return NewClient(&url.URL{Scheme: "http", Host: "127.0.0.1:11434"}, &http.Transport{DialContext: p.dial})
}

// watched runs f in fake time beside a Watcher of a place.
func watched(t *testing.T, f func(*testing.T, *place, *Watcher)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		var p place
		c := p.client()
		w := NewWatcher(c, nil)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- w.Run(ctx) }()
		f(t, &p, w)
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run = %v", err)
		}
		c.CloseIdle()
	})
}

// until waits for a state in fake time and returns how long it took.
func until(t *testing.T, w *Watcher, what string, ok func(*State) bool) time.Duration {
	t.Helper()
	began := time.Now()
	for {
		changed := w.Changed()
		if ok(w.State()) {
			return time.Since(began)
		}
		select {
		case <-changed:
		case <-time.After(time.Minute):
			t.Fatalf("not within a minute: %s; state %+v", what, *w.State())
		}
	}
}

func up(s *State) bool   { return s.Up }
func down(s *State) bool { return !s.Up && s.Err != nil }

// generate puts one request to the server, as somebody would.
func generate(t *testing.T, c *Client, model, more string) {
	t.Helper()
	resp, err := c.Do(request(t.Context(), t, http.MethodPost, "/api/generate", `{"model":"`+model+`","prompt":"hi","stream":false`+more+`}`))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("generate: %d %s %v", resp.StatusCode, body, err)
	}
}

func TestOllamaComesLateGoesAndComesAgain(t *testing.T) {
	watched(t, func(t *testing.T, p *place, w *Watcher) {
		until(t, w, "down at the start", down)
		if s := w.State(); !errors.Is(s.Err, syscall.ECONNREFUSED) || s.Listed {
			t.Errorf("without Ollama: %+v", s)
		}
		pass(time.Hour) // it may take the user as long as it takes
		server := ollamatest.New(ollamatest.Config{Version: "0.33.0", Models: []ollamatest.Model{
			{Name: "small", Layers: 28, KVHeads: 4, HeadDim: 64, ContextLength: 8192, Size: 2 << 30},
		}})
		p.start(server)
		if took := until(t, w, "up", up); took > 2*time.Second {
			t.Errorf("noticed %v after its start", took)
		}
		until(t, w, "the shape", func(s *State) bool { return s.Model("small:latest") != nil && s.Model("small:latest").Layers > 0 })
		s := w.State()
		m := s.Model("small:latest")
		if s.Version != "0.33.0" || !s.Listed || len(s.Catalog) != 1 || m.Layers != 28 || m.KVHeads != 4 || m.HeadDim != 64 ||
			m.ContextLength != 8192 || m.Blob == "" || m.Size != 2<<30 || m.Digest == "" || len(m.Tag) == 0 {
			t.Errorf("up: %+v, model %+v", s, m)
		}
		generate(t, w.client, "small", "")
		until(t, w, "resident", func(s *State) bool { return s.InMemory("small:latest") != nil })

		p.stop(server)
		if took := until(t, w, "down", down); took > 1100*time.Millisecond {
			t.Errorf("noticed %v after its end", took)
		}
		if s := w.State(); len(s.Resident) != 0 || s.Version != "" || len(s.Catalog) != 1 {
			t.Errorf("down: %+v", s)
		}
		pass(time.Minute)
		p.start(server)
		if took := until(t, w, "up again", up); took > 2*time.Second {
			t.Errorf("noticed %v after its return", took)
		}
		p.stop(server)
	})
}

func TestModelsThatComeAndGo(t *testing.T) {
	watched(t, func(t *testing.T, p *place, w *Watcher) {
		server := ollamatest.New(ollamatest.Config{Models: []ollamatest.Model{{Name: "old"}}})
		p.start(server)
		defer p.stop(server)
		until(t, w, "up", up)
		if err := server.Install(ollamatest.Model{Name: "new:7b", Layers: 3}); err != nil {
			t.Fatal(err)
		}
		took := until(t, w, "new model", func(s *State) bool { return s.Model("new:7b") != nil && s.Model("new:7b").Layers == 3 })
		if took > tagsEvery+100*time.Millisecond {
			t.Errorf("seen after %v", took)
		}
		server.Remove("old")
		before := time.Now()
		if err := w.Refresh(t.Context()); err != nil {
			t.Fatal(err)
		}
		if s := w.State(); s.Model("old:latest") != nil || time.Since(before) > 100*time.Millisecond {
			t.Errorf("after a refresh of %v: %+v", time.Since(before), s.Catalog)
		}
		if err := server.Install(ollamatest.Model{Name: "new:7b", Layers: 5}); err != nil { // pulled anew
			t.Fatal(err)
		}
		if err := w.Refresh(t.Context()); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := w.Refresh(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("refresh for nobody: %v", err)
		}
	})
}

func TestShapesAreAskedForOnce(t *testing.T) {
	watched(t, func(t *testing.T, p *place, w *Watcher) {
		server := ollamatest.New(ollamatest.Config{Models: []ollamatest.Model{
			{Name: "a"}, {Name: "b"}, {Name: "cloud:120b-cloud", Remote: "https://ollama.com"},
		}})
		p.start(server)
		defer p.stop(server)
		until(t, w, "shapes", func(s *State) bool { return s.Model("b:latest") != nil && s.Model("b:latest").Blob != "" })
		pass(time.Minute)
		got := server.Stats().Requests
		if got["POST /api/show"] != 2 {
			t.Errorf("show was asked %d times for 2 local models", got["POST /api/show"])
		}
		if n := got["GET /api/ps"]; n < 55 || n > 65 {
			t.Errorf("ps was asked %d times in a minute", n)
		}
		if n := got["GET /api/tags"]; n < 18 || n > 22 {
			t.Errorf("tags was asked %d times in a minute", n)
		}
		if m := w.State().Model("cloud:120b-cloud"); m == nil || m.Remote == "" {
			t.Errorf("cloud model: %+v", m)
		}
	})
}

func TestNamesOfOneRunner(t *testing.T) {
	watched(t, func(t *testing.T, p *place, w *Watcher) {
		weights := strings.Repeat("5", 64)
		server := ollamatest.New(ollamatest.Config{Models: []ollamatest.Model{
			{Name: "base", Weights: weights}, {Name: "alias", Weights: weights}, {Name: "other"},
		}})
		p.start(server)
		defer p.stop(server)
		until(t, w, "shapes", func(s *State) bool { return s.Model("other:latest") != nil && s.Model("other:latest").Blob != "" })
		generate(t, w.client, "base", "")
		until(t, w, "resident", func(s *State) bool { return len(s.Resident) == 1 })
		s := w.State()
		if s.Runner("base:latest") != weights || s.InMemory("alias:latest") == nil || s.InMemory("base:latest") == nil || s.InMemory("other:latest") != nil {
			t.Errorf("%+v", s)
		}
	})
}

func TestPokesMakeOneLook(t *testing.T) {
	watched(t, func(t *testing.T, p *place, w *Watcher) {
		server := ollamatest.New(ollamatest.Config{Models: []ollamatest.Model{{Name: "m"}}})
		p.start(server)
		defer p.stop(server)
		until(t, w, "up", up)
		pass(10*time.Second + 300*time.Millisecond)
		generate(t, w.client, "m", "")
		w.Poke()
		if took := until(t, w, "resident", func(s *State) bool { return len(s.Resident) == 1 }); took > pokeGap {
			t.Errorf("seen %v after a poke", took)
		}
		server.ResetStats()
		for range 1000 {
			w.Poke()
			pass(2 * time.Millisecond)
		}
		if n := server.Stats().Requests["GET /api/ps"]; n < 5 || n > 12 {
			t.Errorf("1000 pokes in 2 s made %d looks", n)
		}
	})
}

func TestAServerThatHangsIsDownAndComesBack(t *testing.T) {
	watched(t, func(t *testing.T, p *place, w *Watcher) {
		server := ollamatest.New(ollamatest.Config{})
		p.start(server)
		defer p.stop(server)
		until(t, w, "up", up)
		server.Freeze()
		took := until(t, w, "down", down)
		if took < askLimit || took > 2*askLimit+3*time.Second {
			t.Errorf("counted as down after %v", took)
		}
		if !errors.Is(w.State().Err, context.DeadlineExceeded) {
			t.Errorf("because %v", w.State().Err)
		}
		server.Thaw()
		until(t, w, "up", up)
	})
}

func TestOneSlowAnswerIsNoOutage(t *testing.T) {
	watched(t, func(t *testing.T, p *place, w *Watcher) {
		server := ollamatest.New(ollamatest.Config{})
		p.start(server)
		defer p.stop(server)
		until(t, w, "up", up)
		server.Freeze()
		pass(askLimit + 1500*time.Millisecond) // one question is lost, the next is answered
		server.Thaw()
		pass(10 * time.Second)
		if s := w.State(); !s.Up || time.Since(s.Since) < 14*time.Second {
			t.Errorf("up %v since %v ago", s.Up, time.Since(s.Since))
		}
	})
}

func TestAMeshIsNoOllama(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mesh := roundTrip(func(r *http.Request) (int, string) {
			return http.StatusOK, map[string]string{
				"/api/version": `{"version":"0.33.0"}`, "/api/tags": `{"models":[]}`, "/api/ps": `{"models":[]}`,
				"/mesh/v1/id": `{"product":"kage-mesh","id":"x"}`,
			}[r.URL.Path]
		})
		w := NewWatcher(NewClient(&url.URL{Scheme: "http", Host: "127.0.0.1:11435"}, mesh), nil)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go func() { _ = w.Run(ctx) }()
		until(t, w, "a verdict", down)
		if err := w.State().Err; !errors.Is(err, ErrLoop) || !strings.Contains(err.Error(), "OLLAMA_HOST") {
			t.Errorf("err = %v", err)
		}
	})
}

func TestSomethingElseListens(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		page := roundTrip(func(*http.Request) (int, string) { return http.StatusOK, "<html>It works!</html>" })
		w := NewWatcher(NewClient(&url.URL{Scheme: "http", Host: "127.0.0.1:80"}, page), nil)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go func() { _ = w.Run(ctx) }()
		until(t, w, "a verdict", down)
	})
}

func TestAModelThatCannotBeShownIsListed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var shows atomic.Int32
		broken := roundTrip(func(r *http.Request) (int, string) {
			switch r.URL.Path {
			case "/api/version":
				return http.StatusOK, `{"version":"0.33.0"}`
			case "/api/tags":
				return http.StatusOK, `{"models":[{"name":"broken:latest","digest":"d","size":7}]}`
			case "/api/ps":
				return http.StatusOK, `{"models":[]}`
			case "/api/show":
				shows.Add(1)
			}
			return http.StatusNotFound, ""
		})
		w := NewWatcher(NewClient(&url.URL{Scheme: "http", Host: "127.0.0.1:11434"}, broken), nil)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go func() { _ = w.Run(ctx) }()
		until(t, w, "up", up)
		pass(time.Minute)
		if m := w.State().Model("broken:latest"); m == nil || m.Size != 7 || m.Blob != "" || !w.State().Up {
			t.Errorf("%+v", w.State())
		}
		if n := shows.Load(); n < 1 || n > 3 {
			t.Errorf("asked %d times in a minute", n)
		}
	})
}

// roundTrip is a transport that answers by itself.
type roundTrip func(*http.Request) (status int, body string)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Body != nil {
		_, _ = io.Copy(io.Discard, r.Body)
		_ = r.Body.Close()
	}
	status, body := f(r)
	return &http.Response{StatusCode: status, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(body)), Request: r}, nil
}

func TestStatesAreImmutable(t *testing.T) {
	watched(t, func(t *testing.T, p *place, w *Watcher) {
		server := ollamatest.New(ollamatest.Config{Models: []ollamatest.Model{{Name: "a"}}})
		p.start(server)
		defer p.stop(server)
		until(t, w, "shape", func(s *State) bool { return s.Model("a:latest") != nil && s.Model("a:latest").Blob != "" })
		old := w.State()
		catalog := slices.Clone(old.Catalog)
		if err := server.Install(ollamatest.Model{Name: "b"}); err != nil {
			t.Fatal(err)
		}
		until(t, w, "b", func(s *State) bool { return len(s.Catalog) == 2 })
		if len(old.Catalog) != 1 || old.Catalog[0].Key != catalog[0].Key || old.Catalog[0].Blob != catalog[0].Blob {
			t.Errorf("a state changed after it was published: %+v", old.Catalog)
		}
	})
}
