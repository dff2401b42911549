package survey

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/bench/fleet"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/ollamatest"
)

// Two nodes of different speed: each is measured by itself, also through the
// other's port, and what was measured is in the nodes' reports.
func TestSurvey(t *testing.T) {
	spec := func(name string, rate float64) fleet.Spec {
		return fleet.Spec{Name: name, Hardware: fleet.Seed(1)[0].Hardware, Ollama: &ollamatest.Config{
			Parallel: 2, Models: []ollamatest.Model{{Name: "m:latest", Size: 1 << 20, Decode: rate, Prefill: 1000}},
		}}
	}
	f, err := fleet.Start(t.Context(), []fleet.Spec{spec("quick", 400), spec("slow", 100)}, fleet.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var told int
	results, err := Run(t.Context(), Plan{
		API: f.Node(0).Endpoint(), Tokens: 40, Prompt: 20, Parallel: 2,
		Targets: []Target{{"quick", "m:latest"}, {"slow", "m:latest"}, {"slow", "none"}},
		Each: func(_ int, _ Target, r *Result) {
			if r != nil {
				told++
			}
		},
	})
	if err != nil || len(results) != 3 || told != 3 {
		t.Fatalf("%v, %+v, told of %d", err, results, told)
	}
	quick, slow := results[0], results[1]
	if quick.Error != "" || slow.Error != "" || quick.Decode < 1.5*slow.Decode || slow.Decode == 0 || slow.TTFT == 0 ||
		slow.Prefill == 0 || slow.SpeedUp == 0 {
		t.Errorf("quick %+v\nslow %+v", quick, slow)
	}
	if results[2].Error == "" {
		t.Error("a model that no node has was measured")
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var heard *mesh.Load
	_, err = f.Node(0).Mesh().Wait(ctx, func(v *mesh.View) bool {
		m, ok := v.Lookup("slow")
		if ok {
			heard = m.Load
		}
		return ok && slices.ContainsFunc(heard.Models, func(l mesh.ModelLoad) bool { return l.Samples > 0 && l.Decode > 0 })
	})
	if err != nil {
		t.Errorf("placement never heard of it: %v, %+v", err, heard)
	}
	var out strings.Builder
	Markdown(&out, append(results, Result{Target: Target{"n", "m"}, Cold: 2 * time.Second}))
	if n := strings.Count(out.String(), "\n"); n != 6 || !strings.Contains(out.String(), "failed: ") || !strings.Contains(out.String(), "2.0 s") {
		t.Errorf("table:\n%s", &out)
	}
}
