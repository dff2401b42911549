package compare

import (
	"context"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/bench/fleet"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh"
)

// path runs nodes in this process with a cheap backend behind the last of them,
// and returns a connection to the first.
func path(tb testing.TB, hops int) *conn {
	tb.Helper()
	b := &Backend{Models: []Model{{Name: "m1"}}, Slots: 64}
	addr := serve(tb, b)
	specs := []fleet.Spec{{Name: "owner", Host: addr}}
	if hops == 2 {
		specs = append([]fleet.Spec{{Name: "ingress"}}, specs...)
	}
	f, err := fleet.Start(tb.Context(), specs, fleet.Options{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(f.Close)
	ctx, cancel := context.WithTimeout(tb.Context(), time.Minute)
	defer cancel()
	if _, err := f.Node(0).Mesh().Wait(ctx, func(v *mesh.View) bool { return len(v.Models()) > 0 }); err != nil {
		tb.Fatal("the model is not known: ", err)
	}
	c, err := dial(f.Node(0).APIAddr().String())
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = c.Close() })
	return c
}

// One small request through everything: guard, peek, select, gate, relay, and
// for two hops the peer link. Allocations are those of the whole process.
func BenchmarkRequest(b *testing.B) {
	for hops := 1; hops <= 2; hops++ {
		b.Run(fmt.Sprintf("hops=%d", hops), func(b *testing.B) {
			c := path(b, hops)
			request := post("m1", 8, false)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := c.do(request, nil); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// One token of a stream: ns/op and allocs/op are per token.
func BenchmarkToken(b *testing.B) {
	for hops := 1; hops <= 2; hops++ {
		b.Run(fmt.Sprintf("hops=%d", hops), func(b *testing.B) {
			c := path(b, hops)
			b.ReportAllocs()
			b.ResetTimer()
			if _, err := c.do(post("m1", b.N, true), nil); err != nil {
				b.Fatal(err)
			}
		})
	}
}

// What a small request may allocate in all of the process: node, backend and,
// for two hops, both nodes. Allocations do not depend on how busy the machine
// is; the bounds leave a fifth to what gossip and reports allocate meanwhile.
func TestARequestAllocatesLittle(t *testing.T) {
	if testing.Short() {
		t.Skip("allocations of a quiet process, not with -short")
	}
	for hops, most := range map[int]float64{1: 120, 2: 210} {
		c := path(t, hops)
		request := post("m1", 8, false)
		got := testing.AllocsPerRun(300, func() {
			if _, err := c.do(request, nil); err != nil {
				t.Fatal(err)
			}
		})
		t.Logf("%d hops: %.0f allocations a request", hops, got)
		if got > most {
			t.Errorf("%d hops: %.0f allocations a request, at most %.0f", hops, got, most)
		}
	}
}
