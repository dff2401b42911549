//go:build linux

package faults

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/ollamatest"
)

// flaps counts how often a host has called another one dead since it started.
func (h *host) flaps(other *host) int {
	n := 0
	for line := range strings.Lines(h.stderr()) {
		if strings.Contains(line, `"member failed"`) && strings.Contains(line, `"`+other.Name+`"`) {
			n++
		}
	}
	return n
}

func TestCase09LinkDown(t *testing.T) {
	s := begin(t, 9, "the cable of the owner is pulled in the middle of a stream",
		"the stream is whole, from the other; new requests go elsewhere; failed at all in under 10 s")
	ingress, owners := s.mesh(2, 20, "m")
	var cut *host
	seen := make(chan time.Duration, 1)
	r := s.ask(question{to: ingress, model: "m", tokens: 80, on: func(frame int) {
		if frame == 5 {
			cut = holder(owners...)
			s.lab.LinkDown(cut.Index())
			go func() { seen <- s.failedAtAll(cut) }()
		}
	}})
	if err := r.perfect(80); err != nil {
		t.Fatalf("%v: %v", err, r)
	}
	for i := range 10 {
		if r := s.ask(question{to: ingress, model: "m", tokens: 4}); r.perfect(4) != nil || r.node == cut.Name {
			t.Fatalf("request %d: %v", i, r)
		}
	}
	took := <-seen
	if took > 10*time.Second {
		t.Errorf("failed after %v", took)
	}
	s.saw("80 of 80 tokens, longest silence %.1f s; 10 of 10 new requests elsewhere; failed at all by %.1f s", r.gap.Seconds(), took.Seconds())
}

// failedAtAll is how long it takes until every other host sees h failed.
func (s *scene) failedAtAll(h *host) time.Duration {
	start := time.Now()
	for tick := time.NewTicker(50 * time.Millisecond); s.ctx.Err() == nil; <-tick.C {
		all := true
		for _, other := range s.hosts[1:] {
			all = all && (other == h || other.sees(h) == "failed")
		}
		if all {
			break
		}
	}
	return time.Since(start)
}

func TestCase10LinkUpAgain(t *testing.T) {
	s := begin(t, 10, "the cable is put back after the node was given up",
		"alive at all in under 5 s, same id, no second entry, takes work again")
	ingress, owners := s.mesh(2, 500, "m")
	away := owners[0]
	before := ingress.members()[away.Name].ID
	s.lab.LinkDown(away.Index())
	s.eventually(10*time.Second, "failed", func() bool { return ingress.sees(away) == "failed" && owners[1].sees(away) == "failed" })
	s.lab.LinkUp(away.Index())
	took := s.eventually(15*time.Second, "alive at all", func() bool {
		for _, h := range s.hosts[1:] {
			if h.alive() != 3 {
				return false
			}
		}
		return true
	})
	if took > 5*time.Second {
		t.Errorf("alive after %v", took)
	}
	if m := ingress.members(); len(m) != 3 || m[away.Name].ID != before {
		t.Errorf("members %v", m)
	}
	owners[1].kill()
	back := s.eventually(10*time.Second, "in work again", func() bool {
		r := s.ask(question{to: ingress, model: "m", tokens: 4})
		return r.perfect(4) == nil && r.node == away.Name
	})
	s.saw("alive at all after %.1f s with its old id, in work %.1f s later", took.Seconds(), back.Seconds())
}

func TestCase11OneWayPartition(t *testing.T) {
	s := begin(t, 11, "what the ingress sends to one owner vanishes (one way), in a mesh of four",
		"every request is answered by the others; that owner is not given up by anybody else, and not again and again")
	ingress, owners := s.mesh(3, 500, "m")
	lost := owners[0]
	s.lab.CutOneWay(ingress.Index(), lost.Index())
	worst := time.Duration(0)
	for i, start := 0, time.Now(); time.Since(start) < 10*time.Second; i++ {
		r := s.ask(question{to: ingress, model: "m", tokens: 8, id: fmt.Sprint("r", i)})
		if err := r.perfect(8); err != nil || r.node == lost.Name {
			t.Fatalf("request %d: %v: %v", i, err, r)
		}
		if n := executed(r.header.Get("X-Kage-Request-Id"), owners...); n > 1 {
			t.Errorf("request %d ran %d times", i, n)
		}
		worst = max(worst, r.took)
	}
	for _, h := range owners[1:] {
		if n := h.flaps(lost); n > 0 {
			t.Errorf("%s gave it up %d times", h, n)
		}
	}
	s.lab.Heal(lost.Index(), ingress.Index())
	took := s.eventually(10*time.Second, "answering again", func() bool {
		r := s.ask(question{to: ingress, model: "m", tokens: 4, header: map[string]string{"X-Kage-Node": lost.Name}})
		return r.perfect(4) == nil && r.node == lost.Name
	})
	s.saw("10 s of requests all whole, the slowest %.1f s; the others never gave it up; it answers %.1f s after the healing", worst.Seconds(), took.Seconds())
}

func TestCase12SplitInTwo(t *testing.T) {
	s := begin(t, 12, "four owners split into two and two, and healed; one that left before stays away",
		"both halves serve what they have; one view of all in under 15 s after; who left is not back")
	s.up(5)
	for _, h := range s.hosts[1:] {
		h.ollama(ollamatest.Config{Models: []ollamatest.Model{model("m", 500)}})
		h.join()
	}
	s.eventually(60*time.Second, "five members", func() bool {
		for _, h := range s.hosts[1:] {
			if h.alive() != 5 || !h.knows("m", 5) {
				return false
			}
		}
		return true
	})
	s.clock()
	left := s.hosts[5]
	_ = left.Proc.Stop()
	s.eventually(5*time.Second, "its leaving seen", func() bool { return s.hosts[1].sees(left) == "left" })
	s.lab.Split([]int{1, 2}, []int{3, 4})
	parted := s.eventually(15*time.Second, "two halves", func() bool {
		for _, h := range s.hosts[1:5] {
			if h.alive() != 2 {
				return false
			}
		}
		return true
	})
	for _, h := range []*host{s.hosts[1], s.hosts[2], s.hosts[3], s.hosts[4]} {
		if r := s.ask(question{to: h, model: "m", tokens: 8}); r.perfect(8) != nil {
			t.Errorf("%s: %v", h, r)
		}
	}
	s.lab.Split()
	took := s.eventually(15*time.Second, "one view", func() bool {
		for _, h := range s.hosts[1:5] {
			if h.alive() != 4 || h.sees(left) == "alive" {
				return false
			}
		}
		return true
	})
	s.saw("halves after %.1f s, each served; one view %.1f s after the healing, who left stays away", parted.Seconds(), took.Seconds())
}

func TestCase13UDPBlocked(t *testing.T) {
	s := begin(t, 13, "a firewall drops all UDP of one owner; TCP passes",
		"it stays a member and serves: probes fall back to TCP, load rides on answers")
	ingress, owners := s.mesh(2, 500, "m")
	blocked := owners[0]
	s.lab.BlockUDP(blocked.Index())
	served, looks, dead := 0, 0, 0
	for start := time.Now(); time.Since(start) < 12*time.Second; looks++ {
		// Which of two idle owners serves is nobody's right: every second
		// request names it.
		q := question{to: ingress, model: "m", tokens: 4}
		if looks%2 == 1 {
			q.header = map[string]string{"X-Kage-Node": blocked.Name}
		}
		r := s.ask(q)
		if err := r.perfect(4); err != nil {
			t.Fatalf("%v: %v", err, r)
		}
		if r.node == blocked.Name {
			served++
		}
		if ingress.sees(blocked) != "alive" {
			dead++
		}
	}
	if dead > looks/20 {
		t.Errorf("not alive in %d of %d looks", dead, looks)
	}
	if served < looks/2 {
		t.Errorf("it served %d of %d", served, looks)
	}
	if n := s.sharing(ingress, 8); n != 2 {
		t.Errorf("8 requests at once are shared by %d owners of 4 slots", n)
	}
	s.saw("alive in %d of %d looks over 12 s, %d whole answers, %d of them from it", looks-dead, looks, looks, served)
}

func TestCase14RandomLoss(t *testing.T) {
	s := begin(t, 14, "10, 20 and 30 % of all packets of every host are lost",
		"no false death at 10 %; at 30 % few, and put right; every request whole")
	ingress, owners := s.mesh(2, 500, "m")
	deaths := func() (n int) {
		for _, h := range s.hosts[1:] {
			for _, other := range s.hosts[1:] {
				n += h.flaps(other)
			}
		}
		return n
	}
	before := 0
	for _, percent := range []float64{10, 20, 30} {
		// A frame passes the cables of two hosts: half of it at each.
		for _, h := range s.hosts[1:] {
			s.lab.Loss(h.Index(), percent/2)
		}
		asked := 0
		for start := time.Now(); time.Since(start) < 6*time.Second; asked++ {
			if r := s.ask(question{to: ingress, model: "m", tokens: 8}); r.perfect(8) != nil {
				t.Fatalf("at %v %%, request %d: %v", percent, asked, r)
			}
		}
		now := deaths()
		if percent == 10 && now > 0 {
			t.Errorf("%d false deaths at 10 %%", now)
		}
		s.saw("%v %%: %d of %d requests whole, %d false deaths", percent, asked, asked, now-before)
		before = now
	}
	s.lab.Heal()
	s.eventually(8*time.Second, "all alive", func() bool {
		return ingress.alive() == 3 && owners[0].alive() == 3 && owners[1].alive() == 3
	})
}

func TestCase15LongWay(t *testing.T) {
	s := begin(t, 15, "every frame of one owner takes 100 ms ± 50 ms longer, both ways: a round trip of 200 ms ± 100 ms",
		"no false death in 12 s; requests whole, from it too")
	ingress, owners := s.mesh(2, 500, "m")
	far := owners[0]
	s.lab.Delay(far.Index(), 100*time.Millisecond, 50*time.Millisecond)
	asked, fromFar := 0, 0
	for start := time.Now(); time.Since(start) < 12*time.Second; asked++ {
		r := s.ask(question{to: ingress, model: "m", tokens: 8})
		if r.perfect(8) != nil {
			t.Fatalf("request %d: %v", asked, r)
		}
		if r.node == far.Name {
			fromFar++
		}
	}
	if r := s.ask(question{to: far, model: "m", tokens: 8}); r.perfect(8) != nil {
		t.Errorf("asked itself: %v", r)
	}
	if n := ingress.flaps(far) + owners[1].flaps(far); n > 0 {
		t.Errorf("%d false deaths", n)
	}
	s.saw("%d of %d whole, %d of them from it; no false death", asked, asked, fromFar)
}
