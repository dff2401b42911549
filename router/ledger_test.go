package router

import (
	"testing"
	"time"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh"
)

func TestOutstandingUntilTheNodeHasReported(t *testing.T) {
	start := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	view := func(heard time.Time) *mesh.View {
		return mesh.NewView(1, start, []*mesh.Member{{ID: "a", Status: mesh.Alive, Heard: heard}})
	}
	l := NewLedger()
	first := l.Dispatch("a", Work{Key: "m", Sent: start})
	second := l.Dispatch("a", Work{Key: "n", Sent: start.Add(time.Second)})

	if got := l.Outstanding(view(start)); len(got) != 2 {
		t.Errorf("before any report: %d outstanding, want 2", len(got))
	}
	if got := l.Outstanding(view(start.Add(settle))); len(got) != 1 || got[0].Key != "n" {
		t.Errorf("after a report that counts the first: %v, want only n", got)
	}
	second()
	if got := l.Outstanding(view(start)); len(got) != 1 || got[0].Key != "m" {
		t.Errorf("after the second ended: %v, want only m", got)
	}
	first()
	if got := l.Outstanding(view(start)); got != nil {
		t.Errorf("after all ended: %v, want nothing", got)
	}
}

func TestTroubleDoublesAndClears(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	l := NewLedger()
	view := func(since time.Time) *mesh.View {
		return mesh.NewView(1, now, []*mesh.Member{{ID: "a", Status: mesh.Alive, Since: since}})
	}
	old := view(now.Add(-time.Hour))
	for i, want := range []time.Duration{5, 10, 20, 40, 60, 60} {
		now = now.Add(sameEvent)
		l.Failed("a", now)
		l.Failed("a", now) // the same event
		if got := l.Troubles(old, now)["a"]; got != want*time.Second {
			t.Errorf("after %d failures: %v, want %v", i+1, got, want*time.Second)
		}
	}
	if got := l.Troubles(old, now.Add(50*time.Second))["a"]; got != 10*time.Second {
		t.Errorf("50 s later: %v, want 10s", got)
	}
	l.Worked("a")
	if got := l.Troubles(old, now); got != nil {
		t.Errorf("after a success: %v, want nothing", got)
	}
	l.Failed("a", now)
	if got := l.Troubles(view(now.Add(time.Second)), now.Add(time.Second)); got != nil {
		t.Errorf("after the node came back: %v, want nothing", got)
	}
}

// What a node says of its own failures counts like what was seen of them, for
// as long as it said, and no longer than anything does.
// What failed was an Ollama that has gone since: the one that answers now is
// another. One that was up all the time is the same.
func TestTroubleEndsWithTheOllamaThatMadeIt(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	view := func(up bool) *mesh.View {
		return mesh.NewView(1, now, []*mesh.Member{{ID: "a", Status: mesh.Alive, Since: now.Add(-time.Hour), Load: &mesh.Load{Up: up}}})
	}
	l := NewLedger()
	for i, step := range []struct {
		up      bool
		trouble time.Duration
	}{{true, troubleBase}, {true, troubleBase}, {false, troubleBase}, {false, troubleBase}, {true, 0}} {
		if i == 0 {
			l.Failed("a", now)
		}
		if got := l.Troubles(view(step.up), now)["a"]; got != step.trouble {
			t.Errorf("step %d, up %v: %v, want %v", i, step.up, got, step.trouble)
		}
	}
	l.Failed("a", now)
	if got := l.Troubles(view(true), now)["a"]; got != troubleBase {
		t.Errorf("the new one fails, too: %v, want %v", got, troubleBase)
	}
}

func TestTroubleThatANodeAdmits(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	view := func(seconds int) *mesh.View {
		return mesh.NewView(1, now, []*mesh.Member{{ID: "a", Status: mesh.Alive, Heard: now, Load: &mesh.Load{Trouble: seconds}}})
	}
	l := NewLedger()
	if got := l.Troubles(view(10), now.Add(4*time.Second))["a"]; got != 6*time.Second {
		t.Errorf("10 s, told 4 s ago: %v", got)
	}
	if got := l.Troubles(view(10), now.Add(10*time.Second)); got != nil {
		t.Errorf("over: %v", got)
	}
	if got := l.Troubles(view(1<<20), now)["a"]; got != troubleMax {
		t.Errorf("at most: %v", got)
	}
	l.Failed("a", now)
	if got := l.Troubles(view(2), now)["a"]; got != troubleBase {
		t.Errorf("seen more than it says: %v", got)
	}
	if got := l.Troubles(view(20), now)["a"]; got != 20*time.Second {
		t.Errorf("it says more than was seen: %v", got)
	}
}
