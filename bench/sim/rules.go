package sim

import (
	"math"
	"slices"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router"
)

// Rule is how requests find their machines.
type Rule struct {
	Name string

	// Policy makes a mesh of the machines, with gates, gossip and queues that
	// requests may leave. Perfect puts it into one place with a fresh statement
	// of every machine and true speeds: what the rule could do if gossip cost
	// nothing.
	Policy  router.Policy
	Perfect bool

	// choose makes a dispatcher in front of bare Ollamas.
	choose func(s *Sim) func(r *request) int
}

// Mesh is a mesh with the policy.
func Mesh(name string, p router.Policy) Rule { return Rule{Name: name, Policy: p} }

// Central is the policy with perfect fresh information, in one place.
func Central(p router.Policy) Rule {
	return Rule{Name: "perfect information", Policy: p, Perfect: true}
}

// begin sets the rule up.
func (u Rule) begin(s *Sim) {
	if u.choose != nil {
		choose := u.choose(s)
		s.arrive = func(r *request) {
			r.arrived = s.now
			r.where = choose(r)
			n := s.nodes[r.where]
			n.dev.advance(s.now)
			n.dev.submit(r.job())
			n.plan()
		}
		return
	}
	if u.Perfect {
		s.entries = []*entry{s.newEntry(-1)}
		s.arrive = func(r *request) { r.arrive(s.entries[0]) }
		return
	}
	for i, n := range s.nodes {
		s.entries = append(s.entries, s.newEntry(i))
		s.at(s.random.Float64()*0.1, n.publish) // all have joined
	}
	s.arrive = func(r *request) { r.arrive(s.entries[r.entry]) }
}

// holding lists, by model, the machines that have it.
func (s *Sim) holding() [][]int {
	all := make([][]int, len(s.Fleet.Models))
	for m := range all {
		for i, n := range s.nodes {
			if n.kind.holds(m) {
				all[m] = append(all[m], i)
			}
		}
	}
	return all
}

// Random sends each request to any machine that has its model.
func Random() Rule {
	return Rule{Name: "random", choose: func(s *Sim) func(*request) int {
		holding := s.holding()
		return func(r *request) int {
			h := holding[r.model]
			return h[s.random.IntN(len(h))]
		}
	}}
}

// RoundRobin takes the machines that have the model in turn.
func RoundRobin() Rule {
	return Rule{Name: "round robin", choose: func(s *Sim) func(*request) int {
		holding, turn := s.holding(), make([]int, len(s.Fleet.Models))
		return func(r *request) int {
			turn[r.model]++
			return holding[r.model][turn[r.model]%len(holding[r.model])]
		}
	}}
}

// Nginx is least_conn over the machines that somebody wrote into nginx.conf,
// whatever the model, by nginx's own connections.
func Nginx() Rule {
	return Rule{Name: "nginx least_conn", choose: func(s *Sim) func(*request) int {
		turn := 0
		return func(*request) int {
			best := -1
			turn++
			for k := range s.Fleet.Front {
				i := s.Fleet.Front[(turn+k)%len(s.Fleet.Front)]
				if best < 0 || s.nodes[i].dev.held() < s.nodes[best].dev.held() {
					best = i
				}
			}
			return best
		}
	}}
}

// TwoChoices draws two machines that have the model and takes the one with
// fewer requests, by counts that are up to a gossip period old.
func TwoChoices() Rule { return fewest("power of two choices", 2) }

// Least takes the machine that has the model and the fewest requests of all, by
// such counts.
func Least() Rule { return fewest("least requests by gossip", math.MaxInt) }

func fewest(name string, draws int) Rule {
	return Rule{Name: name, choose: func(s *Sim) func(*request) int {
		holding, counts := s.holding(), make([]int, len(s.nodes))
		var count func()
		count = func() {
			for i, n := range s.nodes {
				counts[i] = n.dev.held()
			}
			s.after(s.Gossip, count)
		}
		count()
		return func(r *request) int {
			h := holding[r.model]
			first := s.random.IntN(len(h))
			best := h[first]
			for k := 1; k < min(draws, len(h)); k++ {
				i := h[(first+k)%len(h)]
				if draws == 2 {
					i = h[s.random.IntN(len(h))]
				}
				if counts[i] < counts[best] {
					best = i
				}
			}
			return best
		}
	}}
}

// Prober asks three machines at each request for their requests in flight and
// the latency they have seen lately at such a number, and takes the fastest of
// those that are not among the fullest: the rule of Prequal (Wydrowski et al.,
// NSDI 2024), with probes that cost nothing and are never old.
func Prober() Rule {
	return Rule{Name: "prober (Prequal)", choose: func(s *Sim) func(*request) int {
		p := prober{s: s, latency: make([]float64, len(s.nodes)), holding: s.holding()}
		s.ended = p.learn
		return p.choose
	}}
}

type prober struct {
	s       *Sim
	latency []float64 // mean seconds per request in flight
	holding [][]int
	seen    []int // requests in flight of the last probes
}

// hot is the quantile of requests in flight above which a machine is taken only
// if all are (Prequal's Q_RIF).
const hot = 0.84

func (p *prober) choose(r *request) int {
	h := p.holding[r.model]
	limit := math.MaxInt
	if len(p.seen) > 10 {
		sorted := slices.Sorted(slices.Values(p.seen))
		limit = sorted[int(hot*float64(len(sorted)))]
	}
	best, bestCold, bestCost := -1, false, 0.0
	for range min(3, len(h)) {
		i := h[p.s.random.IntN(len(h))]
		flying := p.s.nodes[i].dev.held()
		if p.seen = append(p.seen, flying); len(p.seen) > 100 {
			p.seen = p.seen[1:]
		}
		cold, cost := flying <= limit, float64(flying)
		if cold {
			cost = p.latency[i] * float64(flying+1)
		}
		if best < 0 || cold && !bestCold || cold == bestCold && cost < bestCost {
			best, bestCold, bestCost = i, cold, cost
		}
	}
	r.flying = p.s.nodes[best].dev.held() + 1
	r.where = best
	return best
}

func (p *prober) learn(r *request) {
	each := (r.end - r.arrived) / float64(r.flying)
	if p.latency[r.where] == 0 {
		p.latency[r.where] = each
	}
	p.latency[r.where] += 0.1 * (each - p.latency[r.where])
}

// Clairvoyant knows the true length of every answer and the exact state of
// every machine, and puts each request where the sum of all completion times
// grows least. It does not know the future and does not move what it has placed.
func Clairvoyant() Rule {
	return Rule{Name: "clairvoyant", choose: func(s *Sim) func(*request) int {
		holding := s.holding()
		return func(r *request) int {
			best, least := -1, math.Inf(1)
			for _, i := range holding[r.model] {
				d := s.nodes[i].dev
				d.advance(s.now)
				with := d.clone()
				with.submit(r.job())
				cost := with.drain()
				if d.held() > 0 {
					cost -= d.clone().drain()
				}
				if cost < least {
					best, least = i, cost
				}
			}
			return best
		}
	}}
}
