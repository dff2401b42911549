package compare

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"
)

// makespan sends 200 requests of 20 to 200 tokens, 16 at once, to three nodes
// of unlike speed: 2 slots at 50 tok/s, 2 at 10 and 1 at 4. All of it runs
// faster than it says by the factor speed, so that it ends today. The lower
// bound is all tokens over the sum of all slots' speeds.
//
// Every way gets the same 30 short requests before, because speeds are learned
// and a node remembers them over its restarts.
func (s *session) makespan(ctx context.Context) error {
	speed, requests := 10.0, 200
	if s.Quick {
		speed = 20
	}
	fakes := []Fake{
		{Models: []Model{{Name: "m1", Rate: 50 * speed}}, Slots: 2, Faithful: true},
		{Models: []Model{{Name: "m1", Rate: 10 * speed}}, Slots: 2, Faithful: true},
		{Models: []Model{{Name: "m1", Rate: 4 * speed}}, Slots: 1, Faithful: true},
	}
	capacity := 0.0
	for _, f := range fakes {
		capacity += f.Models[0].Rate * float64(f.Slots)
	}
	for repeat := range s.Repeats {
		random := rand.New(rand.NewPCG(s.Seed+uint64(repeat), 5))
		lengths, sum := make([]int, requests), 0
		for i := range lengths {
			lengths[i] = 20 + random.IntN(181)
			sum += lengths[i]
		}
		bound := float64(sum) / capacity
		var wait sync.WaitGroup
		var mu sync.Mutex
		var first error
		for _, name := range append([]string{Direct}, s.balancers()...) {
			if name == TwoHops { // the same choice as Whole
				continue
			}
			wait.Go(func() { // at once: they hardly use the machine
				mu.Lock()
				r, err := s.rig(ctx, fakes, []string{name})
				mu.Unlock()
				if err != nil {
					mu.Lock()
					first = err
					mu.Unlock()
					return
				}
				defer r.close()
				if len(r.targets) == 0 {
					return
				}
				t := r.targets[0]
				many(ctx, t, "m1", 30, 5, 20, false)
				l := mixed(ctx, t, "m1", lengths, 16)
				mu.Lock()
				defer mu.Unlock()
				s.add(Makespan, "unequal nodes", t, repeat, l, map[string]float64{
					"bound": l.Took.Seconds() / bound,
					"mean":  l.Latency.Mean() / 1e9 * speed, "p99": float64(l.Latency.ValueAtQuantile(99)) / 1e9 * speed,
					"failed": float64(l.Failed()),
				})
				s.say("makespan %d, %s: %.2f of the lower bound, %d failed", repeat, t.name, l.Took.Seconds()/bound, l.Failed())
			})
		}
		wait.Wait()
		if first != nil {
			return first
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
	return nil
}

// mixed sends one request per length over at connections, each the next one as
// soon as its last is answered.
func mixed(ctx context.Context, t *target, model string, lengths []int, at int) *Load {
	total := newLoad()
	next := make(chan int, len(lengths))
	for _, n := range lengths {
		next <- n
	}
	close(next)
	var mu sync.Mutex
	var wait sync.WaitGroup
	start := time.Now()
	for i := range at {
		wait.Go(func() {
			c := &client{addr: t.endpoints[i%len(t.endpoints)]}
			defer c.close()
			for n := range next {
				if ctx.Err() != nil {
					return
				}
				a := &faithful{want: n}
				began := time.Now()
				err := a.end(c.do(post(model, n, true), 4*requestLimit, a.take))
				mu.Lock()
				if err != nil {
					total.failed(err)
				} else {
					total.Requests++
					record(total.Latency, int64(time.Since(began)))
				}
				mu.Unlock()
			}
		})
	}
	wait.Wait()
	total.Took = time.Since(start)
	return total
}
