package compare

import (
	"fmt"
	"log/slog"
	"testing"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/bench/fleet"
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
