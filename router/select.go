package router

import (
	"slices"
	"time"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh"
)

// Select orders the members that may serve q, best first: least expected cost,
// where the cost of a placement is the time until q itself is answered plus the
// delay that it causes to requests already there (see [Estimate]).
func Select(q Request, s Snapshot) []Candidate {
	holders := s.Holders(q.Key)
	if len(holders) == 0 {
		return nil
	}
	e := newEstimator(&q, &s, holders)
	out := make([]Candidate, 0, len(holders))
	for i := range holders {
		if c, reason := e.candidate(&holders[i]); reason == "" {
			out = append(out, c)
		}
	}
	order(out)
	return out
}

// order sorts by cost.
func order(cs []Candidate) {
	slices.SortFunc(cs, func(a, b Candidate) int {
		return int(a.rank - b.rank)
	})
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

var _ = mesh.Alive
