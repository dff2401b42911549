//go:build linux

package faults

import (
	"errors"
	"fmt"
	"os/exec"
	"syscall"
	"testing"
	"time"
)

// code is the exit code of the host's node, which has ended or is about to.
func (h *host) code() int {
	err := h.Proc.Wait()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return exit.ExitCode()
	}
	return 0
}

func TestCase06SIGTERMUnderStreams(t *testing.T) {
	s := begin(t, 6, "SIGTERM to an owner under 8 streams: once within its grace, once with a grace shorter than they are",
		"its health is 503, no new work in under 1 s; all 8 whole each time: finished there, or handed over at the end of the grace; exit 0")
	ingress, owners := s.mesh(2, 20, "m")
	for _, grace := range []string{"30s", "1s"} {
		leaving := owners[0]
		if grace != "30s" {
			leaving.Again("--drain-grace", grace)
			s.eventually(10*time.Second, "back", func() bool {
				return ingress.alive() == 3 && leaving.alive() == 3 && ingress.knows("m", 2) && leaving.knows("m", 2)
			})
		}
		const tokens = 60
		c := s.gather(8, func(int) question { return question{to: ingress, model: "m", tokens: tokens} })
		c.begun()
		had := leaving.fake.Stats().Running
		if had == 0 {
			t.Fatal("nothing runs on it")
		}
		asked := time.Now()
		leaving.Proc.Signal(syscall.SIGTERM)
		ended := make(chan time.Duration, 1)
		go func() { <-leaving.Proc.Done(); ended <- time.Since(asked) }()
		seen := s.eventually(2*time.Second, "draining seen", func() bool {
			status := ingress.sees(leaving)
			return status == "draining" || status == "left"
		})
		if seen > time.Second {
			t.Errorf("seen as draining after %v", seen)
		}
		requests := leaving.fake.Stats().Requests["POST /api/generate"]
		if r := s.ask(question{to: ingress, model: "m", tokens: 2}); r.perfect(2) != nil || r.node == leaving.Name {
			t.Errorf("new work: %v", r)
		}
		good := c.perfect(tokens)
		if n := leaving.fake.Stats().Requests["POST /api/generate"]; n != requests {
			t.Errorf("it got %d new requests", n-requests)
		}
		if code := leaving.code(); code != 0 {
			t.Errorf("exit code %d", code)
		}
		s.saw("grace %s: drain seen after %d ms, %d of 8 whole (%d were there), exit 0 after %.1f s",
			grace, seen.Milliseconds(), good, had, (<-ended).Seconds())
	}
}

func TestCase07SecondSignal(t *testing.T) {
	s := begin(t, 7, "a second SIGTERM, and a second SIGINT, while a stream keeps the node from ending",
		"the process ends at once with 143, with 130; the client of another ingress has its whole answer")
	ingress, owners := s.mesh(2, 20, "m")
	for _, c := range []struct {
		signal syscall.Signal
		code   int
	}{{syscall.SIGTERM, 143}, {syscall.SIGINT, 130}} {
		stream := s.gather(1, func(int) question { return question{to: ingress, model: "m", tokens: 100} })
		stream.begun()
		owner := holder(owners...)
		owner.Proc.Signal(c.signal)
		s.eventually(5*time.Second, "draining", func() bool { return ingress.sees(owner) == "draining" })
		second := time.Now()
		owner.Proc.Signal(c.signal)
		code := owner.code()
		took := time.Since(second)
		if code != c.code || took > time.Second {
			t.Errorf("exit code %d after %v, want %d", code, took, c.code)
		}
		stream.perfect(100)
		s.saw("%v: exit %d after %d ms, the stream whole", c.signal, code, took.Milliseconds())
		owner.Again()
		s.eventually(10*time.Second, "back", func() bool { return ingress.alive() == 3 && ingress.knows("m", 2) && owner.knows("m", 2) })
	}
}

func TestCase33RollingRestart(t *testing.T) {
	s := begin(t, 33, "four nodes are restarted one after the other under 24 concurrent streams, ingresses too",
		"0 errors at the clients")
	s.up(4)
	for _, h := range s.hosts[1:] {
		h.ollama(configOf("m", 40, 16))
		h.join()
	}
	s.eventually(60*time.Second, "four members", func() bool {
		for _, h := range s.hosts[1:] {
			if h.alive() != 4 || !h.knows("m", 4) {
				return false
			}
		}
		return true
	})
	s.clock()
	const workers, tokens = 24, 30
	stop, ends := make(chan struct{}), make(chan error, workers)
	served := make(chan int, workers)
	var door guardedDoors
	door.open = map[int]bool{1: true, 2: true, 3: true, 4: true}
	for w := range workers {
		go func() {
			n := 0
			defer func() { served <- n }()
			for i := w; ; i++ {
				select {
				case <-stop:
					ends <- nil
					return
				default:
				}
				h := s.hosts[door.pick(i)]
				r := s.ask(question{from: s.lab.Node(0), to: h, model: "m", tokens: tokens})
				if err := r.perfect(tokens); err != nil {
					ends <- fmt.Errorf("asked of %s: %w: %v", h, err, r)
					return
				}
				n++
			}
		}()
	}
	start := time.Now()
	for i := 1; i <= 4; i++ {
		h := s.hosts[i]
		door.set(i, false) // as a person does who restarts: clients are sent to another
		if err := h.Proc.Stop(); err != nil {
			t.Errorf("%s ended with %v", h, err)
		}
		h.Again()
		s.eventually(15*time.Second, "back", func() bool {
			for _, other := range s.hosts[1:] {
				if other.alive() != 4 || !other.knows("m", 4) {
					return false
				}
			}
			return true
		})
		door.set(i, true)
	}
	took := time.Since(start)
	close(stop)
	errs, total := 0, 0
	for range workers {
		if err := <-ends; err != nil {
			errs++
			t.Error(err)
		}
		total += <-served
	}
	s.saw("four restarts in %.1f s, %d answers whole, %d errors", took.Seconds(), total, errs)
}

func TestCase08DrainAndUndrain(t *testing.T) {
	s := begin(t, 8, "kage-mesh drain of an owner with streams on it, given at another node; then undrain",
		"known to all and no new work in under 1 s; its streams finish there; back in work after undrain")
	ingress, owners := s.mesh(2, 20, "m")
	drained := owners[0]
	const tokens = 60
	c := s.gather(8, func(int) question { return question{to: ingress, model: "m", tokens: tokens} })
	c.begun()
	had, before := drained.fake.Stats().Running, drained.fake.Stats().Requests["POST /api/generate"]
	order := time.Now()
	if _, err := owners[1].cli("drain", drained.Name); err != nil {
		t.Fatal(err)
	}
	s.eventually(5*time.Second, "known to all", func() bool {
		return ingress.sees(drained) == "draining" && owners[1].sees(drained) == "draining" && drained.sees(drained) == "draining"
	})
	seen := time.Since(order)
	if seen > time.Second {
		t.Errorf("known after %v", seen)
	}
	for range 5 {
		if r := s.ask(question{to: ingress, model: "m", tokens: 2}); r.perfect(2) != nil || r.node == drained.Name {
			t.Errorf("new work: %v", r)
		}
	}
	good := c.perfect(tokens)
	st := drained.fake.Stats()
	if st.Requests["POST /api/generate"] != before || st.Cancelled > 0 {
		t.Errorf("%d new requests there, %d cut", st.Requests["POST /api/generate"]-before, st.Cancelled)
	}
	if r := s.ask(question{to: drained, model: "m", tokens: 4}); r.perfect(4) != nil {
		t.Errorf("its own port: %v", r)
	}
	if _, err := ingress.cli("undrain", drained.Name); err != nil {
		t.Fatal(err)
	}
	owners[1].kill()
	back := s.eventually(10*time.Second, "in work again", func() bool {
		r := s.ask(question{to: ingress, model: "m", tokens: 4})
		return r.perfect(4) == nil && r.node == drained.Name
	})
	s.saw("known to all %d ms after the order; %d of 8 whole, the %d there finished there; back %.1f s after undrain", seen.Milliseconds(), good, had, back.Seconds())
}
