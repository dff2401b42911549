package router_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh/hardware"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh/meshtest"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/backend"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/ollamatest"
)

// world is an ingress and owners in the fake time of a testing/synctest
// bubble: real routers with HTTP/2 between them, on in-memory connections, and
// a fake Ollama behind each owner. Membership is what the test says.
type world struct {
	t       *testing.T
	view    atomic.Pointer[mesh.View]
	client  *http.Client
	ingress *router.Router
	owners  map[string]*ollamatest.Server
	routers map[string]*router.Router // in front of the owners
	members []*mesh.Member
	fail    map[string]context.CancelCauseFunc // ends a member
	log     journal                            // of the ingress

	enter map[string]func(context.Context, backend.Work) // what a request meets at an owner's gate; nil: nothing
	mu    sync.Mutex
	conns map[string][]net.Conn    // open links of the ingress, by owner
	ice   map[string]chan struct{} // links of these owners are frozen until it is closed
	cable map[string]error         // what dialing these owners ends in
	dials map[string]int
}

// journal is a log that several goroutines write.
type journal struct {
	mu   sync.Mutex
	text strings.Builder
}

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.Write(p)
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.String()
}

// newWorld starts one owner per config, named by it. policy nil: router.Select.
// Everything ends with the test, before its bubble.
func newWorld(t *testing.T, policy router.Policy, configs ...ollamatest.Config) *world {
	t.Helper()
	w := &world{
		t: t, owners: map[string]*ollamatest.Server{}, routers: map[string]*router.Router{}, fail: map[string]context.CancelCauseFunc{},
		enter: map[string]func(context.Context, backend.Work){}, conns: map[string][]net.Conn{},
		ice: map[string]chan struct{}{}, cable: map[string]error{}, dials: map[string]int{},
	}
	links := peers{}
	w.members = append(w.members, meshtest.Member("ingress", meshtest.Self(), meshtest.LoadOf(func(l *mesh.Load) { l.Up = false })))
	for _, c := range configs {
		ctx, cancel := context.WithCancelCause(context.Background())
		t.Cleanup(func() { cancel(nil) })
		m := meshtest.Member(c.Name, meshtest.Models("m:latest"), meshtest.Hardware(bigBox()),
			meshtest.With(func(m *mesh.Member) { m.Since, m.Heard = time.Now(), time.Now() })).WithContext(ctx)
		w.members = append(w.members, m)
		w.fail[c.Name] = cancel
		w.owners[c.Name] = ollamatest.New(c)
		links[string(m.ID)] = w.owner(c.Name)
	}
	w.view.Store(mesh.NewView(1, time.Now(), w.members))
	var err error
	w.ingress, err = router.New(router.Config{
		Mesh: w, Backend: &down{}, Peers: links, Policy: policy,
		Logger: slog.New(slog.NewTextHandler(&w.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	})
	if err != nil {
		t.Fatal(err)
	}
	front := ollamatest.NewPipe()
	w.serve(front, &http.Server{Handler: w.ingress.Client()})
	transport := &http.Transport{DialContext: front.DialContext, DisableKeepAlives: true}
	w.client = &http.Client{Transport: transport}
	t.Cleanup(links.close)
	return w
}

func bigBox() hardware.Inventory {
	ram := hardware.Bytes{N: 64 << 30, Source: hardware.Configured}
	return hardware.Inventory{OS: "linux", Arch: "amd64", CPU: "test", Cores: 8, Role: "cpu", RAM: ram, RAMFree: ram}
}

// View and Observe make a world the Mesh of its routers.
func (w *world) View() *mesh.View                { return w.view.Load() }
func (w *world) Observe(mesh.NodeID, *mesh.Load) {}

// owner starts an Ollama and the router in front of it, and returns the link
// to it.
func (w *world) owner(name string) *http.Transport {
	w.t.Helper()
	inside := ollamatest.NewPipe()
	w.owners[name].Start(inside)
	w.t.Cleanup(func() { _ = w.owners[name].Close() })
	r, err := router.New(router.Config{Mesh: w, Backend: &open{inside, func(ctx context.Context, work backend.Work) {
		if meet := w.enter[name]; meet != nil {
			meet(ctx, work)
		}
	}}, Peers: peers{}})
	if err != nil {
		w.t.Fatal(err)
	}
	w.routers[name] = r
	var h2 http.Protocols
	h2.SetUnencryptedHTTP2(true)
	pipe := ollamatest.NewPipe()
	w.serve(pipe, &http.Server{Handler: r.Peer(), Protocols: &h2})
	dial := func(ctx context.Context, network, address string) (net.Conn, error) {
		w.mu.Lock()
		err := w.cable[name]
		w.dials[name]++
		w.mu.Unlock()
		if err != nil {
			return nil, err
		}
		c, err := pipe.DialContext(ctx, network, address)
		if err != nil {
			return nil, err
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		w.conns[name] = append(w.conns[name], c)
		return held{c, w, name}, nil
	}
	return &http.Transport{DialContext: dial, Protocols: &h2}
}

// held is a link that may freeze: what the owner sent is read when it thaws.
type held struct {
	net.Conn
	w    *world
	name string
}

func (h held) Read(p []byte) (int, error) {
	n, err := h.Conn.Read(p)
	h.w.mu.Lock()
	ice := h.w.ice[h.name]
	h.w.mu.Unlock()
	if ice != nil {
		<-ice
	}
	return n, err
}

// freeze lets nothing of an owner through for so long.
func (w *world) freeze(name string, span time.Duration) {
	ice := make(chan struct{})
	w.mu.Lock()
	w.ice[name] = ice
	w.mu.Unlock()
	time.AfterFunc(span, func() {
		w.mu.Lock()
		delete(w.ice, name)
		w.mu.Unlock()
		close(ice)
	})
}

// unplug makes dialing an owner fail with err; nil: no more.
func (w *world) unplug(name string, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cable[name] = err
}

// reset breaks the ingress's links to an owner; new ones work.
func (w *world) reset(name string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range w.conns[name] {
		_ = c.Close()
	}
	w.conns[name] = nil
}

func (w *world) serve(pipe *ollamatest.Pipe, s *http.Server) {
	go func() { _ = s.Serve(pipe) }()
	w.t.Cleanup(func() { _ = s.Close() })
}

// peers carries forwards by node id.
type peers map[string]*http.Transport

func (p peers) RoundTrip(req *http.Request) (*http.Response, error) {
	out := req.Clone(req.Context())
	out.URL.Scheme = "http"
	return p[req.URL.Host].RoundTrip(out)
}

func (p peers) close() {
	for _, t := range p {
		t.CloseIdleConnections()
	}
}

// open is a backend without a gate, but for what the test puts there.
type open struct {
	pipe *ollamatest.Pipe
	meet func(context.Context, backend.Work)
}

func (o open) Enter(ctx context.Context, work backend.Work) (func(backend.Usage), error) {
	if o.meet != nil {
		o.meet(ctx, work)
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return func(backend.Usage) {}, nil
}

func (o open) Do(req *http.Request) (*http.Response, error) {
	out := req.Clone(req.Context())
	out.URL.Scheme, out.URL.Host = "http", "ollama"
	out.Header.Set(ollamatest.HeaderTestID, "any") // so that runs are counted
	return (&http.Transport{DialContext: o.pipe.DialContext, DisableKeepAlives: true}).RoundTrip(out)
}

func (open) Progress(string, int)  {}
func (open) Poke()                 {}
func (open) Life() context.Context { return context.Background() }
func (open) Load() *mesh.Load      { return nil }

// down is the backend of a node without Ollama.
type down struct{ open }

func (down) Enter(context.Context, backend.Work) (func(backend.Usage), error) {
	return nil, &backend.Refused{Reason: backend.ErrDown}
}

// gone says that a member has failed, as membership does.
func (w *world) gone(name string) {
	next := make([]*mesh.Member, 0, len(w.members))
	for _, m := range w.View().Members() {
		if m.Info.Hostname == name {
			c := *m
			c.Status = mesh.Failed
			m = &c
		}
		next = append(next, m)
	}
	w.view.Store(mesh.NewView(2, time.Now(), next))
	w.fail[name](mesh.ErrMemberFailed)
}

// returned says that a member has joined anew.
func (w *world) returned(name string) {
	next := make([]*mesh.Member, 0, len(w.members))
	for _, m := range w.View().Members() {
		if m.Info.Hostname == name {
			c := *m
			c.Since = time.Now()
			m = &c
		}
		next = append(next, m)
	}
	w.view.Store(mesh.NewView(3, time.Now(), next))
}

// got is an answer of the ingress.
type got struct {
	status   int
	header   http.Header
	body     string
	text     string
	whole    bool
	err      error
	took     time.Duration
	silences time.Duration // the longest
}

func (w *world) ask(path string, body map[string]any) (g got) {
	w.t.Helper()
	start := time.Now()
	data, err := json.Marshal(body)
	if err != nil {
		w.t.Fatal(err)
	}
	resp, err := w.client.Post("http://ingress"+path, "application/json", bytes.NewReader(data))
	if err != nil {
		return got{err: err}
	}
	defer resp.Body.Close()
	g = got{status: resp.StatusCode, header: resp.Header}
	var all strings.Builder
	last := time.Now()
	for dec := json.NewDecoder(io.TeeReader(resp.Body, &all)); ; {
		var line struct {
			Response string
			Done     bool
			Error    any
		}
		err := dec.Decode(&line)
		g.silences, last = max(g.silences, time.Since(last)), time.Now()
		if err != nil {
			if err != io.EOF {
				g.err = err
			}
			break
		}
		g.text += line.Response
		g.whole = g.whole || line.Done
	}
	g.body, g.took = all.String(), time.Since(start)
	return g
}

// generate is a request for so many tokens.
func generate(tokens int, stream bool) map[string]any {
	return map[string]any{"model": "m", "prompt": "hello", "stream": stream, "options": map[string]any{"temperature": 0, "num_predict": tokens}}
}

// with is a request with another member.
func with(body map[string]any, key string, value any) map[string]any {
	body[key] = value
	return body
}

// runs is how often work began on the owner's Ollama.
func (w *world) runs(name string) (n int) {
	for _, times := range w.owners[name].Stats().Executions {
		n += times
	}
	return n
}

// byName asks the owners in the order of their names.
func byName(q router.Request, s router.Snapshot) []router.Candidate {
	var cs []router.Candidate
	for _, h := range s.Holders(q.Key) {
		cs = append(cs, router.Candidate{Member: h.Member, Model: h.Model})
	}
	for i := range cs { // few
		for j := i; j > 0 && cs[j].Name < cs[j-1].Name; j-- {
			cs[j], cs[j-1] = cs[j-1], cs[j]
		}
	}
	return cs
}
