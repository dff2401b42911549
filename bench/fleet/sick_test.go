package fleet_test

import (
	"testing"
	"time"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/bench/fleet"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/admin"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/ollamatest"
)

// One ingress finds a node failing; the node says so itself, and no other
// ingress has to find it out by a request of its own. That passes, and where
// nobody else can it never counts.
func TestAFailingNodeIsKnownToAll(t *testing.T) {
	specs := []fleet.Spec{
		{Name: "one", Hardware: box()},
		{Name: "two", Hardware: box()},
		owner("a", "0.33.0", 4, slow(0)), owner("b", "0.33.0", 4, slow(0)),
	}
	f := startGrace(t, nil, time.Second, specs...)
	one, two, a := f.Node(0), f.Node(1), f.Node(2)
	trouble := func(n *fleet.Node) time.Duration {
		return n.Router().Snapshot(router.Request{Key: "m:latest"}).Trouble[a.ID()]
	}
	until := func(what string, ok func() bool) {
		t.Helper()
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for began := time.Now(); !ok(); <-tick.C {
			if time.Since(began) > patience {
				t.Fatalf("never: %s", what)
			}
		}
	}
	ask := func(n *fleet.Node) string {
		t.Helper()
		got := fleet.Ask(t.Context(), n.Endpoint(), "m", "x", 4, true)
		if got.Err != nil {
			t.Errorf("%+v", got)
		}
		return got.Node
	}
	drain := func(on bool) {
		t.Helper()
		if _, err := (admin.Client{Base: one.Endpoint()}).Drain(t.Context(), "b", admin.DrainOrder{On: on}); err != nil {
			t.Fatal(err)
		}
		seenByAll(t, f, func(v *mesh.View) bool { return memberOf(v, f.Node(3)).Draining() == on })
	}
	drain(true)
	ask(one) // now a has it in memory, and is asked first
	drain(false)
	heal := a.Ollama.Fault(ollamatest.Fault{Kind: ollamatest.Status, Status: 500, Times: ollamatest.Always})
	until("the first ingress meets the failure", func() bool { ask(one); return a.Ollama.Stats().Faults > 0 })
	met := time.Now()
	// Where it takes longer than the trouble holds, the first one meets it again.
	until("the second one knows", func() bool { ask(one); return trouble(two) > 0 })
	t.Logf("known to the other ingress %v after the failure", time.Since(met).Round(time.Millisecond))
	for range 10 {
		tried, known := a.Ollama.Stats().Requests["POST /api/generate"], trouble(two)
		by := ask(two)
		if trouble(two) == 0 || trouble(two) > known {
			continue // it was over meanwhile, or began anew
		}
		if now := a.Ollama.Stats().Requests["POST /api/generate"]; by != "b" || now != tried {
			t.Errorf("answered by %s; the second ingress tried it %d times", by, now-tried)
		}
	}
	// It is not out for ever, and not out at all where nobody else can.
	until("the trouble is over", func() bool { return trouble(one) == 0 && trouble(two) == 0 })
	ask(one)
	heal()
	drain(true)
	for range 3 {
		if by := ask(two); by != "a" {
			t.Errorf("well again, and the only one: answered by %s", by)
		}
	}
	// The first one has seen two failures for itself: 10 s.
	until("nobody holds it against it", func() bool { return trouble(one) == 0 && trouble(two) == 0 })
}
