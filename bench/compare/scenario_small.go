package compare

import (
	"context"
	"fmt"
)

// small measures small unstreamed requests of 8 tokens: a proxy's cost per
// request, with hardly any bytes.
func (s *session) small(ctx context.Context) error {
	fake := Fake{Models: []Model{{Name: "m1"}}, Slots: 4096}
	r, err := s.rig(ctx, []Fake{fake, fake}, s.Targets)
	if err != nil {
		return err
	}
	defer r.close()
	request := post("m1", 8, false)
	for _, t := range r.targets { // connections, caches, JIT of nobody
		Closed(ctx, t.endpoints, request, 16, s.Slice/4)
	}
	for repeat := range s.Repeats {
		for _, workers := range []int{1, 16, 64} {
			for _, t := range s.shuffled(r) {
				l, u := r.measure(t, func() *Load { return Closed(ctx, t.endpoints, request, workers, s.Slice) })
				s.add(Small, fmt.Sprintf("%d at once", workers), t, repeat, l, map[string]float64{
					"rps":     float64(l.Requests) / l.Took.Seconds(),
					"p50":     float64(l.Latency.ValueAtQuantile(50)) / 1e3,
					"p99":     float64(l.Latency.ValueAtQuantile(99)) / 1e3,
					"cpu":     u.cpu.Seconds() / float64(max(l.Requests, 1)) * 1e4,
					"foreign": u.foreign * 100,
				})
				s.say("small %d, %s, %d at once: %.0f/s, cpu %.2f s/10k, %d errors", repeat, t.name, workers,
					float64(l.Requests)/l.Took.Seconds(), u.cpu.Seconds()/float64(max(l.Requests, 1))*1e4, l.Failed())
			}
		}
		for _, t := range s.shuffled(r) {
			l, u := r.measure(t, func() *Load {
				return Open(ctx, t.endpoints, request, openRate, 64, s.Slice, s.Seed+uint64(repeat))
			})
			s.add(Small, openCase, t, repeat, l, map[string]float64{
				"rps":     float64(l.Requests) / l.Took.Seconds(),
				"p50":     float64(l.Latency.ValueAtQuantile(50)) / 1e3,
				"p99":     float64(l.Latency.ValueAtQuantile(99)) / 1e3,
				"cpu":     u.cpu.Seconds() / float64(max(l.Requests, 1)) * 1e4,
				"foreign": u.foreign * 100,
			})
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
	return nil
}

// openRate is a load that every way carries with ease on two cores.
const openRate = 500

const openCase = "500/s, open loop"
