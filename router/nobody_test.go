package router_test

import (
	"net/http"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/ollamatest"
)

// A model whose only node has died is away, not unknown: a client that heard
// "not found" would pull it, or ask for another.
func TestAModelOfADeadNodeIsAwayAndNotUnknown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil, ollamatest.Config{Name: "a", Models: []ollamatest.Model{{Name: "m"}}})
		w.gone("a")
		g := w.ask("/api/generate", generate(5, true))
		if g.status != http.StatusServiceUnavailable || g.header.Get("Retry-After") == "" || !strings.Contains(g.body, "a has died") {
			t.Errorf("%d %v %s", g.status, g.header, g.body)
		}
		unknown := generate(5, true)
		unknown["model"] = "other"
		if g := w.ask("/api/generate", unknown); g.status != http.StatusNotFound {
			t.Errorf("a model that nobody had: %d %s", g.status, g.body)
		}
	})
}

// When every queue is full the caller is told when to come back.
func TestBusyEverywhereSaysWhenToComeBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil, fake("a", 0), fake("b", 0))
		for _, o := range w.owners {
			o.Fault(ollamatest.Fault{Kind: ollamatest.Busy, Times: ollamatest.Always})
		}
		g := w.ask("/api/generate", generate(5, true))
		if g.status != http.StatusServiceUnavailable || g.header.Get("Retry-After") == "" || !strings.Contains(g.body, "server busy") {
			t.Errorf("%d %v %s", g.status, g.header, g.body)
		}
	})
}
