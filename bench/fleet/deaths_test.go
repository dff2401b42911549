package fleet_test

import (
	"sync"
	"testing"
	"time"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/bench/fleet"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/ollamatest"
)

// crowd is many streams at once over the fleet's ingress.
type crowd struct {
	answers []heard
	streams sync.WaitGroup
	flowing chan struct{} // one for each stream that the client has begun to get
}

// gather sends n streams of so many tokens each. The routes take turns.
func gather(t *testing.T, f *fleet.Fleet, n, tokens int) *crowd {
	t.Helper()
	c := &crowd{answers: make([]heard, n), flowing: make(chan struct{}, n)}
	for i := range n {
		r := routes[i%4]
		begun := sync.OnceFunc(func() { c.flowing <- struct{}{} })
		c.answers[i].third = begun
		c.streams.Go(func() {
			defer begun() // in case it failed
			c.answers[i].listen(t.Context(), f.Node(0).Endpoint(), r.path, r.request("m", tokens, nil))
		})
	}
	return c
}

// begun waits until the client has a part of every answer.
func (c *crowd) begun(t *testing.T) {
	t.Helper()
	limit := time.After(patience)
	for i := range c.answers {
		select {
		case <-c.flowing:
		case <-limit:
			t.Fatalf("%d of %d streams flow", i, len(c.answers))
		}
	}
}

func (c *crowd) wait() []heard {
	c.streams.Wait()
	return c.answers
}

// working waits until the owners that live have so many requests running.
func working(t *testing.T, f *fleet.Fleet, n int) {
	t.Helper()
	limit := time.Now().Add(patience)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		running := 0
		for _, n := range load(f) {
			running += n
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

// load is how many requests each living owner runs.
func load(f *fleet.Fleet) map[*fleet.Node]int {
	running := map[*fleet.Node]int{}
	for _, n := range f.Nodes()[1:] {
		if n.Running() {
			running[n] = n.Ollama.Stats().Running
		}
	}
	return running
}

// busiest is the living owner that runs the most requests beyond those before.
func busiest(f *fleet.Fleet, before map[*fleet.Node]int) *fleet.Node {
	var best *fleet.Node
	now := load(f)
	for n, running := range now {
		if best == nil || running-before[n] > now[best]-before[best] {
			best = n
		}
	}
	return best
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
		// Slow enough for all streams to run at once, and for two cores to
		// carry them under the race detector.
		specs = append(specs, owner(name, "0.33.0", 250, ollamatest.Model{
			Name: "m", Size: 1 << 20, Decode: 4, Layers: 1, KVHeads: 1, HeadDim: 16, // so that 250 contexts fit
		}))
	}
	return specs
}

func TestFiveHundredStreamsOutliveTheirNode(t *testing.T) {
	if testing.Short() {
		t.Skip("500 streams, not with -short")
	}
	const streams, tokens = 500, 60
	f := start(t, nil, four()...)
	c := gather(t, f, streams, tokens)
	c.begun(t)
	victim := busiest(f, nil)
	dead := victim.Ollama.Stats().Running
	victim.Kill()
	continued := verify(t, c.wait(), tokens)
	t.Logf("%d streams were on the dead node, %d were continued: %+v", dead, continued, f.Node(0).Router().Continued())
	if dead == 0 || continued < dead*9/10 {
		t.Errorf("%d streams continued of %d", continued, dead)
	}
}

func TestTwoOfFourNodesDieOneAfterTheOther(t *testing.T) {
	if testing.Short() {
		t.Skip("200 streams, not with -short")
	}
	const streams, tokens = 200, 50
	f := start(t, nil, four()...)
	c := gather(t, f, streams, tokens)
	c.begun(t)
	before := load(f)
	busiest(f, nil).Kill()
	working(t, f, streams) // what it had is with the others now
	busiest(f, before).Kill()
	continued := verify(t, c.wait(), tokens)
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
