//go:build linux || darwin

package conformance

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/bench/fleet"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/deploy/realollama"
)

// clientModels are the models that the clients' cases use.
var clientModels = []string{"tiny", "tiny2", "mid", "short", "utf8", "think", "tool", "embed", "brief", "loop"}

// subject is a server under test.
type subject struct{ name, url string }

// subjects are one real Ollama, and the nodes of a mesh: one with an Ollama
// without models and one without an Ollama, beside two that have the models.
type subjects struct {
	direct *realollama.Ollama
	fleet  *fleet.Fleet
	empty  *realollama.Ollama // of the first entry
	mesh   []subject
}

func realSubjects(t *testing.T, models ...string) subjects {
	t.Helper()
	return mixedSubjects(t, "", models...)
}

// mixedSubjects are the same, with another version at one of the two nodes that
// have the models; "" is the same version.
func mixedSubjects(t *testing.T, other string, models ...string) subjects {
	t.Helper()
	s := subjects{direct: realollama.Start(t, realollama.Options{Models: models})}
	a := realollama.Start(t, realollama.Options{Models: models, Version: other})
	b := realollama.Start(t, realollama.Options{Models: models})
	s.empty = realollama.Start(t, realollama.Options{})
	outside := func(name string, o *realollama.Ollama) fleet.Spec {
		spec := machine(name, 16*gib, nil)
		if o != nil {
			spec.Host = strings.TrimPrefix(o.URL, "http://")
		}
		return spec
	}
	s.fleet = start(t, outside("a", a), outside("b", b), outside("empty", s.empty), outside("bare", nil))
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	for i, name := range []string{"mesh, entry without models", "mesh, entry without Ollama"} {
		n := s.fleet.Node(2 + i)
		if _, err := n.Mesh().Wait(ctx, serving(3)); err != nil {
			t.Fatalf("%s does not see three Ollamas: %v", name, err)
		}
		for _, m := range models {
			if _, err := n.Mesh().Wait(ctx, held(m+":latest", 2)); err != nil {
				t.Fatalf("%s does not see %s on two nodes: %v", name, m, err)
			}
		}
		s.mesh = append(s.mesh, subject{name, n.Endpoint()})
	}
	return s
}
