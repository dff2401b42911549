//go:build linux

package faults

import (
	"testing"
	"time"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/deploy/lab/relay"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/deploy/realollama"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/ollamatest"
)

func TestCase16FrozenNode(t *testing.T) {
	s := begin(t, 16, "SIGSTOP of an owner's kage-mesh, for 3 s and for 8 s",
		"requests meanwhile are whole, elsewhere; after SIGCONT alive again by itself, in under 5 s, same id")
	ingress, owners := s.mesh(3, 500, "m")
	frozen := owners[0]
	id := ingress.members()[frozen.Name].ID
	for _, span := range []time.Duration{3 * time.Second, 8 * time.Second} {
		frozen.Proc.Freeze()
		asked, worst, status := 0, time.Duration(0), "alive"
		for start := time.Now(); time.Since(start) < span; asked++ {
			r := s.ask(question{to: ingress, model: "m", tokens: 8})
			if err := r.perfect(8); err != nil {
				t.Fatalf("%v: %v", err, r)
			}
			worst, status = max(worst, r.took), ingress.sees(frozen)
		}
		frozen.Proc.Thaw()
		took := s.eventually(10*time.Second, "alive again at all", func() bool {
			for _, h := range s.hosts[1:] {
				if h.alive() != 4 {
					return false
				}
			}
			return true
		})
		if took > 5*time.Second || ingress.members()[frozen.Name].ID != id {
			t.Errorf("back after %v: %v", took, ingress.members()[frozen.Name])
		}
		if span > 5*time.Second && status != "failed" {
			t.Errorf("frozen for %v it was %s", span, status)
		}
		s.saw("%v: %d of %d whole, slowest %.1f s, seen as %s; back %.1f s after", span, asked, asked, worst.Seconds(), status, took.Seconds())
	}
}

func TestCase17FrozenOllama(t *testing.T) {
	s := begin(t, 17, "SIGSTOP of a real Ollama alone: its node lives and says so",
		"the node stays a member and gets no work within seconds; what waits there moves on; whole answers throughout; back in work after SIGCONT")
	s.up(3)
	var real [4]*realollama.Ollama
	for _, h := range s.hosts[2:] {
		real[h.Index()] = realollama.Start(t, realollama.Options{On: h.Node, Models: []string{"tiny"}})
	}
	for _, h := range s.hosts[1:] {
		h.join()
	}
	s.stands("tiny")
	ingress := s.hosts[1]
	for _, h := range s.hosts[2:] { // warm both
		if r := s.ask(question{to: ingress, model: "tiny", tokens: 4, header: map[string]string{"X-Kage-Node": h.Name}}); r.err != nil || !r.done {
			t.Fatalf("%s: %v", h, r)
		}
	}
	s.clock()
	ask := func(n int) reply {
		return s.ask(question{to: ingress, model: "tiny", tokens: n})
	}
	warm := ask(8)
	owner := s.named(warm.node)
	real[owner.Index()].Freeze()
	frozen := time.Now()
	r := ask(8)
	if r.err != nil || !r.done || r.text != warm.text {
		t.Fatalf("while it is frozen: %v, want %q", r, warm.text)
	}
	first := r.took
	out := s.eventually(15*time.Second, "left out of the work", func() bool {
		m := ingress.members()[owner.Name]
		return m.Status == "alive" && m.Ollama == ""
	})
	for range 5 {
		if r := ask(8); r.err != nil || r.text != warm.text || r.node == owner.Name || r.took > 2*time.Second {
			t.Fatalf("later: %v in %v", r, r.took)
		}
	}
	total := time.Since(frozen)
	real[owner.Index()].Thaw()
	back := s.eventually(10*time.Second, "back", func() bool { return ingress.knows("tiny", 2) })
	s.saw("first answer whole after %.1f s; marked out %.1f s later (alive, no Ollama), 5 of 5 elsewhere; %.1f s in all; back %.1f s after SIGCONT", first.Seconds(), out.Seconds(), total.Seconds(), back.Seconds())
}

func TestCase18SlowDrip(t *testing.T) {
	s := begin(t, 18, "one owner's Ollama goes silent inside an answer, and another's link drips 200 bytes a second; idle limit 4 s",
		"the silent one is left after the limit and its answer is whole from elsewhere; the slow one is not cut; other requests unaffected")
	s.up(4)
	for _, h := range s.hosts[2:] {
		h.ollama(ollamatest.Config{Models: []ollamatest.Model{model("m", 50)}})
	}
	s.hosts[1].join("--stream-idle", "4s")
	for _, h := range s.hosts[2:] {
		h.join("--stream-idle", "4s")
	}
	s.stands("m")
	ingress, owners := s.hosts[1], s.hosts[2:]
	for _, h := range owners {
		h.fake.Fault(ollamatest.Fault{Kind: ollamatest.Stall, After: 5, Delay: time.Hour})
	}
	asked := make(chan reply, 1)
	go func() { asked <- s.ask(question{to: ingress, model: "m", tokens: 40}) }()
	var silent *host
	s.eventually(5*time.Second, "a stream", func() bool { silent = holder(owners...); return silent != nil })
	for _, h := range owners {
		if h != silent {
			h.fake.ClearFaults()
		}
	}
	for range 10 {
		if r := s.ask(question{to: ingress, model: "m", tokens: 10}); r.perfect(10) != nil || r.took > 2*time.Second {
			t.Errorf("beside it: %v in %v", r, r.took)
		}
	}
	r := <-asked
	if err := r.perfect(40); err != nil || r.gap < 3*time.Second || r.gap > 8*time.Second {
		t.Fatalf("%v, silence %v: %v", err, r.gap, r)
	}
	s.saw("silent: 40 of 40 tokens with %.1f s of silence", r.gap.Seconds())

	// A node behind a slow line to its Ollama: 200 bytes a second, a token or two.
	slow := s.hosts[2]
	line := relay.Start(t, relay.Config{In: slow.Node, Target: "127.0.0.1:11434", Seed: uint64(s.number)})
	slow.Proc.Kill()
	slow.Again("--ollama", line.Addr().String())
	s.eventually(10*time.Second, "back", func() bool { return slow.alive() == 4 && slow.knows("m", 3) })
	line.Set(relay.Faults{Down: relay.Line{Rate: 200}})
	r = s.ask(question{to: slow, model: "m", tokens: 8, header: map[string]string{"X-Kage-Node": slow.Name}})
	if err := r.perfect(8); err != nil || r.node != slow.Name || r.attempts != 1 {
		t.Errorf("dripping: %v: %v", err, r)
	}
	s.saw("dripping: 8 of 8 tokens in %.1f s, not cut", r.took.Seconds())
}

func TestCase19SlowColdLoad(t *testing.T) {
	s := begin(t, 19, "a cold load of 18 s without a byte, longer than every limit of ours before the first byte, and the ingress stopped for 6 s of it",
		"waited for and never cancelled: one whole answer in 1 attempt, loaded once, run once")
	s.up(2)
	s.hosts[2].ollama(ollamatest.Config{Models: []ollamatest.Model{model("m", 500)}})
	for _, h := range s.hosts[1:] {
		h.join()
	}
	s.stands("m")
	fake := s.hosts[2].fake
	fake.Fault(ollamatest.Fault{Kind: ollamatest.SlowLoad, Delay: 18 * time.Second})
	// Meanwhile the ingress is stopped: the signs of life lie unread, and it must
	// not take its own absence for the owner's.
	time.AfterFunc(4*time.Second, s.hosts[1].Proc.Freeze)
	time.AfterFunc(10*time.Second, s.hosts[1].Proc.Thaw)
	r := s.ask(question{to: s.hosts[1], model: "m", tokens: 20, id: "cold"})
	if err := r.perfect(20); err != nil || r.attempts != 1 || r.took < 18*time.Second {
		t.Fatalf("%v after %v: %v", err, r.took, r)
	}
	if st := fake.Stats(); st.Loads != 1 || st.Executions["cold"] != 1 {
		t.Errorf("%d loads, %d runs", st.Loads, st.Executions["cold"])
	}
	s.saw("whole after %.1f s, 1 attempt, 1 load", r.took.Seconds())
}
