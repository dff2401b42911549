package sim

import (
	"math"
	"slices"
)

// Result is what came of a cell. Times are seconds.
type Result struct {
	completion, first []float64 // of measured requests: until the end, and the first token

	span                         float64 // of the arrivals
	requests                     int     // measured or not
	loads                        int     // models brought into memory
	refused, moved, nobody, lost int
	crowding, crowdings          float64
	growth                       [2]float64 // mean completion of the first and the last third
}

// finish books a request that has its answer.
func (s *Sim) finish(r *request, t float64) {
	s.left--
	r.end = t
	if s.ended != nil {
		s.ended(r)
	}
	if s.Fleet.Turns > 0 && r.turns > 1 {
		s.turn(r)
	}
	if r.number < s.Requests/warming {
		return
	}
	o := s.out
	o.completion = append(o.completion, r.end-r.arrived)
	o.first = append(o.first, r.first-r.arrived)
	switch part := 3 * (r.number - s.Requests/warming) / (s.Requests - s.Requests/warming); part {
	case 0, 2:
		o.growth[part/2] += (r.end - r.arrived) / float64(s.Requests)
	}
	s.crowd()
}

// turn plans the next turn of a conversation: all that was said, and a little.
func (s *Sim) turn(r *request) {
	m := &s.Fleet.Models[r.model]
	x := &request{
		number: r.number, id: r.id, key: r.key, client: r.client, model: r.model, conversation: r.conversation,
		turns: r.turns - 1, prompt: r.prompt + r.output + logNormal(r.random, 60, 1), output: logNormal(r.random, m.Output, 0.8),
		entry: r.entry, random: r.random, said: r.prompt + r.output,
	}
	s.after(r.random.ExpFloat64()*s.Fleet.Think, func() { s.arrive(x) })
}

// crowd measures how unevenly requests are spread right now.
func (s *Sim) crowd() {
	most, sum := 0, 0
	for _, n := range s.nodes {
		h := n.dev.held()
		most, sum = max(most, h), sum+h
	}
	if mean := float64(sum) / float64(len(s.nodes)); mean >= 1 {
		s.out.crowding += float64(most) / mean
		s.out.crowdings++
	}
}

// Mean is the mean completion time.
func (o *Result) Mean() float64 { return mean(o.completion) }

// Quantile is a quantile of the completion times.
func (o *Result) Quantile(q float64) float64 { return quantile(o.completion, q) }

// First is a quantile of the times to the first token.
func (o *Result) First(q float64) float64 { return quantile(o.first, q) }

// Loads is how many models were loaded per thousand requests.
func (o *Result) Loads() float64 { return 1000 * float64(o.loads) / float64(o.requests) }

// Herd is the most requests at one machine over the mean of all, on average over
// the moments with at least one request per machine.
func (o *Result) Herd() float64 { return o.crowding / o.crowdings }

// Grows reports whether the last third took more than three times as long as the
// first: a backlog that grows faster than with time.
func (o *Result) Grows() bool { return o.growth[1] > 3*o.growth[0] }

func mean(v []float64) float64 {
	sum := 0.0
	for _, x := range v {
		sum += x
	}
	return sum / float64(len(v))
}

func quantile(v []float64, q float64) float64 {
	if len(v) == 0 {
		return math.NaN()
	}
	s := slices.Sorted(slices.Values(v))
	return s[min(int(q*float64(len(s))), len(s)-1)]
}
