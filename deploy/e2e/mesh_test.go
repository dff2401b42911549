//go:build linux

package e2e

import (
	"context"
	"encoding/json"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/deploy/lab"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/deploy/need"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/deploy/realollama"
)

// threeMachines is the smallest mesh that shows everything: two hosts with an
// Ollama and one without, joined with no arguments.
func threeMachines(t *testing.T, models ...string) (hosts [4]*host, ollamas [4]*realollama.Ollama) {
	t.Helper()
	need.NotShort(t, "three hosts with real Ollamas")
	l := lab.Up(t, 3)
	for i := 1; i <= 2; i++ {
		ollamas[i] = realollama.Start(t, realollama.Options{On: l.Node(i), Models: models})
	}
	for i := 1; i <= 3; i++ {
		hosts[i] = newHost(t, l.Node(i))
		hosts[i].join()
	}
	took := await(t, 15*time.Second, "three members seen by all", func() bool {
		return hosts[1].alive() == 3 && hosts[2].alive() == 3 && hosts[3].alive() == 3
	})
	t.Logf("three hosts saw each other within %.1f s", took.Seconds())
	if took > 5*time.Second {
		t.Errorf("they took %v, promised are 5 s", took)
	}
	// Each node learns of each Ollama for itself: that one knows says nothing of
	// the others.
	await(t, 10*time.Second, "both Ollamas and all hardware known to all", func() bool {
		for _, h := range hosts[1:] {
			m, _ := h.members()
			ollamas, hardware := 0, 0
			for _, member := range m.Members {
				if len(member.Models) == len(models) && member.Ollama != "" {
					ollamas++
				}
				if member.Hardware != nil && member.RAMTotal > 0 {
					hardware++
				}
			}
			if ollamas != 2 || hardware != 3 {
				return false
			}
		}
		return true
	})
	return hosts, ollamas
}

func TestThreeMachinesAreOneEndpoint(t *testing.T) {
	hosts, _ := threeMachines(t, "tiny")
	for i := 1; i <= 3; i++ {
		m, ok := hosts[i].members()
		if !ok || len(m.Members) != 3 {
			t.Fatalf("%s: members --json: %+v", hosts[i], m)
		}
		for _, member := range m.Members {
			if member.Hardware == nil || member.RAMTotal == 0 {
				t.Errorf("%s: no hardware of %s", hosts[i], member.Name)
			}
			if want := 1; member.Name != hosts[3].String() && len(member.Models) != want {
				t.Errorf("%s: %s has %d models, want %d", hosts[i], member.Name, len(member.Models), want)
			}
		}
	}
	r := hosts[3].ask(t.Context(), "/api/generate", map[string]any{
		"model": "tiny", "prompt": "hi", "options": map[string]any{"num_predict": 40, "temperature": 0},
	})
	if r.err != nil || !r.done || r.frames < 20 {
		t.Fatalf("the host without Ollama: %+v", r)
	}
	if node := r.header.Get("X-Kage-Node"); node != hosts[1].String() && node != hosts[2].String() {
		t.Errorf("answered by %q", node)
	}
	status := string(hosts[3].run("status"))
	if !strings.Contains(status, "CLUSTER STATUS: HEALTHY (3/3 nodes online)") {
		t.Errorf("status says:\n%s", status)
	}
	var document struct {
		Nodes map[string]struct {
			Status, Endpoint, Role, Models string
			Capable                        *bool `json:"72b_capable"`
			Count                          *int  `json:"model_count"`
		}
		LoadBalancer struct{ Status, Endpoint string } `json:"load_balancer"`
		Timestamp    time.Time
	}
	if err := json.Unmarshal(hosts[3].run("status", "--json"), &document); err != nil || len(document.Nodes) != 3 ||
		document.LoadBalancer.Status != "online" || document.Timestamp.IsZero() {
		t.Errorf("status --json: %+v, %v", document, err)
	}
}

// The owner and its Ollama die while a request waits for its first byte there:
// the client gets a whole answer from the other.
func TestOwnerDiesBeforeTheFirstByte(t *testing.T) {
	hosts, ollamas := threeMachines(t, "tiny", "big")
	ask := func(ctx context.Context, model string, tokens int) reply {
		return hosts[3].ask(ctx, "/api/generate", map[string]any{
			"model": model, "prompt": "hi", "options": map[string]any{"num_predict": tokens, "temperature": 0},
		})
	}
	whole := ask(t.Context(), "big", 8)
	if whole.err != nil {
		t.Fatal(whole.err)
	}
	// Whoever is chosen is frozen at first, so that it certainly has the
	// request and certainly has not answered, and then dies.
	owner := 1
	if whole.header.Get("X-Kage-Node") == hosts[2].String() {
		owner = 2
	}
	ollamas[owner].Freeze()
	answer := make(chan reply, 1)
	go func() { answer <- ask(t.Context(), "big", 8) }()
	await(t, 10*time.Second, "the request at its owner", func() bool {
		return inFlight(hosts[3]) > 0
	})
	hosts[owner].Proc.Kill()
	ollamas[owner].Kill()
	r := <-answer
	if r.err != nil || !r.done || r.text != whole.text {
		t.Fatalf("got %q (%v), want %q", r.text, r.err, whole.text)
	}
	if got := r.header.Get("X-Kage-Attempts"); got != "2" {
		t.Errorf("X-Kage-Attempts: %q, want 2", got)
	}
	t.Logf("whole answer %.2f s after it was asked, in 2 attempts", r.took.Seconds())

	// An idle death: nobody fails because of it.
	for i := range 200 {
		if r := ask(t.Context(), "tiny", 4); r.err != nil || !r.done {
			t.Fatalf("request %d after the death: %+v", i, r)
		}
	}
	seen := await(t, 10*time.Second, "the death seen by the other two", func() bool {
		return hosts[3].alive() == 2 && hosts[3-owner].alive() == 2
	})
	t.Logf("death seen by all %.1f s after the 200 requests", seen.Seconds())

	// It comes back and serves again by itself.
	ollamas[owner].Restart()
	hosts[owner].join()
	took := await(t, 20*time.Second, "the node back and in work", func() bool {
		var wait sync.WaitGroup
		var served atomic.Int32
		for range 6 { // more than the other can do at once
			wait.Go(func() {
				r := ask(t.Context(), "big", 16)
				if r.err != nil || !r.done {
					t.Errorf("while the node came back: %+v", r)
				}
				if r.header.Get("X-Kage-Node") == hosts[owner].String() {
					served.Add(1)
				}
			})
		}
		wait.Wait()
		return served.Load() > 0 && hosts[3].alive() == 3
	})
	t.Logf("back in work after %.1f s", took.Seconds())
}

// inFlight is how many requests the mesh runs as a host sees it.
func inFlight(h *host) int {
	m, _ := h.members()
	n := 0
	for _, member := range m.Members {
		n += member.Running
	}
	return n
}

func TestDeathsAreSeenInTime(t *testing.T) {
	need.NotShort(t, "four hosts")
	l := lab.Up(t, 4)
	var hosts []*host
	for _, n := range l.Nodes() {
		h := newHost(t, n)
		h.join()
		hosts = append(hosts, h)
	}
	all := func(want int, of ...*host) func() bool {
		return func() bool {
			for _, h := range of {
				if h.alive() != want {
					return false
				}
			}
			return true
		}
	}
	await(t, 15*time.Second, "four members", all(4, hosts...))
	hosts[3].Proc.Kill()
	took := await(t, 15*time.Second, "the death seen by all", all(3, hosts[:3]...))
	t.Logf("kill -9 seen by all in %.1f s (measured profile: 1.6 s p50, 1.9 s at most on 4 nodes)", took.Seconds())
	hosts[3].join()
	took = await(t, 20*time.Second, "its return seen by all", all(4, hosts...))
	t.Logf("return seen by all in %.1f s", took.Seconds())
	l.LinkDown(4)
	took = await(t, 15*time.Second, "the pulled cable seen by all", all(3, hosts[:3]...))
	t.Logf("pulled cable seen by all in %.1f s", took.Seconds())
	l.LinkUp(4)
	took = await(t, 30*time.Second, "the cable's return seen by all", all(4, hosts...))
	t.Logf("return of the cable seen by all in %.1f s", took.Seconds())
}

func TestOllamaCLIThroughANodeWithoutOllama(t *testing.T) {
	hosts, ollamas := threeMachines(t, "tiny", "brief")
	cli := func(args ...string) string {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
		defer cancel()
		cmd := ollamas[1].CLIAt(ctx, "http://"+hosts[3].IP().String()+":11435", args...)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Errorf("ollama %s: %v\n%s", strings.Join(args, " "), err, out)
		}
		return string(out)
	}
	if out := cli("run", "brief", "hi"); len(strings.Fields(out)) < 10 {
		t.Errorf("ollama run: %q", out)
	}
	if out := cli("list"); !strings.Contains(out, "tiny:latest") || !strings.Contains(out, "brief:latest") {
		t.Errorf("ollama list:\n%s", out)
	}
	await(t, 5*time.Second, "brief in ollama ps", func() bool { return strings.Contains(cli("ps"), "brief:latest") })
	if out := cli("show", "tiny"); !strings.Contains(out, "llama") {
		t.Errorf("ollama show:\n%s", out)
	}
}
