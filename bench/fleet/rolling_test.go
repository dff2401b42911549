package fleet_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/bench/fleet"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/ollamatest"
)

// patron asks for one stream after the other until told to stop.
type patron struct {
	route     int
	tokens    int
	endpoints []string // where it asks, the next one when a port is closed
	whole     *atomic.Int64
	continued *atomic.Int64
	closed    *atomic.Int64 // ports that were
}

// patronize returns how many answers were not whole.
func (p *patron) patronize(t *testing.T, stop <-chan struct{}) {
	r := routes[p.route]
	for i := 0; ; {
		select {
		case <-stop:
			return
		default:
		}
		h := listen(t.Context(), p.endpoints[i%len(p.endpoints)], r.path, r.request("m", p.tokens, nil))
		if h.status == 0 && (errors.Is(h.err, syscall.ECONNREFUSED) || errors.Is(h.err, syscall.ECONNRESET)) && len(p.endpoints) > 1 {
			p.closed.Add(1) // nothing was answered: ask the next one, as behind a name of several addresses
			i++
			continue
		}
		err := h.whole()
		if err == nil {
			err = ollamatest.Verify(h.text, p.tokens)
		}
		if err == nil && h.output != p.tokens {
			err = errors.New("the end counts other tokens")
		}
		if err != nil {
			t.Errorf("over %s from %s: %v, body %v, %q, %q", r.name, h.node, err, h.err, h.note, h.failure)
			return
		}
		p.whole.Add(1)
		if h.note != "" {
			p.continued.Add(1)
		}
		i++
	}
}

// All four nodes of a mesh are restarted one after the other while fifty
// streams run: half of them long ones that reach the four through a fifth node,
// half short ones of the four nodes' own clients. Nobody sees an error.
func TestRollingRestartUnderFiftyStreams(t *testing.T) {
	if testing.Short() {
		t.Skip("half a minute, not with -short")
	}
	const grace = 3 * time.Second
	specs := []fleet.Spec{{Name: "entry", Hardware: box()}}
	for _, name := range []string{"a", "b", "c", "d"} {
		specs = append(specs, owner(name, "0.33.0", 40, slow(10)))
	}
	f := startGrace(t, nil, grace, specs...)
	owners := f.Nodes()[1:]
	var whole, continued, closed atomic.Int64
	var crowd sync.WaitGroup
	stop := make(chan struct{})
	for i := range 50 {
		p := &patron{route: i % 4, tokens: 80, endpoints: []string{f.Node(0).Endpoint()}, whole: &whole, continued: &continued, closed: &closed}
		if i%2 == 1 {
			p.tokens, p.endpoints = 10, nil
			for k := range owners {
				p.endpoints = append(p.endpoints, owners[(i/2+k)%len(owners)].Endpoint())
			}
		}
		crowd.Go(func() { p.patronize(t, stop) })
	}
	working(t, f, 30)
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	defer cancel()
	var seen time.Duration
	for _, n := range owners {
		began := time.Now()
		heard := make(chan time.Duration, 1)
		go func() { heard <- drained(ctx, f, n) }()
		if err := n.Stop(); err != nil {
			t.Errorf("%s: stop: %v", n.Spec.Name, err)
		}
		seen = max(seen, <-heard)
		if err := n.Restart(ctx); err != nil {
			t.Fatalf("%s: restart: %v", n.Spec.Name, err)
		}
		if err := f.Settle(ctx); err != nil {
			t.Fatal(err)
		}
		t.Logf("%s restarted within %v", n.Spec.Name, time.Since(began).Round(time.Millisecond))
	}
	close(stop)
	crowd.Wait()
	t.Logf("%d whole answers, %d of them continued on another node, %d asked at a closed port first; the drain was seen by all within %v",
		whole.Load(), continued.Load(), closed.Load(), seen.Round(time.Millisecond))
	if whole.Load() < 50 || continued.Load() == 0 {
		t.Error("there was not enough to see")
	}
	if seen > time.Second {
		t.Errorf("the drain took %v to be seen by all, promised is a second", seen)
	}
	c := f.Node(0).Router().Continued()
	for key, times := range c.Breaks {
		t.Logf("%d answers broke off: %s, %s", times, key.Cause, key.Path)
	}
	if c.Lost != 0 {
		t.Errorf("%+v", c)
	}
}

// drained is how long it takes from now until all others see n take no new
// work.
func drained(ctx context.Context, f *fleet.Fleet, n *fleet.Node) time.Duration {
	began := time.Now()
	for _, other := range f.Nodes() {
		if other == n {
			continue
		}
		if _, err := other.Mesh().Wait(ctx, func(v *mesh.View) bool {
			m := memberOf(v, n)
			return m.Draining() || m.Status != mesh.Alive
		}); err != nil {
			return time.Hour
		}
	}
	return time.Since(began)
}
