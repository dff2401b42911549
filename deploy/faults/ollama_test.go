//go:build linux

package faults

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/deploy/realollama"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/ollamatest"
)

func TestCase20ErrorsBeforeTheBody(t *testing.T) {
	s := begin(t, 20, "one owner's Ollama answers 500, 502, 503 or busy to everything; then both are busy",
		"0 of 40 requests fail beside the healthy one; when nobody can, 503 with Retry-After")
	ingress, owners := s.mesh(2, 500, "m")
	sick, well := owners[0], owners[1]
	for _, f := range []ollamatest.Fault{
		{Kind: ollamatest.Status, Status: 500},
		{Kind: ollamatest.Status, Status: 502},
		{Kind: ollamatest.Status, Status: 503},
		{Kind: ollamatest.Busy},
	} {
		f.Times = ollamatest.Always
		remove := sick.fake.Fault(f)
		for i := range 10 {
			if r := s.ask(question{to: ingress, model: "m", tokens: 4, whole: i%2 == 0}); r.perfect(4) != nil || r.node != well.Name {
				t.Fatalf("%s %d, request %d: %v", f.Kind, f.Status, i, r)
			}
		}
		remove()
	}
	for _, h := range owners {
		h.fake.Fault(ollamatest.Fault{Kind: ollamatest.Busy, Times: ollamatest.Always})
	}
	r := s.ask(question{to: ingress, model: "m", tokens: 4})
	if r.status != http.StatusServiceUnavailable || r.failure == "" {
		t.Errorf("both busy: %v", r)
	}
	if r.header.Get("Retry-After") == "" {
		t.Errorf("both busy, and no Retry-After: %v", r.header)
	}
	s.saw("40 of 40 whole; both busy: %d %q, Retry-After %s", r.status, r.failure, r.header.Get("Retry-After"))
}

func TestCase21ModelDeletedBehindTheMesh(t *testing.T) {
	s := begin(t, 21, "a model is deleted from one owner's Ollama behind the mesh's back, then from the other's",
		"the next request is whole, from the other; the listing is right in under 10 s; when all lack it, 404 in the dialect")
	ingress, owners := s.mesh(2, 500, "model", "other")
	owners[0].fake.Remove("model")
	for i := range 10 {
		if r := s.ask(question{to: ingress, model: "model", tokens: 4}); r.perfect(4) != nil || r.node != owners[1].Name {
			t.Fatalf("request %d: %v", i, r)
		}
	}
	took := s.eventually(10*time.Second, "the listing right", func() bool { return ingress.knows("model", 1) })
	owners[1].fake.Remove("model")
	var r reply
	s.eventually(10*time.Second, "not found", func() bool {
		r = s.ask(question{to: ingress, model: "model", tokens: 4})
		if r.status == http.StatusOK {
			t.Fatalf("%v", r)
		}
		return r.status == http.StatusNotFound && ingress.knows("model", 0)
	})
	r = s.ask(question{to: ingress, model: "model", tokens: 4})
	if r.status != http.StatusNotFound || !strings.Contains(r.failure, "not found") {
		t.Errorf("%v", r)
	}
	s.saw("10 of 10 from the other; known after %.1f s; all lack it: 404 %q", took.Seconds(), r.failure)
}

func TestCase22MalformedLine(t *testing.T) {
	s := begin(t, 22, "a line in the middle of a stream is no JSON",
		"passed through as it is; the stream goes on and is whole otherwise")
	ingress, owners := s.mesh(2, 200, "m")
	for _, h := range owners {
		h.fake.Fault(ollamatest.Fault{Kind: ollamatest.Malformed, After: 5})
	}
	r := s.ask(question{to: ingress, model: "m", tokens: 20})
	bad := r.err
	r.err = nil
	if bad == nil || !strings.Contains(bad.Error(), "frame") || r.perfect(20) != nil {
		t.Fatalf("bad line: %v; the rest: %v: %v", bad, r.perfect(20), r)
	}
	if next := s.ask(question{to: ingress, model: "m", tokens: 8, id: "next"}); next.status != http.StatusOK {
		t.Errorf("next: %v", next)
	}
	s.saw("the line came through, 20 of 20 tokens around it")
}

func TestCase23EarlyEnd(t *testing.T) {
	s := begin(t, 23, "an Ollama ends its stream cleanly without the last record",
		"continued to a whole answer; with X-Kage-Continue: off an error in the dialect and a broken connection; never a clean end")
	ingress, owners := s.mesh(2, 200, "m")
	cut := func() {
		for _, h := range owners {
			h.fake.ClearFaults()
			h.fake.Fault(ollamatest.Fault{Kind: ollamatest.CleanEOF, After: 7})
		}
	}
	cut()
	// Both would cut: the second cut must be survived as well as the first.
	r := s.ask(question{to: ingress, model: "m", tokens: 30})
	if err := r.perfect(30); err != nil {
		t.Errorf("%v: %v", err, r)
	}
	cut()
	off := s.ask(question{to: ingress, model: "m", tokens: 30, header: map[string]string{"X-Kage-Continue": "off"}})
	if err := off.broken(); err != nil {
		t.Errorf("%v: %v", err, off)
	}
	s.saw("cut twice: 30 of 30 tokens; off: %q", off.failure)
}

// rss is the memory that the host's node has now, in MiB.
func (h *host) rss() int {
	h.s.Helper()
	now, _ := h.Memory()
	return now
}

func TestCase24HugeLine(t *testing.T) {
	s := begin(t, 24, "a stream with one line of 20 MB, five times",
		"every byte arrives; the ingress's memory does not grow from one to the next")
	ingress, owners := s.mesh(1, 500, "m")
	const size = 20 << 20
	var memory []int
	for range 5 {
		owners[0].fake.Fault(ollamatest.Fault{Kind: ollamatest.HugeLine, After: 2, Size: size})
		r := s.ask(question{to: ingress, model: "m", tokens: 5})
		if r.err != nil || !r.done || strings.Count(r.text, "x") != size {
			t.Fatalf("%d bytes of %d: %v", strings.Count(r.text, "x"), size, r)
		}
		memory = append(memory, ingress.rss())
	}
	if memory[4] > memory[1]+64 || memory[4] > 400 {
		t.Errorf("the ingress takes %v MiB", memory)
	}
	s.saw("5 of 5 whole; the ingress has %v MiB after each", memory)
}

func TestCase25OllamaRestartsUnderLoad(t *testing.T) {
	s := begin(t, 25, "a real Ollama is killed and started again under load; its node stays",
		"0 requests fail; its state is down in under 2 s and back in under 5 s, without a restart of kage-mesh")
	s.up(3)
	var real [4]*realollama.Ollama
	for _, h := range s.hosts[2:] {
		real[h.Index()] = realollama.Start(t, realollama.Options{On: h.Node, Models: []string{"tiny"}})
	}
	for _, h := range s.hosts[1:] {
		h.join()
	}
	s.stands("tiny")
	ingress, victim := s.hosts[1], s.hosts[2]
	want := s.ask(question{to: ingress, model: "tiny", tokens: 12}).text
	stop, failed, asked := make(chan struct{}), 0, 0
	load := make(chan struct{})
	go func() {
		defer close(load)
		for {
			select {
			case <-stop:
				return
			default:
			}
			r := s.ask(question{to: ingress, model: "tiny", tokens: 12})
			if asked++; r.err != nil || !r.done || r.text != want {
				failed++
				t.Errorf("%v, want %q", r, want)
			}
		}
	}()
	real[victim.Index()].Kill()
	down := s.eventually(5*time.Second, "down", func() bool { return ingress.knows("tiny", 1) })
	real[victim.Index()].Restart()
	back := s.eventually(10*time.Second, "back", func() bool { return ingress.knows("tiny", 2) })
	close(stop)
	<-load
	if down > 2*time.Second || back > 5*time.Second {
		t.Errorf("down after %v, back after %v", down, back)
	}
	s.saw("%d of %d whole; down after %.1f s, back %.1f s after it answered", asked-failed, asked, down.Seconds(), back.Seconds())
}

func TestCase26NoOllamaAtStart(t *testing.T) {
	s := begin(t, 26, "a node starts without an Ollama; later one starts, and a moment later is gone",
		"it joins and routes to the others, and says so; it serves when the Ollama comes, in under 10 s")
	ingress, owners := s.mesh(1, 500, "m")
	if r := s.ask(question{to: ingress, model: "m", tokens: 8}); r.perfect(8) != nil || r.node != owners[0].Name {
		t.Fatalf("%v", r)
	}
	if out := ingress.Proc.Stdout.String(); !strings.Contains(out, "this node routes to the others") {
		t.Errorf("it says\n%s", out)
	}
	ingress.ollama(ollamatest.Config{Models: []ollamatest.Model{model("late", 500)}})
	took := s.eventually(10*time.Second, "serving", func() bool {
		r := s.ask(question{to: owners[0], model: "late", tokens: 8})
		return r.perfect(8) == nil && r.node == ingress.Name
	})
	s.saw("routes without one and says so; serves %.1f s after its Ollama came", took.Seconds())
}
