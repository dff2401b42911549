package compare

import (
	"context"
	"strings"
	"time"
)

// streams measures paced streams, where a proxy's cost is per token, and one
// stream as fast as the backend can write.
func (s *session) streams(ctx context.Context) error {
	fake := Fake{Models: []Model{{Name: "t30", Rate: 30}, {Name: "t8", Rate: 8}, {Name: "m1"}}, Slots: 4096}
	r, err := s.rig(ctx, []Fake{fake, fake}, s.Targets)
	if err != nil {
		return err
	}
	defer r.close()
	seconds := 5
	if s.Quick {
		seconds = 2
	}
	cases := []struct {
		name, model string
		n, tokens   int
		repeats     int
	}{
		{"500 at 30 tok/s", "t30", 500, 30 * seconds, s.Repeats},
		{"1 unpaced", "m1", 1, 300_000, s.Repeats},
		{"1000 at 8 tok/s", "t8", 1000, 8 * seconds, min(s.Repeats, 2)},
	}
	for _, t := range r.targets {
		Streams(ctx, t.endpoints, "t30", 16, 4, nil)
	}
	for repeat := range s.Repeats {
		for _, c := range cases {
			if repeat >= c.repeats || !strings.Contains(c.name, s.Case) {
				continue
			}
			for _, t := range s.shuffled(r) {
				s.stream(ctx, r, t, c.name, c.model, c.n, c.tokens, repeat)
			}
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
	return nil
}

func (s *session) stream(ctx context.Context, r *Rig, t *target, name, model string, n, tokens, repeat int) {
	var memory uint64
	start := time.Now()
	l, u := r.measure(t, func() *Load {
		return Streams(ctx, t.endpoints, model, n, tokens, func() { memory = memoryOf(t.procs) })
	})
	v := map[string]float64{
		"tps":     float64(l.Tokens) / l.Took.Seconds(),
		"cpu":     u.cpu.Seconds() / float64(max(l.Tokens, 1)) * 1e6,
		"transit": float64(l.Transit.ValueAtQuantile(50)) / 1e3, "transit99": float64(l.Transit.ValueAtQuantile(99)) / 1e3,
		"gap": float64(l.Gaps.ValueAtQuantile(50)) / 1e3, "gap99": float64(l.Gaps.ValueAtQuantile(99)) / 1e3,
		"first": float64(l.First.ValueAtQuantile(50)) / 1e3, "first99": float64(l.First.ValueAtQuantile(99)) / 1e3,
		"failed": float64(l.Failed()), "foreign": u.foreign * 100,
	}
	if n > 1 {
		v["memory"] = float64(memory) / (1 << 20)
	}
	s.add(Streamed, name, t, repeat, l, v)
	s.say("streams %d, %s, %s: %.0f tok/s, cpu %.1f s/1M, transit %.0f us, memory %d MiB, errors %v, %s", repeat, t.name, name,
		v["tps"], v["cpu"], v["transit"], memory>>20, l.Errors, time.Since(start).Round(time.Second))
}
