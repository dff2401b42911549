package router

import (
	"sync/atomic"
	"testing"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh/meshtest"
)

// What is noted of a member is what its report of the same View says: a request
// that keeps an older View, or has a newer one, reads its own.
func TestASiteIsOfItsReport(t *testing.T) {
	at := func(running int) *mesh.Member {
		return meshtest.Member("a", meshtest.Models("m:7b"), meshtest.LoadOf(func(l *mesh.Load) {
			l.Models = []mesh.ModelLoad{{Key: "m:7b", Resident: true, Slots: 4, Running: running}}
		}))
	}
	var note atomic.Value
	before, after := at(1), at(3)
	for _, m := range []*mesh.Member{before, after, after, before} {
		h := mesh.Holder{Member: m, Model: &m.Card.Catalog[0], Note: &note}
		p := siteOf(&h)
		if p.member != m || p.running != float64(m.Load.Models[0].Running) {
			t.Errorf("%v running, the report says %d", p.running, m.Load.Models[0].Running)
		}
		if siteOf(&h) != p {
			t.Error("the same report is read twice")
		}
	}
}

// What has been sent to one member, or is in its cache, changes nothing that
// another request reads of it.
func TestASiteKeepsWhatIsNoted(t *testing.T) {
	m := meshtest.Member("a", meshtest.Models("m:7b"), meshtest.LoadOf(func(l *mesh.Load) {
		l.Models = []mesh.ModelLoad{{Key: "m:7b", Resident: true, Size: 4 << 30, Slots: 4}}
	}))
	v := meshtest.View(m)
	q := Request{Key: "m:7b", PromptTokens: 100}
	plain := Snapshot{View: v, Now: v.At}
	want := Select(q, plain)[0].Estimate
	sent := plain
	sent.Outstanding = []Sent{{Node: m.ID, Key: "m:7b", N: 5}}
	sent.Cached = []Cached{{m.ID, 50}}
	if got := Select(q, sent)[0].Estimate; got == want {
		t.Error("five requests on their way and a warm cache make no difference")
	}
	if got := Select(q, plain)[0].Estimate; got != want {
		t.Errorf("%+v, before %+v", got, want)
	}
}
