package compare

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// gone lets 20 clients leave at once, in the middle of a stream and before its
// first token, and takes how long the backend does not know of it.
func (s *session) gone(ctx context.Context) error {
	const clients = 20
	fake := Fake{Models: []Model{{Name: "t20", Rate: 20}, {Name: "late", First: time.Minute}}, Slots: 4096}
	for repeat := range min(s.Repeats, 3) {
		for _, c := range []struct {
			name, model string
			stream      bool
			after       time.Duration
		}{
			{"mid-stream", "t20", true, 500 * time.Millisecond},
			{"before the first token", "late", true, 100 * time.Millisecond},
			{"not streamed", "late", false, 100 * time.Millisecond},
		} {
			r, err := s.rig(ctx, []Fake{fake, fake}, s.Targets)
			if err != nil {
				return err
			}
			for _, t := range s.shuffled(r) {
				if err := s.leave(ctx, r, t, c.name, post(c.model, 1000, c.stream), clients, c.after, repeat); err != nil {
					r.close()
					return fmt.Errorf("%s, %s: %w", t.name, c.name, err)
				}
			}
			r.close()
		}
	}
	return nil
}

// noticed lists when the backends saw clients leave, all counts of running
// requests added.
func (r *Rig) noticed(ctx context.Context) (at []int64, running int64) {
	for _, f := range r.fakes {
		var st BackendStats
		if get(ctx, "http://"+f.addr()+"/stats", &st) == nil {
			at, running = append(at, st.Cancelled...), running+st.Running
		}
	}
	slices.Sort(at)
	return at, running
}

func (s *session) leave(ctx context.Context, r *Rig, t *target, name string, request []byte, clients int, after time.Duration, repeat int) error {
	before, _ := r.noticed(ctx)
	var conns []*conn
	defer func() {
		for _, c := range conns {
			_ = c.Close()
		}
	}()
	for i := range clients {
		c, err := dial(t.endpoints[i%len(t.endpoints)])
		if err != nil {
			return err
		}
		conns = append(conns, c)
		if _, err := c.Write(request); err != nil {
			return err
		}
	}
	err := until(ctx, 10*time.Second, "the requests did not reach the backends", func() bool {
		_, running := r.noticed(ctx)
		return running >= int64(clients)
	})
	if err != nil {
		return err
	}
	timer := time.NewTimer(after)
	<-timer.C
	left := time.Now().UnixNano()
	for _, c := range conns {
		_ = c.Close()
	}
	var seen []int64
	_ = until(ctx, 4*time.Second, "", func() bool { // those never seen are counted below
		at, _ := r.noticed(ctx)
		seen = at[len(before):]
		return len(seen) >= clients
	})
	v := map[string]float64{"unseen": float64(clients - len(seen))}
	if len(seen) > 0 {
		v["lag"] = float64(seen[len(seen)/2]-left) / 1e6
		v["worst"] = float64(seen[len(seen)-1]-left) / 1e6
	}
	s.add(Gone, name, t, repeat, nil, v)
	s.say("gone %d, %s, %s: %d of %d seen, %.1f ms, worst %.1f ms", repeat, t.name, name, len(seen), clients, v["lag"], v["worst"])
	return nil
}
