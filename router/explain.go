package router

import (
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh"
)

// Explain is Select with the reasons of those that are no candidates: every
// member of the view is in one of the two lists.
func Explain(q Request, s Snapshot) ([]Candidate, []Refusal) {
	candidates := Select(q, s)
	holders := s.Holders(q.Key)
	e := estimator{q: &q, s: &s}
	e.learn(holders)
	var est Estimate
	var refusals []Refusal
	for _, m := range s.Members() {
		r := Refusal{Member: m, Reason: ReasonNoModel}
		if m.Status != mesh.Alive {
			r.Reason = ReasonGone
		}
		for i := range holders {
			if holders[i].Member != m {
				continue
			}
			if _, r.Reason = e.candidate(&holders[i], &est); r.Reason == ReasonTooBig {
				r.Need, r.Have = sizes(q, m, holders[i].Model)
			}
		}
		if r.Reason != "" {
			refusals = append(refusals, r)
		}
	}
	return candidates, refusals
}

// sizes are what the model needs and what the machine could give it at most,
// for people: the memory of its GPUs and its RAM, where they are one only once.
func sizes(q Request, m *mesh.Member, model *mesh.Model) (need, have uint64) {
	n := model.Need(q.Context, m.Parallel())
	hw := m.Card.Hardware
	have = hw.RAM.N
	switch {
	case hw.Unified && hw.Pool.Known():
		have = hw.Pool.N
	case !hw.Unified:
		have += hw.VRAM.N
	}
	return n.Total(), have
}
