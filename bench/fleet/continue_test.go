package fleet_test

import (
	"context"
	"testing"
	"time"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/bench/fleet"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/ollamatest"
)

func TestX(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	c := func(name string) fleet.Spec {
		return fleet.Spec{Name: name, Hardware: fleet.Seed(1)[0].Hardware, Ollama: &ollamatest.Config{Name: name, Parallel: 4, Models: []ollamatest.Model{{Name: "m", Size: 1 << 20, Decode: 200}}}}
	}
	f, err := fleet.Start(ctx, []fleet.Spec{{Name: "in"}, c("a"), c("b")}, fleet.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, n := range f.Nodes()[1:] {
		n.Ollama.Fault(ollamatest.Fault{Kind: ollamatest.Die, After: 7, Path: "/api/generate"})
		break
	}
	for range 3 {
		a := fleet.Ask(ctx, f.Node(0).Endpoint(), "m", "hello", 30, true)
		t.Logf("%+v", a)
	}
	t.Logf("%+v", f.Node(0).Router().Continued())
}
