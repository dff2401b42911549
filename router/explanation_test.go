package router

import (
	"math"
	"testing"
	"time"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh/meshtest"
)

// Every member stands in an explanation once, the candidates in the policy's
// order and the others with the reason that tells most.
func TestExplained(t *testing.T) {
	now := meshtest.Epoch.Add(12 * time.Second)
	view := meshtest.View(
		meshtest.Member("best"), meshtest.Member("second"), meshtest.Member("small"), meshtest.Member("lacks"), meshtest.Member("passed"),
		meshtest.Member("left", meshtest.Gone(mesh.Left)), meshtest.Member("failed", meshtest.Gone(mesh.Failed)),
	)
	named := func(name string) *mesh.Member {
		m, ok := view.Lookup(name)
		if !ok {
			t.Fatal(name)
		}
		return m
	}
	candidate := func(name string, decode time.Duration) Candidate {
		return Candidate{Member: named(name), Estimate: Estimate{Wait: time.Second, Decode: decode, Trouble: 3 * time.Second}}
	}
	a, b, c := candidate("best", 2*time.Second), candidate("second", 4*time.Second), candidate("passed", time.Second)
	e := explained(Request{ID: "x", Key: "m:latest"}, Snapshot{Now: now},
		[]Candidate{a, b}, []Candidate{c, b, a}, []Refusal{
			{Member: named("small"), Reason: ReasonNoModel},
			{Member: named("best"), Reason: ReasonNoModel},
			{Member: named("lacks"), Reason: ReasonNoModel},
			{Member: named("left"), Reason: ReasonGone},
			{Member: named("failed"), Reason: ReasonGone},
			{Member: named("small"), Reason: ReasonTooBig, Need: 48_750_000_000, Have: 31_240_000_000},
		})
	want := []struct {
		node, text string
		rank       int
		total      float64
	}{
		{"best", "", 1, 6 + 3*3/100.0},
		{"second", "", 2, 8 + 5*5/100.0},
		{"failed", "failed 12 s ago", 0, 0},
		{"lacks", "lacks model", 0, 0},
		{"left", "left 12 s ago", 0, 0},
		{"passed", "could serve it, and the policy passes it over", 0, 0},
		{"small", "would not fit: needs 45.4 GiB, has 29.1 GiB", 0, 0},
	}
	if e.Choice != "best" || e.ID != "x" || len(e.Nodes) != len(want) {
		t.Fatalf("%+v", e)
	}
	for i, w := range want {
		got := e.Nodes[i]
		if got.Node != w.node || got.Text != w.text || got.Rank != w.rank || math.Abs(got.Total-w.total) > 1e-6 {
			t.Errorf("node %d: %+v, want %+v", i, got, w)
		}
	}
	if v := e.Nodes[0]; v.Wait != 1 || v.Decode != 2 || v.Trouble != 3 || v.Late != 0.09 {
		t.Errorf("the parts of the estimate: %+v", v)
	}
	if none := explained(Request{Key: "m"}, Snapshot{Now: now}, nil, nil, nil); none.Choice != "" || none.Nodes == nil {
		t.Errorf("without nodes: %+v", none)
	}
}
