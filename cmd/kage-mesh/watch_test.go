package main

import (
	"bufio"
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh/meshtest"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/admin"
)

// pictures is a mesh whose View a test changes.
type pictures struct {
	mu         sync.Mutex
	generation uint64
	view       *mesh.View
	next       chan struct{}
}

// Watch is part of [admin.Watcher].
func (p *pictures) Watch() (*mesh.View, <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.view, p.next
}

func (p *pictures) change(members ...*mesh.Member) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.generation++
	p.view = mesh.NewView(p.generation+1, meshtest.Epoch, members)
	close(p.next)
	p.next = make(chan struct{})
}

// meshNow serves a view as a node does, with its stream of events.
func meshNow(t *testing.T, members ...*mesh.Member) (api string, change func(...*mesh.Member)) {
	t.Helper()
	w := &pictures{view: meshtest.View(members...), next: make(chan struct{})}
	events := admin.NewEvents(admin.EventsConfig{
		Mesh: w, Cluster: "home", Requests: func(uint64) (r, e []router.Record, ends uint64) { return nil, nil, 0 },
	})
	mux := http.NewServeMux()
	mux.Handle("/mesh/v1/events", events)
	mux.Handle("/", admin.Handler(admin.Config{View: func() *mesh.View { v, _ := w.Watch(); return v }, Cluster: "home", API: "http://x"}))
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	t.Cleanup(events.Close)
	return server.URL, w.change
}

// --watch shows every change, as JSON one document a line, and ends with the
// program.
func TestWatch(t *testing.T) {
	self := meshtest.Member("attic", meshtest.Self())
	api, change := meshNow(t, self)
	for _, command := range []string{"members", "status"} {
		ctx, stop := context.WithCancel(t.Context())
		read, write, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		e := environment{stdin: strings.NewReader(""), stdout: write, stderr: os.Stderr, getenv: func(string) string { return "" }}
		done := make(chan error, 1)
		go func() {
			done <- newApp(e).RunContext(ctx, []string{"kage-mesh", command, "--watch", "--json", "--api", api})
			write.Close()
		}()
		lines := bufio.NewScanner(read)
		if !lines.Scan() || strings.Contains(lines.Text(), "late") || !json.Valid(lines.Bytes()) {
			t.Fatalf("%s: at first %s", command, lines.Text())
		}
		change(self, meshtest.Member("late"))
		if !lines.Scan() || !strings.Contains(lines.Text(), "late") || !json.Valid(lines.Bytes()) {
			t.Fatalf("%s: after a change %s", command, lines.Text())
		}
		change(self)
		if !lines.Scan() || strings.Contains(lines.Text(), "late") {
			t.Fatalf("%s: after another %s", command, lines.Text())
		}
		stop()
		if err := <-done; err != nil {
			t.Errorf("%s: %v", command, err)
		}
	}
	if r := run(t, nil, "status", "--watch", "--check", "--api", api); r.code != codeUsage {
		t.Errorf("%+v", r)
	}
}
