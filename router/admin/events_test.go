package admin

import (
	"bufio"
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh/meshtest"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router"
)

// news is a Watcher whose View a test changes.
type news struct {
	mu   sync.Mutex
	view *mesh.View
	next chan struct{}
}

func newNews(v *mesh.View) *news { return &news{view: v, next: make(chan struct{})} }

func (n *news) Watch() (*mesh.View, <-chan struct{}) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.view, n.next
}

func (n *news) publish(generation uint64, members ...*mesh.Member) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.view = mesh.NewView(generation, meshtest.Epoch, members)
	close(n.next)
	n.next = make(chan struct{})
}

// paper records a stream with the time of each event.
type paper struct {
	http.ResponseWriter
	mu     sync.Mutex
	start  time.Time
	events []printed
}

type printed struct {
	at   time.Duration
	name string
	data string
}

func (p *paper) Header() http.Header { return http.Header{} }
func (p *paper) WriteHeader(int)     {}
func (p *paper) FlushError() error   { return nil }

func (p *paper) Write(b []byte) (int, error) {
	name, rest, ok := strings.Cut(strings.TrimPrefix(string(b), "event: "), "\ndata: ")
	if ok {
		p.mu.Lock()
		p.events = append(p.events, printed{time.Since(p.start), name, strings.TrimSuffix(rest, "\n\n")})
		p.mu.Unlock()
	}
	return len(b), nil
}

func (p *paper) got() []printed {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.events
}

func TestEventsComeOnChangeAndAtMostTwiceASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		alone := meshtest.Member("a", meshtest.Self())
		n := newNews(meshtest.View(alone))
		e := NewEvents(EventsConfig{Mesh: n})
		p := &paper{start: time.Now()}
		done := make(chan struct{})
		go func() {
			defer close(done)
			e.ServeHTTP(p, httptest.NewRequest(http.MethodGet, "/", nil))
		}()
		synctest.Wait()
		if got := p.got(); len(got) != 1 || got[0].name != "picture" {
			t.Fatalf("at first: %+v", got)
		}
		// A burst of a hundred changes within two seconds.
		for i := range 100 {
			time.Sleep(20 * time.Millisecond)
			n.publish(uint64(2+i), alone, meshtest.Member("b", meshtest.LoadOf(func(l *mesh.Load) { l.Running = i })))
		}
		time.Sleep(time.Second)
		got := p.got()
		if len(got) > 6 {
			t.Errorf("%d events in 3 s", len(got))
		}
		for i := 1; i < len(got); i++ {
			if d := got[i].at - got[i-1].at; d < eventSpacing {
				t.Errorf("events %v apart", d)
			}
		}
		if last := got[len(got)-1]; !strings.Contains(last.data, `"in_flight":99`) {
			t.Errorf("the last state was not sent: %s", last.data)
		}
		// Quiet: only signs of life.
		before := len(got)
		time.Sleep(21 * time.Second)
		beats := p.got()[before:]
		if len(beats) != 4 {
			t.Errorf("%d beats in 21 s: %+v", len(beats), beats)
		}
		for _, b := range beats {
			if b.name != "beat" {
				t.Errorf("a quiet mesh sends %q", b.name)
			}
		}
		e.Close()
		<-done
	})
}

func TestASilentNodeIsNewsWithoutANewView(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		now := time.Now()
		n := newNews(meshtest.View(
			meshtest.Member("a", meshtest.Self()),
			meshtest.Member("b", meshtest.With(func(m *mesh.Member) { m.Heard = now })),
		))
		e := NewEvents(EventsConfig{Mesh: n})
		p := &paper{start: now}
		done := make(chan struct{})
		go func() {
			defer close(done)
			e.ServeHTTP(p, httptest.NewRequest(http.MethodGet, "/", nil))
		}()
		time.Sleep(6750 * time.Millisecond)
		e.Close()
		<-done
		got := p.got()
		if last := got[len(got)-1]; last.name != "picture" || !strings.Contains(last.data, `"silent_s":6`) {
			t.Errorf("after 6.75 s: %+v", last)
		}
		for _, ev := range got {
			if strings.Contains(ev.data, `"silent_s":1,`) {
				t.Errorf("silent after %v", ev.at)
			}
		}
	})
}

func TestStreamsAreBoundedAndEndWithTheNode(t *testing.T) {
	e := NewEvents(EventsConfig{Mesh: newNews(meshtest.View(meshtest.Member("a", meshtest.Self())))})
	server := httptest.NewServer(e)
	defer server.Close()
	var open []*bufio.Reader
	for range maxStreams {
		resp, err := http.Get(server.URL)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		r := bufio.NewReader(resp.Body)
		if _, err := r.ReadString('{'); err != nil { // the stream runs
			t.Fatal(err)
		}
		open = append(open, r)
	}
	resp, err := http.Get(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusServiceUnavailable || resp.Header.Get("Retry-After") == "" {
		t.Errorf("one page too many: %s %v", resp.Status, resp.Header)
	}
	e.Close()
	e.Close()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for _, r := range open {
			for {
				if _, err := r.ReadByte(); err != nil {
					break
				}
			}
		}
	}()
	select {
	case <-ended:
	case <-time.After(10 * time.Second):
		t.Fatal("streams go on after Close")
	}
}

func TestAReaderThatLeftGivesItsPlaceBack(t *testing.T) {
	e := NewEvents(EventsConfig{Mesh: newNews(meshtest.View())})
	for range 3 * maxStreams {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		req := httptest.NewRequest(http.MethodGet, "/", nil).WithContext(ctx)
		e.ServeHTTP(httptest.NewRecorder(), req)
	}
	if len(e.places) != 0 {
		t.Errorf("%d places held by nobody", len(e.places))
	}
}

func TestPictureOf(t *testing.T) {
	now := meshtest.Epoch.Add(time.Minute)
	v := meshtest.View(
		meshtest.Member("b", meshtest.Self(), meshtest.Models("y:latest", "x:latest"), meshtest.LoadOf(func(l *mesh.Load) {
			l.Running, l.Waiting = 2, 1
			l.Models = []mesh.ModelLoad{
				{Key: "x:latest", Resident: true, Size: 10, SizeVRAM: 4, Running: 2, Waiting: 1},
				{Key: "y:latest", Decode: 9}, // measured once, not in memory
			}
		})),
		meshtest.Member("a", meshtest.Models("y:latest")),
		meshtest.Member("c", meshtest.Gone(mesh.Failed), meshtest.Models("z:latest"), meshtest.LoadOf(func(l *mesh.Load) {
			l.Models = []mesh.ModelLoad{{Key: "z:latest", Resident: true, Size: 10}}
		})),
		meshtest.Member("d", meshtest.NoCard(), meshtest.With(func(m *mesh.Member) { m.Load = nil })),
	)
	p := PictureOf(v, "home", "http://127.0.0.1:1", "1.0", now)
	if p.Self != "b" || p.Health != "DEGRADED" || len(p.Members) != 4 || len(p.Models) != 3 {
		t.Fatalf("%+v", p)
	}
	a, b, c := p.Members[0], p.Members[1], p.Members[2]
	if a.Name != "a" || a.Silent != 60 || len(a.Models) != 1 || p.Models[a.Models[0]].Name != "y:latest" {
		t.Errorf("a: %+v", a)
	}
	if b.Silent != 0 || len(b.Held) != 1 || b.Held[0].Name != "x:latest" || b.Held[0].SizeVRAM != 4 || len(b.Models) != 2 {
		t.Errorf("b: %+v", b)
	}
	if c.Status != "failed" || c.Silent != 0 || len(c.Held) != 0 || len(c.Models) != 1 {
		t.Errorf("a dead node holds nothing, and what it had on disk is still shown: %+v", c)
	}
	data, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(data), `"hardware"`) || strings.Contains(string(data), `"models":[{"name":"x:latest","size":4294967296,"digest"`) {
		t.Errorf("a picture has no details: %s", data)
	}
}

// Requests are told once each when they end, and again and again while they
// run; when nothing runs there is nothing to tell.
func TestEventsOfRequests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var running, ended []router.Record
		requests := func(since uint64) (now, past []router.Record, ends uint64) {
			mu.Lock()
			defer mu.Unlock()
			return slices.Clone(running), slices.Clone(ended[since:]), uint64(len(ended))
		}
		set := func(r, e []router.Record) {
			mu.Lock()
			defer mu.Unlock()
			running, ended = r, e
		}
		one, two := router.Record{ID: "one", Outcome: "ok"}, router.Record{ID: "two"}
		set(nil, []router.Record{one})
		e := NewEvents(EventsConfig{Mesh: newNews(meshtest.View(meshtest.Member("a", meshtest.Self()))), Requests: requests})
		p := &paper{start: time.Now()}
		go e.ServeHTTP(p, httptest.NewRequest(http.MethodGet, "/", nil))
		defer e.Close()
		// since is what was told of after the events of before.
		since := func(d time.Duration) (out []Requests) {
			before := len(p.got())
			time.Sleep(d)
			for _, ev := range p.got()[before:] {
				var doc Requests
				if ev.name == "requests" && json.Unmarshal([]byte(ev.data), &doc) == nil {
					out = append(out, doc)
				}
			}
			return out
		}
		first := since(3 * time.Second)
		if len(first) != 1 || len(first[0].Ended) != 1 || first[0].Ended[0].ID != "one" || first[0].Node != "a" {
			t.Fatalf("at first: %+v", first)
		}
		set([]router.Record{two}, []router.Record{one})
		runs := since(5 * time.Second)
		if len(runs) < 4 || len(runs) > 6 || len(runs[0].Running) != 1 || len(runs[0].Ended) != 0 {
			t.Errorf("while it runs: %+v", runs)
		}
		two.Outcome = "ok"
		set(nil, []router.Record{one, two})
		last := since(5 * time.Second)
		if len(last) != 1 || len(last[0].Running) != 0 || len(last[0].Ended) != 1 || last[0].Ended[0].ID != "two" {
			t.Errorf("after it: %+v", last)
		}
	})
}
