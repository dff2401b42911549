//go:build linux

package realollama

import (
	"testing"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/deploy/lab"
)

func TestServersOfTwoHostsShareAnAddress(t *testing.T) {
	l := lab.Up(t, 2)
	a := Start(t, Options{On: l.Node(1), Models: []string{"tiny"}})
	b := Start(t, Options{On: l.Node(2), Models: []string{"short"}})
	if a.URL != "http://127.0.0.1:11434" || b.URL != a.URL {
		t.Errorf("at %s and %s", a.URL, b.URL)
	}
	if generate(t, a, "tiny") == "" || generate(t, b, "short") != " one two three." {
		t.Error("no answer")
	}
	if out, err := b.CLI(t.Context(), "show", "short").CombinedOutput(); err != nil {
		t.Errorf("show: %v: %s", err, out)
	}
}
