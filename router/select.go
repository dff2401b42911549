package router

import (
	"math"
	"time"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh"
)

// Select orders the members that may serve q, best first: least expected cost,
// where the cost of a placement is the time until q itself is answered plus the
// delay that it causes to requests already there (see [Estimate]).
//
// It is pure, and fast enough to be asked again after every refusal: about
// 100 ns per member, and it allocates the returned list only, and that not if
// the Snapshot has room for it.
func Select(q Request, s Snapshot) []Candidate { return selectBy(&q, &s, true) }

// Completion is [Select] without regard for others: the plain expected
// completion time. It is there to be compared with; in simulation it thrashes
// models in and out of memory.
func Completion(q Request, s Snapshot) []Candidate { return selectBy(&q, &s, false) }

func selectBy(q *Request, s *Snapshot, harm bool) []Candidate {
	holders := s.Holders(q.Key)
	if len(holders) == 0 {
		return nil
	}
	e := estimator{q: q, s: s, selfish: !harm}
	e.learn(holders)
	var ranks [32]int64
	if len(holders) > len(ranks) {
		return e.chooseOfMany(holders)
	}
	return e.choose(holders, ranks[:])
}

// chooseOfMany is choose with more room on the stack.
func (e *estimator) chooseOfMany(holders []mesh.Holder) []Candidate {
	var ranks [512]int64
	if len(holders) > len(ranks) {
		return e.choose(holders, make([]int64, len(holders)))
	}
	return e.choose(holders, ranks[:])
}

// choose lists the candidates in order. ranks has room for as many as there are
// holders.
func (e *estimator) choose(holders []mesh.Holder, ranks []int64) []Candidate {
	var out []Candidate
	if room := e.s.Room; cap(room) >= len(holders) {
		out = room[:len(holders)]
		clear(out)
	} else {
		out = make([]Candidate, len(holders))
	}
	ranks = ranks[:len(out)]
	n := 0
	for i := range out {
		share, reason := e.candidate(&holders[i], &out[i].Estimate)
		if ranks[i] = refused; reason == "" {
			ranks[i] = int64(math.Float64bits(share)) //nolint:gosec // its bits
			n++
		}
	}
	// A second loop, because the sums of one candidate wait for each other, and
	// those of several do not.
	for i, r := range ranks {
		if r != refused {
			share := math.Float64frombits(uint64(r)) //nolint:gosec // its bits
			ranks[i] = max(0, int64(spread(out[i].Estimate.total(e.seconds), share)))
		}
	}
	order(out, ranks)
	for i := range out[:n] {
		h := &holders[ranks[i]]
		out[i].Member, out[i].Model = h.Member, h.Model
	}
	return out[:n]
}

// refused stands for the rank (which is never below 0) of a holder that is no candidate.
const refused = -1

// nearTie is the share of a cost below which a difference means nothing: the
// estimates are not better than that. Within it the choice is drawn, so that
// many entries with the same picture do not all choose the same node. Of 0,
// 0.05, 0.1, 0.2, 0.4 and 0.8 in simulation of 4, 16 and 100 nodes all up to
// 0.1 did equally well.
const nearTie = 0.1

// spread is what a candidate is sorted by: its cost, raised by up to nearTie.
// The share of it is drawn from the seed and the node's own id, so that equal seeds
// order near ties alike whoever asks and whoever else is there (rendezvous
// hashing, Thaler and Ravishankar 1998): that is how the turns of a conversation
// find one node from every entry, as long as its load allows it. For a request
// that stands alone this node itself draws nothing: equal cost means no hop.
func spread(t time.Duration, share float64) time.Duration {
	return t + time.Duration(float64(t)*nearTie*share)
}

// idHash is FNV-1a over an id.
func idHash(id mesh.NodeID) uint64 { return seed(string(id)) }

// draw maps two numbers to [0,1), evenly (SplitMix64's finaliser).
func draw(a, b uint64) float64 {
	x := a + (b+1)*0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	x ^= x >> 31
	return float64(x>>11) / (1 << 53)
}
