package fleet

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh/hardware"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/ollamatest"
)

// machine is a node of these tests: slots that decode at rate tok/s each, and
// enough RAM for whatever is not meant to be too big.
func machine(name string, slots int, rate float64, models ...ollamatest.Model) Spec {
	known := func(n uint64) hardware.Bytes { return hardware.Bytes{N: n, Source: hardware.Configured} }
	for i := range models {
		models[i].Decode = rate
	}
	return Spec{
		Name: name,
		Hardware: hardware.Inventory{
			OS: "linux", Arch: "amd64", CPU: "test", Cores: 8, Role: "cpu",
			RAM: known(64 * gib), RAMFree: known(60 * gib),
		},
		Ollama: &ollamatest.Config{Name: name, Models: models, Parallel: slots, RAM: 64 * gib},
	}
}

func small(name string) ollamatest.Model { return ollamatest.Model{Name: name, Size: 100 << 20} }

// A model that one node of three has, one that is warm on one and on disk on
// another, and one too big for all: no request is ever misplaced, and the last
// is told what it would need.
func TestNoRequestIsMisplaced(t *testing.T) {
	huge := ollamatest.Model{Name: "huge", Size: 200 * gib, Layers: 80}
	f := startFleet(t, []Spec{
		machine("a", 2, 2000, small("only-a"), small("both"), huge),
		machine("b", 2, 2000, small("both")),
		machine("c", 2, 2000, small("other"), huge),
	})
	if a := Ask(t.Context(), f.Node(0).Endpoint(), "both", "warm up", 2, false); a.Err != nil {
		t.Fatal(a.Err)
	}
	allowed := map[string]string{"only-a": "a", "both": "ab", "other": "c"}
	models := []string{"only-a", "both", "other"}
	var wait sync.WaitGroup
	places := make(chan struct{}, 16)
	for i := range 1000 {
		places <- struct{}{}
		wait.Go(func() {
			defer func() { <-places }()
			model := models[i%len(models)]
			a := Ask(t.Context(), f.Node(i%3).Endpoint(), model, fmt.Sprint(i), 4, i%2 == 0)
			switch {
			case a.Err != nil:
				t.Errorf("request %d for %s: %v", i, model, a.Err)
			case !strings.Contains(allowed[model], a.Node):
				t.Errorf("request %d for %s answered by %s", i, model, a.Node)
			}
		})
	}
	wait.Wait()
	for _, n := range f.Nodes() {
		if n404 := n.Ollama.Stats().Failed; n404 > 0 {
			t.Errorf("%s: %d requests failed at its Ollama", n.Spec.Name, n404)
		}
	}
	a := Ask(t.Context(), f.Node(1).Endpoint(), "huge", "x", 4, false)
	if a.Err == nil || !strings.HasPrefix(a.Err.Error(), "503") || !strings.Contains(a.Err.Error(), "GiB") {
		t.Errorf("the model that fits nowhere: %+v", a)
	}
	for _, n := range f.Nodes() {
		if n.Ollama.Stats().MaxRunning["huge:latest"] > 0 {
			t.Errorf("%s was sent the model that does not fit", n.Spec.Name)
		}
	}
}

// Thirty requests on a node of two slots: never more than two at once; who
// leaves is gone; and when a second node joins, those that wait move there.
func TestWaitingRequestsMoveToANodeThatJoins(t *testing.T) {
	f := startFleet(t, []Spec{
		machine("entry", 1, 100, small("none")),
		machine("first", 2, 40, small("m")),
		machine("second", 2, 40, small("m")),
	})
	first, second := f.Node(1), f.Node(2)
	second.Kill()
	waitFor(t, "the second node gone", func() bool { return alive(f.Node(0)) == 2 })
	var wait sync.WaitGroup
	ctx, leave := context.WithCancel(t.Context())
	defer leave()
	answers := make(chan Answer, 30)
	for i := range 30 {
		wait.Go(func() {
			own := t.Context()
			if i%10 == 9 {
				own = ctx
			}
			answers <- Ask(own, f.Node(0).Endpoint(), "m", fmt.Sprint(i), 40, true)
		})
	}
	reach(t, first.Ollama, func(s ollamatest.Stats) bool { return s.Running == 2 })
	leave() // three clients go away, most of them while they wait
	if err := second.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := f.Settle(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Logf("when all see the second node, the first has answered %d", first.Ollama.Stats().Completed)
	wait.Wait()
	close(answers)
	by, left := map[string]int{}, 0
	for a := range answers {
		if a.Err != nil {
			left++
			continue
		}
		by[a.Node]++
	}
	t.Logf("first answered %d, second %d, %d left", by["first"], by["second"], left)
	if by["first"]+by["second"]+left != 30 || left > 3 {
		t.Errorf("of 30 requests %d were answered and %d failed", by["first"]+by["second"], left)
	}
	if by["second"] == 0 {
		t.Error("nothing moved to the node that joined")
	}
	for _, n := range []*Node{first, second} {
		if most := n.Ollama.Stats().MaxRunning["m:latest"]; most > 2 {
			t.Errorf("%s ran %d at once on two slots", n.Spec.Name, most)
		}
	}
}

// What waits for a node of two slots starts in the order in which it came, and
// so ends in it, but for the two that run side by side.
func TestWaitingRequestsStartInOrder(t *testing.T) {
	f := startFleet(t, []Spec{machine("entry", 1, 100, small("none")), machine("first", 2, 100, small("m"))})
	first := f.Node(1)
	var mu sync.Mutex
	var order []int
	var wait sync.WaitGroup
	for i := range 30 {
		tokens := 20
		if i < 2 {
			tokens = 400 // while these run, all others come
		}
		wait.Go(func() {
			if a := Ask(t.Context(), f.Node(0).Endpoint(), "m", fmt.Sprint(i), tokens, true); a.Err != nil {
				t.Errorf("request %d: %v", i, a.Err)
			}
			mu.Lock()
			defer mu.Unlock()
			order = append(order, i)
		})
		waitFor(t, fmt.Sprint("request ", i, " at its node"), func() bool {
			l := first.Mesh().View().Self().Load
			return l != nil && l.Running+l.Waiting+first.Ollama.Stats().Completed > i
		})
	}
	wait.Wait()
	for at, i := range order {
		if at < i-1 || at > i+1 {
			t.Fatalf("ended in the order %v", order)
		}
	}
	if most := first.Ollama.Stats().MaxRunning["m:latest"]; most != 2 {
		t.Errorf("ran %d at once on two slots", most)
	}
}

// alive counts the members that a node sees alive.
func alive(n *Node) int {
	count := 0
	for _, m := range n.Mesh().View().Members() {
		if m.Status == "alive" {
			count++
		}
	}
	return count
}

func reach(t *testing.T, s *ollamatest.Server, ok func(ollamatest.Stats) bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := s.Await(ctx, ok); err != nil {
		t.Fatalf("never reached: %+v", s.Stats())
	}
}

// live runs count requests of lengths tokens, at most conc at once, through all
// nodes in turn, and returns how long all took.
func live(t *testing.T, f *Fleet, model string, lengths []int, conc int) time.Duration {
	t.Helper()
	var wait sync.WaitGroup
	places := make(chan struct{}, conc)
	start := time.Now()
	for i, n := range lengths {
		places <- struct{}{}
		wait.Go(func() {
			defer func() { <-places }()
			if a := Ask(t.Context(), f.Node(i%len(f.Nodes())).Endpoint(), model, fmt.Sprint("p", i), n, true); a.Err != nil {
				t.Errorf("request %d: %v", i, a.Err)
			}
		})
	}
	wait.Wait()
	return time.Since(start)
}

// warm gives every node some answers to measure its speed by, as the first
// requests of real use do: enough at once that all get some.
func warm(t *testing.T, f *Fleet, model string) {
	t.Helper()
	lengths := make([]int, 12*len(f.Nodes()))
	for i := range lengths {
		lengths[i] = 24
	}
	live(t, f, model, lengths, 6*len(f.Nodes()))
	for _, n := range f.Nodes() {
		t.Logf("%s has run %d requests", n.Spec.Name, n.Ollama.Stats().Completed)
	}
}

// Three unequal nodes (2 slots of 50 tok/s, 2 of 10, 1 of 4), 200 requests of
// 20 to 200 tokens at concurrency 16 through all three. Prints the makespan
// over the bound total work / total rate; ten times as fast as the machines.
func TestLiveUnequalNodes(t *testing.T) {
	if testing.Short() {
		t.Skip("half a minute, not with -short")
	}
	const speed = 10
	f := startFleet(t, []Spec{
		machine("fast", 2, 50*speed, small("m")),
		machine("middle", 2, 10*speed, small("m")),
		machine("slow", 1, 4*speed, small("m")),
	})
	warm(t, f, "m")
	random := rand.New(rand.NewPCG(1, 2))
	lengths, total := make([]int, 200), 0
	for i := range lengths {
		lengths[i] = 20 + random.IntN(181)
		total += lengths[i]
	}
	took := live(t, f, "m", lengths, 16)
	bound := float64(total) / ((2*50 + 2*10 + 4) * speed)
	t.Logf("makespan %.2f s, bound %.2f s, ratio %.3f", took.Seconds(), bound, took.Seconds()/bound)
}

// Two nodes that run a 72B at 2.8 and 2.9 tok/s: what they reach together, as a
// share of the sum of their solo rates.
func TestLiveTwoLargeNodes(t *testing.T) {
	if testing.Short() {
		t.Skip("half a minute, not with -short")
	}
	const speed = 20
	f := startFleet(t, []Spec{
		machine("mobile", 1, 2.8*speed, small("m")),
		machine("primary", 1, 2.9*speed, small("m")),
	})
	warm(t, f, "m")
	lengths := make([]int, 24)
	for i := range lengths {
		lengths[i] = 60
	}
	took := live(t, f, "m", lengths, 6)
	rate := float64(24*60) / took.Seconds() / speed
	t.Logf("together %.2f tok/s of %.1f: %.1f %%", rate, 2.8+2.9, 100*rate/(2.8+2.9))
}
