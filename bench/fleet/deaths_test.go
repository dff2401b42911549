package fleet_test

import (
	"sync"
	"testing"
	"time"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/bench/fleet"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/ollamatest"
)

// crowd sends n streams at once over the fleet's ingress, each of so many
// tokens, and returns them when all have ended. The routes take turns.
func crowd(t *testing.T, f *fleet.Fleet, n, tokens int) (wait func() []heard) {
	t.Helper()
	answers := make([]heard, n)
	var streams sync.WaitGroup
	for i := range n {
		r := routes[i%4]
		streams.Go(func() {
			answers[i] = listen(t.Context(), f.Node(0).Endpoint(), r.path, r.request("m", tokens, nil))
		})
	}
	return func() []heard {
		streams.Wait()
		return answers
	}
}

// flowing waits until every stream runs and each owner has produced some.
func flowing(t *testing.T, f *fleet.Fleet, n int) {
	t.Helper()
	limit := time.Now().Add(30 * time.Second)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		running := 0
		for _, owner := range f.Nodes()[1:] {
			if owner.Running() {
				running += owner.Ollama.Stats().Running
			}
		}
		if running >= n {
			return
		}
		if time.Now().After(limit) {
			t.Fatalf("%d of %d streams run", running, n)
		}
		<-tick.C
	}
}

func verify(t *testing.T, answers []heard, tokens int) (continued int) {
	t.Helper()
	bad := 0
	for i, h := range answers {
		err := h.whole()
		if err == nil {
			err = ollamatest.Verify(h.text, tokens)
		}
		if err == nil && h.output != tokens {
			t.Errorf("stream %d counts %d tokens", i, h.output)
		}
		if err != nil {
			if bad++; bad <= 5 {
				t.Errorf("stream %d over %s from %s: %v", i, routes[i%4].name, h.node, err)
			}
		}
		if h.note != "" {
			continued++
		}
	}
	if bad > 0 {
		t.Errorf("%d of %d answers are not whole", bad, len(answers))
	}
	return continued
}

// four owners with room for everything on any two of them.
func four() []fleet.Spec {
	var specs []fleet.Spec
	for _, name := range []string{"a", "b", "c", "d"} {
		// A token in 50 ms: the crowd's 10000 tokens a second are what two
		// cores carry, and each answer lasts 3 s.
		specs = append(specs, owner(name, "0.33.0", 250, ollamatest.Model{
			Name: "m", Size: 1 << 20, Decode: 20, Layers: 1, KVHeads: 1, HeadDim: 16, // so that 250 contexts fit
		}))
	}
	return specs
}

func TestFiveHundredStreamsOutliveTheirNode(t *testing.T) {
	if testing.Short() {
		t.Skip("500 streams, not with -short")
	}
	const streams, tokens = 500, 100
	f := start(t, nil, four()...)
	wait := crowd(t, f, streams, tokens)
	flowing(t, f, streams)
	dead := f.Node(2).Ollama.Stats().Running
	f.Node(2).Kill()
	continued := verify(t, wait(), tokens)
	t.Logf("%d streams were on the dead node, %d were continued: %+v", dead, continued, f.Node(0).Router().Continued())
	if dead == 0 || continued < dead*9/10 {
		t.Errorf("%d streams continued of %d", continued, dead)
	}
}

func TestTwoOfFourNodesDieOneAfterTheOther(t *testing.T) {
	if testing.Short() {
		t.Skip("200 streams, not with -short")
	}
	const streams, tokens = 200, 120
	f := start(t, nil, four()...)
	wait := crowd(t, f, streams, tokens)
	flowing(t, f, streams)
	f.Node(1).Kill()
	flowing(t, f, streams) // what it had is with the others now
	f.Node(3).Kill()
	continued := verify(t, wait(), tokens)
	t.Logf("%d were continued: %+v", continued, f.Node(0).Router().Continued())
	twice := 0
	for key, n := range f.Node(0).Router().Continued().Breaks {
		if key.Path == "exact" {
			twice += int(n)
		}
	}
	if twice <= continued {
		t.Errorf("%d breaks of %d continued streams: none broke twice", twice, continued)
	}
}
