//go:build linux

package faults

import (
	"bufio"
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/ollamatest"
)

// gauge reads a metric without labels of the host's own node.
func (h *host) gauge(name string) (value float64) {
	h.s.Helper()
	req, err := http.NewRequestWithContext(h.s.ctx, http.MethodGet, "http://127.0.0.1:11435/metrics", nil)
	if err != nil {
		h.s.Fatal(err)
	}
	resp, err := h.HTTPClient().Do(req)
	if err != nil {
		h.s.Fatal(err)
	}
	defer resp.Body.Close()
	for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
		if rest, ok := strings.CutPrefix(lines.Text(), name+" "); ok {
			_, _ = fmt.Sscan(rest, &value)
		}
	}
	return value
}

func (h *host) descriptors() int {
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", h.Proc.Pid()))
	if err != nil {
		h.s.Fatal(err)
	}
	return len(entries)
}

func TestCase50RandomFaults(t *testing.T) {
	s := begin(t, 50, "16 s of random faults (kills, freezes, black holes, loss, Ollamas that die, cut, stall, refuse) under 6 clients, one in six of which leaves; make soak does it for ten minutes under the race detector",
		"every answer whole or ended by a clear error, none twice or out of order; in flight 0 afterwards; the ingress's goroutines, files and memory back")
	ingress, owners := s.mesh(3, 60, "m")
	if r := s.ask(question{to: ingress, model: "m", tokens: 5}); r.perfect(5) != nil {
		t.Fatalf("%v", r)
	}
	goroutines, files, memory := ingress.gauge("go_goroutines"), ingress.descriptors(), ingress.rss()
	var mu sync.Mutex
	counts := map[string]int{}
	stop := make(chan struct{})
	var clients sync.WaitGroup
	const people = 6
	for w := range people {
		r := rand.New(rand.NewPCG(uint64(s.number), uint64(w)))
		clients.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				tokens, leaves := 5+r.IntN(40), r.IntN(6) == 0
				ctx, leave := context.WithCancel(s.ctx)
				left := false
				a := s.askCtx(ctx, question{to: ingress, model: "m", tokens: tokens, on: func(frame int) {
					if left = leaves && frame == 3; left {
						leave()
					}
				}})
				gone := ctx.Err() != nil && s.ctx.Err() == nil
				leave()
				what := "whole"
				switch err := a.perfect(tokens); {
				case err == nil:
				case gone:
					what = "left"
				case a.status == http.StatusOK && a.broken() == nil:
					what = "clear error"
				default:
					what = "bad"
					t.Errorf("client %d, request %d: %v: %v", w, n, err, a)
				}
				mu.Lock()
				counts[what]++
				mu.Unlock()
			}
		})
	}
	pause := func(least, most int) {
		<-time.After(time.Duration(least+s.rand.IntN(most-least)) * time.Millisecond)
	}
	faults := 0
	for end := time.Now().Add(16 * time.Second); time.Now().Before(end) && !t.Failed(); faults++ {
		h := owners[s.rand.IntN(len(owners))]
		script := func(f ollamatest.Fault) { h.fake.Fault(f) }
		switch s.rand.IntN(8) {
		case 0:
			h.kill()
			pause(200, 1500)
			h.reviveOllama()
			h.Again()
			s.eventually(10*time.Second, "back", func() bool { return ingress.knows("m", 3) })
		case 1:
			h.Proc.Freeze()
			pause(200, 3000)
			h.Proc.Thaw()
		case 2:
			s.lab.BlackHole(h.Index())
			pause(200, 3000)
			s.lab.Heal(h.Index())
		case 3:
			s.lab.Loss(h.Index(), 20)
			pause(500, 2000)
			s.lab.Loss(h.Index(), 0)
		case 4:
			h.fake.Kill()
			pause(200, 1500)
			h.reviveOllama()
		case 5:
			script(ollamatest.Fault{Kind: ollamatest.Die, After: s.rand.IntN(20), Half: true, Times: 2})
		case 6:
			script(ollamatest.Fault{Kind: ollamatest.CleanEOF, After: s.rand.IntN(20), Times: 2})
		case 7:
			script(ollamatest.Fault{Kind: ollamatest.Busy, Times: 2})
		}
		pause(100, 400)
	}
	close(stop)
	clients.Wait()
	for _, h := range owners {
		h.fake.ClearFaults()
	}
	s.eventually(10*time.Second, "nothing in flight", func() bool {
		for _, m := range ingress.members() {
			if m.Running+m.Waiting != 0 {
				return false
			}
		}
		return running(owners...) == 0
	})
	// Connections are kept for a while when nobody wants them: one of each
	// client, and as many to each owner as there were clients.
	kept := people * (1 + len(owners))
	s.eventually(10*time.Second, "the ingress at rest", func() bool {
		return ingress.gauge("go_goroutines") <= goroutines+20 && ingress.descriptors() <= files+kept
	})
	if now := ingress.rss(); now > memory+48 {
		t.Errorf("the ingress has %d MiB, %d before", now, memory)
	}
	s.saw("%d faults: %d whole, %d clear errors, %d left, %d bad; at rest again: %.0f goroutines (%.0f before), %d files (%d), %d MiB (%d)",
		faults, counts["whole"], counts["clear error"], counts["left"], counts["bad"],
		ingress.gauge("go_goroutines"), goroutines, ingress.descriptors(), files, ingress.rss(), memory)
}
