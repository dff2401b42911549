//go:build linux

package faults

import (
	"context"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/ollamatest"
)

func TestCase01KilledBeforeTheHeaders(t *testing.T) {
	s := begin(t, 1, "kill -9 of the owner (node and Ollama) while the request waits for its first byte",
		"the other owner answers within 1 s, whole, in 2 attempts; run once there")
	ingress, owners := s.mesh(2, 500, "m")
	for _, h := range owners {
		h.fake.Fault(ollamatest.Fault{Kind: ollamatest.Hang, Times: ollamatest.Always})
	}
	answer := make(chan reply, 1)
	go func() { answer <- s.ask(question{to: ingress, model: "m", tokens: 20, id: "first"}) }()
	var owner, other *host
	s.eventually(10*time.Second, "the request at its owner", func() bool {
		for i, h := range owners {
			if h.fake.Stats().Requests["POST /api/generate"] > 0 {
				owner, other = h, owners[1-i]
			}
		}
		return owner != nil
	})
	other.fake.ClearFaults()
	killed := time.Now()
	owner.kill()
	r := <-answer
	took := time.Since(killed)
	if err := r.perfect(20); err != nil || r.attempts != 2 || r.node != other.Name {
		t.Fatalf("%v: %v", err, r)
	}
	if n := executed("first", other); n != 1 {
		t.Errorf("the other ran it %d times", n)
	}
	if took > time.Second {
		t.Errorf("whole %v after the kill", took)
	}
	s.saw("whole answer %d ms after the kill, 2 attempts, run once by the other", took.Milliseconds())
}

func TestCase02KilledAfterTheFirstToken(t *testing.T) {
	s := begin(t, 2, "kill -9 of the owner after the first tokens; then again with X-Kage-Continue: off",
		"continued by the other to one whole answer, run once there; with the header an error in the dialect, a broken connection and no second try")
	const tokens = 60
	ingress, owners := s.mesh(3, 50, "m")
	other := func(dead *host) (left []*host) {
		for _, h := range owners {
			if h != dead && h.Proc != nil {
				left = append(left, h)
			}
		}
		return left
	}
	var dead *host
	r := s.ask(question{to: ingress, model: "m", tokens: tokens, id: "goes-on", on: func(frame int) {
		if frame == 5 {
			dead = holder(owners...)
			dead.kill()
		}
	}})
	if err := r.perfect(tokens); err != nil {
		t.Fatalf("%v: %v", err, r)
	}
	if n := executed("goes-on", other(dead)...); n > 1 {
		t.Errorf("the others ran it %d times", n)
	}
	s.saw("60 of 60 tokens in order, longest silence %d ms", r.gap.Milliseconds())

	left := other(dead)
	r = s.ask(question{to: ingress, model: "m", tokens: tokens, id: "ends", header: map[string]string{"X-Kage-Continue": "off"}, on: func(frame int) {
		if frame == 5 {
			dead = holder(left...)
			dead.kill()
		}
	}})
	if err := r.broken(); err != nil {
		t.Errorf("with the header: %v: %v", err, r)
	}
	for _, h := range left {
		if h != dead && h.fake.Stats().Executions["ends"] > 0 {
			t.Error("it was run again")
		}
	}
	s.saw("off: %q, then a broken connection", r.failure)
}

// headersOnly answers the first generate request it gets with headers and
// nothing more, until its client is gone.
type headersOnly struct {
	http.Handler
	taken *atomic.Bool
	out   chan struct{} // closed when the headers are out
}

func (o headersOnly) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	if req.URL.Path != "/api/generate" || !o.taken.CompareAndSwap(false, true) {
		o.Handler.ServeHTTP(w, req)
		return
	}
	w.Header().Set("Content-Type", "application/x-ndjson")
	w.WriteHeader(http.StatusOK)
	_ = http.NewResponseController(w).Flush()
	close(o.out)
	<-req.Context().Done()
}

func TestCase03KilledBetweenHeadersAndBody(t *testing.T) {
	s := begin(t, 3, "kill -9 of the owner after its Ollama's headers and before the first byte of the body",
		"tried again elsewhere, because the client has nothing yet: one whole answer")
	s.up(3)
	var taken atomic.Bool
	out := make(chan struct{})
	for _, h := range s.hosts[2:] {
		l, err := h.Listen("tcp", "127.0.0.1:11434")
		if err != nil {
			t.Fatal(err)
		}
		fake := ollamatest.New(ollamatest.Config{Models: []ollamatest.Model{model("m", 500)}})
		server := &http.Server{Handler: headersOnly{fake.Handler(), &taken, out}}
		ended := make(chan struct{})
		go func() { defer close(ended); _ = server.Serve(l) }()
		t.Cleanup(func() { _ = server.Close(); <-ended })
	}
	for _, h := range s.hosts[1:] {
		h.join()
	}
	s.stands("m")
	answer := make(chan reply, 1)
	go func() { answer <- s.ask(question{to: s.hosts[1], model: "m", tokens: 20}) }()
	select {
	case <-out:
	case <-s.ctx.Done():
		t.Fatal("no owner sent headers")
	}
	var owner *host
	s.eventually(10*time.Second, "the owner known", func() bool {
		for name, m := range s.hosts[1].members() {
			if m.Running > 0 && name != s.hosts[1].Name {
				owner = s.named(name)
			}
		}
		return owner != nil
	})
	owner.Proc.Kill()
	r := <-answer
	if err := r.perfect(20); err != nil || r.node == owner.Name || r.attempts != 2 {
		t.Fatalf("%v: %v", err, r)
	}
	s.saw("whole answer from the other, %d attempts", r.attempts)
}

func TestCase04IngressKilledMidStream(t *testing.T) {
	s := begin(t, 4, "kill -9 of the ingress in the middle of a stream",
		"the client sees a reset and no clean end; the owner's GPU stops within 1 s")
	ingress, owners := s.mesh(2, 20, "m")
	var killed time.Time
	r := s.ask(question{from: s.lab.Node(0), to: ingress, model: "m", tokens: 1000, on: func(frame int) {
		if frame == 5 {
			killed = time.Now()
			ingress.Proc.Kill()
		}
	}})
	if r.done || r.err == nil {
		t.Fatalf("a clean end: %v", r)
	}
	s.eventually(2*time.Second, "stopped at the owner", func() bool { return running(owners...) == 0 })
	took := time.Since(killed)
	if took > time.Second {
		t.Errorf("the GPU stopped %v after", took)
	}
	s.saw("client: %v; the GPU stopped after %d ms", r.err, took.Milliseconds())
}

func TestCase05ClientLeavesMidStream(t *testing.T) {
	s := begin(t, 5, "8 clients leave in the middle of their streams, over two hops",
		"work stops within 500 ms; requests in flight are 0 at every node; nobody counts as sick")
	ingress, owners := s.mesh(2, 20, "m")
	ctx, leave := context.WithCancel(s.ctx)
	c := &crowd{s: s, replies: make([]reply, 8), flowing: make(chan struct{}, 100)}
	for i := range c.replies {
		c.wait.Go(func() {
			c.replies[i] = s.askCtx(ctx, question{to: ingress, model: "m", tokens: 1000, on: func(frame int) {
				if frame == 3 {
					c.flowing <- struct{}{}
				}
			}})
		})
	}
	c.begun()
	left := time.Now()
	leave()
	s.eventually(5*time.Second, "stopped", func() bool { return running(owners...) == 0 })
	took := time.Since(left)
	if took > 500*time.Millisecond {
		t.Errorf("work stopped after %v", took)
	}
	c.wait.Wait()
	zero := s.eventually(5*time.Second, "nothing in flight at any node", func() bool {
		for _, h := range s.hosts[1:] {
			for _, m := range h.members() {
				if m.Running+m.Waiting != 0 {
					return false
				}
			}
		}
		return true
	})
	cancelled := 0
	for _, h := range owners {
		cancelled += h.fake.Stats().Cancelled
	}
	if cancelled != len(c.replies) {
		t.Errorf("Ollamas saw %d of %d leave", cancelled, len(c.replies))
	}
	if r := s.ask(question{to: ingress, model: "m", tokens: 10}); r.perfect(10) != nil || r.attempts != 1 {
		t.Errorf("afterwards: %v", r)
	}
	s.saw("all work stopped after %d ms, every node at 0 in flight %d ms later", took.Milliseconds(), zero.Milliseconds())
}

func TestCase48AllCapableNodesDown(t *testing.T) {
	s := begin(t, 48, "every node that has the model dies; later one comes back",
		"503 in under 1 s that says why, with Retry-After; served again as soon as one is back, without a restart")
	ingress, owners := s.mesh(2, 500, "m")
	for _, h := range owners {
		h.kill()
	}
	for _, when := range []string{"at once", "once the deaths are known"} {
		r := s.ask(question{to: ingress, model: "m", tokens: 10})
		if r.status != http.StatusServiceUnavailable || r.failure == "" || r.header.Get("Retry-After") == "" {
			t.Fatalf("%s: %v", when, r)
		}
		if r.took > time.Second {
			t.Errorf("%s: the refusal took %v", when, r.took)
		}
		s.saw("%s: 503 in %d ms, %q", when, r.took.Milliseconds(), r.failure)
		s.eventually(10*time.Second, "deaths seen", func() bool { return ingress.alive() == 1 })
	}
	owners[0].reviveOllama()
	owners[0].Again()
	took := s.eventually(15*time.Second, "served again", func() bool {
		return s.ask(question{to: ingress, model: "m", tokens: 10}).perfect(10) == nil
	})
	s.saw("served again %.1f s after one was started", took.Seconds())
}
