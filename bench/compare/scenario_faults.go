package compare

import (
	"context"
	"fmt"
	"maps"
	"sync"
	"time"
)

// Cases of the scenario Faults.
const (
	oneHolder   = "model on one of two nodes, 200 requests"
	beforeFirst = "backend killed before the first byte, 50 in flight"
	midStream   = "backend killed mid-stream, 50 streams"
	comesBack   = "killed backend returns"
)

// balancers are the ways that choose between backends.
func (s *session) balancers() (list []string) {
	for _, name := range s.Targets {
		if name != Direct && name != OneHop {
			list = append(list, name)
		}
	}
	return list
}

// faults lets backends die. Each way gets fresh backends, faithful ones, since
// an answer may have to go on elsewhere.
func (s *session) faults(ctx context.Context) error {
	both := []Model{{Name: "m1", First: 2 * time.Second}, {Name: "m2", Rate: 40}, {Name: "m3"}}
	for repeat := range min(s.Repeats, 2) {
		for _, name := range s.balancers() {
			for _, c := range []struct {
				name  string
				fakes []Fake
				run   func(context.Context, *Rig, *target, int) error
			}{
				{oneHolder, []Fake{{Models: both}, {Models: both[:2]}}, s.oneHolder},
				{beforeFirst, []Fake{{Models: both}, {Models: both}}, s.beforeFirst},
				{midStream, []Fake{{Models: both}, {Models: both}}, s.midStream},
				{comesBack, []Fake{{Models: both}, {Models: both}}, s.comesBack},
			} {
				for i := range c.fakes {
					c.fakes[i].Slots, c.fakes[i].Faithful = 64, c.name != comesBack
				}
				r, err := s.rig(ctx, c.fakes, []string{name})
				if err != nil {
					return err
				}
				if len(r.targets) > 0 {
					err = c.run(ctx, r, r.targets[0], repeat)
				}
				r.close()
				if err != nil {
					return fmt.Errorf("%s, %s: %w", name, c.name, err)
				}
			}
		}
	}
	return nil
}

// many sends n requests, at most at a time at once, each on a connection of
// its own, and checks the answers.
func many(ctx context.Context, t *target, model string, n, at, tokens int, stream bool) *Load {
	total := newLoad()
	request := post(model, tokens, stream)
	places := make(chan struct{}, at)
	var mu sync.Mutex
	var wait sync.WaitGroup
	start := time.Now()
	for i := range n {
		places <- struct{}{}
		wait.Go(func() {
			defer func() { <-places }()
			if ctx.Err() != nil {
				return
			}
			c := &client{addr: t.endpoints[i%len(t.endpoints)]}
			defer c.close()
			a := &faithful{want: tokens}
			began := time.Now()
			err := a.end(c.do(request, requestLimit, a.take))
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				total.failed(err)
				return
			}
			total.Requests++
			record(total.Latency, int64(time.Since(began)))
		})
	}
	wait.Wait()
	total.Took = time.Since(start)
	return total
}

func (s *session) fault(name string, t *target, repeat int, l *Load, more map[string]float64) {
	v := map[string]float64{"failed": float64(l.Failed()), "p99": float64(l.Latency.ValueAtQuantile(99)) / 1e6}
	maps.Copy(v, more)
	s.add(Faults, name, t, repeat, l, v)
	s.say("faults %d, %s, %s: %d failed %v %v", repeat, t.name, name, l.Failed(), l.Errors, more)
}

func (s *session) oneHolder(ctx context.Context, _ *Rig, t *target, repeat int) error {
	s.fault(oneHolder, t, repeat, many(ctx, t, "m3", 200, 8, 4, false), nil)
	return nil
}

// warm asks every fake for every model, past the proxy, so that all is in
// memory before the ways choose.
func warm(ctx context.Context, r *Rig) {
	for _, f := range r.fakes {
		for _, m := range f.Models {
			many(ctx, &target{endpoints: []string{f.addr()}}, m.Name, 1, 1, 2, false)
		}
	}
	pause := time.NewTimer(2 * time.Second) // until the nodes have looked
	<-pause.C
}

// during runs load and, once all n requests have begun and after passed, kills
// the fake that has most of them.
func during(ctx context.Context, r *Rig, n int64, after time.Duration, load func() *Load) (*Load, error) {
	warm(ctx, r)
	begun := func() (total int64, busiest int) {
		var most int64
		for i, f := range r.fakes {
			var st BackendStats
			if get(ctx, "http://"+f.addr()+"/stats", &st) == nil {
				total += st.Started
				if st.Running > most {
					most, busiest = st.Running, i
				}
			}
		}
		return total, busiest
	}
	before, _ := begun()
	done := make(chan *Load, 1)
	go func() { done <- load() }()
	err := until(ctx, 10*time.Second, "the requests did not reach the backends", func() bool {
		total, _ := begun()
		return total-before >= n
	})
	if err == nil {
		timer := time.NewTimer(after)
		<-timer.C
		_, busiest := begun()
		r.fakes[busiest].kill()
	}
	return <-done, err
}

func (s *session) beforeFirst(ctx context.Context, r *Rig, t *target, repeat int) error {
	l, err := during(ctx, r, 50, 500*time.Millisecond, func() *Load { return many(ctx, t, "m1", 50, 50, 8, true) })
	s.fault(beforeFirst, t, repeat, l, nil)
	return err
}

func (s *session) midStream(ctx context.Context, r *Rig, t *target, repeat int) error {
	l, err := during(ctx, r, 50, 750*time.Millisecond, func() *Load { return many(ctx, t, "m2", 50, 50, 60, true) })
	s.fault(midStream, t, repeat, l, map[string]float64{"clean": float64(l.Errors[errCleanCut.Error()])})
	return err
}

// comesBack measures how long after a killed backend listens again it gets
// work again, under a steady trickle of requests.
func (s *session) comesBack(ctx context.Context, r *Rig, t *target, repeat int) error {
	request := post("m3", 8, false)
	Closed(ctx, t.endpoints, request, 4, 200*time.Millisecond)
	r.fakes[0].kill()
	l := Closed(ctx, t.endpoints, request, 4, time.Second) // so that it is found dead
	pause := time.NewTimer(2 * time.Second)                // and not taken for a hiccup
	<-pause.C
	if err := r.startFake(0); err != nil {
		return err
	}
	back := time.Now()
	used := -1.0
	_ = until(ctx, 60*time.Second, "", func() bool { // never is a result, too
		more := Closed(ctx, t.endpoints, request, 4, 20*time.Millisecond)
		for k, n := range more.Errors {
			l.Errors[k] += n
		}
		var st BackendStats
		if get(ctx, "http://"+r.fakes[0].addr()+"/stats", &st) != nil || st.Started == 0 {
			return false
		}
		used = time.Since(back).Seconds()
		return true
	})
	more := map[string]float64{}
	if used >= 0 {
		more["back"] = used
	}
	s.fault(comesBack, t, repeat, l, more)
	return nil
}
