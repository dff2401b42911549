package fleet

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh/hardware"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/ollamatest"
)

// ten are ten equal nodes: each has the models common and all, every second
// one also has rare.
func ten() []Spec {
	known := func(n uint64) hardware.Bytes { return hardware.Bytes{N: n, Source: hardware.Configured} }
	var specs []Spec
	for i := range 10 {
		models := []ollamatest.Model{
			{Name: "common", Size: 1 << 20, Decode: 2000},
			{Name: "embed", Size: 1 << 20, Embedding: true},
		}
		if i%2 == 0 {
			models = append(models, ollamatest.Model{Name: "rare", Size: 2 << 20, Decode: 1000})
		}
		specs = append(specs, Spec{
			Name: fmt.Sprintf("node-%d", i),
			Hardware: hardware.Inventory{
				OS: "linux", Arch: "amd64", CPU: "test", Cores: 8, Role: "cpu",
				RAM: known(64 * gib), RAMFree: known(60 * gib),
			},
			Ollama: &ollamatest.Config{Name: fmt.Sprintf("node-%d", i), Models: models, Parallel: 4, RAM: 64 * gib},
		})
	}
	return specs
}

// descriptors counts this process's open files.
func descriptors(t *testing.T) int {
	t.Helper()
	if runtime.GOOS != "linux" {
		return 0
	}
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

// Ten nodes, 2,000 mixed requests through all of them, two killed and brought
// back on the way. The entries stay up, so every request has a live capable
// node: none may fail, and afterwards nothing may be left.
func TestTenNodesTwoKilled(t *testing.T) {
	http.DefaultClient.CloseIdleConnections()
	before := goleak.IgnoreCurrent()
	openBefore := descriptors(t)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var log bytes.Buffer
	f, err := Start(ctx, ten(), Options{Logger: slog.New(slog.NewTextHandler(&log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	const requests = 2000
	victims := []*Node{f.Node(8), f.Node(9)}
	kinds := []func(i int, entry string) Answer{
		func(i int, entry string) Answer {
			return Ask(ctx, entry, "common", fmt.Sprint("q", i), 8, false)
		},
		func(i int, entry string) Answer {
			return Ask(ctx, entry, "rare", fmt.Sprint("q", i), 8, false)
		},
		func(_ int, entry string) Answer { return Embed(ctx, entry, "embed", "text") },
	}
	var wait sync.WaitGroup
	var failed, moved atomic.Int32
	places := make(chan struct{}, 32)
	for i := range requests {
		places <- struct{}{}
		switch i {
		case requests / 4:
			victims[0].Kill()
		case requests / 2:
			victims[1].Kill()
			if err := victims[0].Restart(ctx); err != nil {
				t.Error(err)
			}
		case 3 * requests / 4:
			if err := victims[1].Restart(ctx); err != nil {
				t.Error(err)
			}
		}
		wait.Go(func() {
			defer func() { <-places }()
			a := kinds[i%len(kinds)](i, f.Node(i%8).Endpoint())
			if a.Err != nil {
				failed.Add(1)
				t.Errorf("request %d: %v", i, a.Err)
			}
			if a.Attempts > 1 {
				moved.Add(1)
			}
		})
	}
	wait.Wait()
	t.Logf("%d requests, %d failed, %d moved to another node", requests, failed.Load(), moved.Load())
	if err := f.Settle(ctx); err != nil {
		t.Errorf("the killed nodes are not back: %v", err)
	}
	for _, n := range f.Nodes() {
		_, err := n.Mesh().Wait(ctx, func(v *mesh.View) bool {
			for _, m := range v.Members() {
				if m.Load != nil && m.Load.Running+m.Load.Waiting > 0 {
					return false
				}
			}
			return true
		})
		if err != nil {
			t.Errorf("%s still sees work in flight", n.Spec.Name)
		}
	}
	f.Close()
	if t.Failed() {
		t.Logf("the nodes' log:\n%s", log.Bytes())
	}
	http.DefaultClient.CloseIdleConnections()
	for end := time.Now().Add(patience); goleak.Find(before) != nil && time.Now().Before(end); {
		continue // Find looks for a second or so; gossip ends its last probe
	}
	goleak.VerifyNone(t, before)
	if open := descriptors(t); open > openBefore {
		t.Errorf("%d descriptors open, %d before", open, openBefore)
	}
}
