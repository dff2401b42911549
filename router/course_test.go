package router

import (
	"testing"
	"time"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh/meshtest"
)

// An owner's word on when it could start a request holds against the reports
// that were on their way then, and not for ever: it once kept a request away
// from a node whose queue had long been empty.
func TestAnOwnersWordEnds(t *testing.T) {
	said := meshtest.Epoch
	for _, c := range []struct {
		name  string
		heard time.Duration // the node's newest report, after its word
		want  string
	}{
		{"an older report", -time.Second, "other"},
		{"one that was on its way", wordHolds / 2, "other"},
		{"a newer one", wordHolds + time.Millisecond, "full"},
	} {
		t.Run(c.name, func(t *testing.T) {
			full, other := meshtest.Member("full"), meshtest.Member("other")
			full.Heard = said.Add(c.heard)
			cs := []Candidate{
				{Member: full, Estimate: Estimate{Decode: time.Second}},
				{Member: other, Estimate: Estimate{Decode: 5 * time.Second}},
			}
			var course Course
			if !course.Refused(full.ID, time.Minute, said) {
				t.Fatal("one refusal, and the node is never asked again")
			}
			best, ok := course.Best(cs, func(*mesh.Member) bool { return false })
			if !ok || best.ID != meshtest.ID(c.want) {
				t.Errorf("goes to %s, want %s", best.Name, c.want)
			}
		})
	}
}

// A request that waits compares what is still to come at either node: its age
// is the same for both.
func TestSoonerComparesWhatIsStillToCome(t *testing.T) {
	here := Candidate{Member: meshtest.Member("here"), Estimate: Estimate{Wait: time.Minute, Decode: time.Minute}}
	there := Candidate{Member: meshtest.Member("there"), Estimate: Estimate{Decode: time.Minute, Age: 10 * time.Minute}}
	var c Course
	if c.Sooner(here, 0, there) {
		t.Error("moves for nothing: it would start here at once")
	}
	if !c.Sooner(here, 10*time.Second, there) {
		t.Error("stays where it would start ten seconds later")
	}
	there.Estimate.Harm = 15 * time.Second
	if !c.Sooner(here, 10*time.Second, there) {
		t.Error("ten seconds of one who has waited ten minutes weigh less than fifteen of others")
	}
}
