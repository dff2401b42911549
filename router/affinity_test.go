package router

import (
	"testing"
	"time"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/wire"
)

func TestWarmthIsBelievedAsLongAsTheCacheCanBeThere(t *testing.T) {
	node := func(change func(*mesh.Load)) (*mesh.Member, *mesh.View) {
		l := &mesh.Load{Incarnation: 1, Models: []mesh.ModelLoad{{Key: "m", Resident: true, Slots: 2, Prefill: 100}}}
		change(l)
		m := &mesh.Member{ID: "a", Status: mesh.Alive, Load: l}
		return m, mesh.NewView(1, time.Time{}, []*mesh.Member{m})
	}
	same := func(*mesh.Load) {}
	answered := func(w *warmth, q *Request, m *mesh.Member, v *mesh.View, u wire.Usage) {
		w.answered(q, m, w.answers(q, m, v), u)
	}
	first := Request{Key: "m", Prefixes: []uint64{1, 2}, PrefixTokens: []int{10, 400}}
	next := Request{Key: "m", Prefixes: []uint64{1, 2, 3, 4}, PrefixTokens: []int{10, 400, 600, 620}}
	other := func(h uint64) *Request { return &Request{Key: "m", Prefixes: []uint64{h}, PrefixTokens: []int{50}} }
	cases := []struct {
		name  string
		later func(w *warmth, m *mesh.Member, v *mesh.View)
		load  func(*mesh.Load)
		want  int
	}{
		{"the next turn", func(*warmth, *mesh.Member, *mesh.View) {}, same, 400},
		{"another slot was used", func(w *warmth, m *mesh.Member, v *mesh.View) {
			answered(w, other(7), m, v, wire.Usage{})
		}, same, 400},
		{"all slots were used", func(w *warmth, m *mesh.Member, v *mesh.View) {
			answered(w, other(7), m, v, wire.Usage{})
			answered(w, other(8), m, v, wire.Usage{})
		}, same, 0},
		{"the node began anew", func(*warmth, *mesh.Member, *mesh.View) {}, func(l *mesh.Load) { l.Incarnation = 2 }, 0},
		{"its owner has not looked yet", func(*warmth, *mesh.Member, *mesh.View) {}, func(l *mesh.Load) { l.Models = nil }, 400},
		{"a prompt thought cached was read in full", func(w *warmth, m *mesh.Member, v *mesh.View) {
			branch := Request{Key: "m", Prefixes: []uint64{1, 2, 5}, PrefixTokens: []int{10, 400, 420}}
			answered(w, &branch, m, v, wire.Usage{PromptTokens: 430, PromptDuration: 4 * time.Second})
		}, same, 0},
	}
	for _, c := range cases {
		w := &warmth{}
		m, v := node(same)
		answered(w, &first, m, v, wire.Usage{PromptTokens: 410, PromptDuration: 4 * time.Second})
		c.later(w, m, v)
		_, v = node(c.load)
		if got := (&Snapshot{Cached: w.cached(&next, v)}).cached("a"); got != c.want {
			t.Errorf("%s: %d tokens believed cached, want %d", c.name, got, c.want)
		}
	}

	w := &warmth{}
	m, v := node(same)
	answered(w, &first, m, v, wire.Usage{})
	m, _ = node(func(l *mesh.Load) { l.Models[0].Resident = false })
	m.Heard = m.Heard.Add(lookLag + 1)
	v = mesh.NewView(2, time.Time{}, []*mesh.Member{m})
	if got := w.cached(&next, v); got != nil {
		t.Errorf("the model was unloaded: %v tokens believed cached", got)
	}
}

func TestReadInFull(t *testing.T) {
	l := &mesh.ModelLoad{Prefill: 100}
	for _, c := range []struct {
		name     string
		believed int
		u        wire.Usage
		want     bool
	}{
		{"all counted, and quick: a hit", 900, wire.Usage{PromptTokens: 1000, PromptDuration: time.Second}, false},
		{"all counted, and slow: a miss", 900, wire.Usage{PromptTokens: 1000, PromptDuration: 9 * time.Second}, true},
		{"only the rest counted: a hit", 900, wire.Usage{PromptTokens: 100, PromptDuration: time.Second}, false},
		{"little was believed", 100, wire.Usage{PromptTokens: 1000, PromptDuration: 9 * time.Second}, false},
		{"nothing is said", 900, wire.Usage{}, false},
	} {
		if got := readInFull(l, c.believed, c.u); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
}
