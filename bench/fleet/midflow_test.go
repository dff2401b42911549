package fleet_test

import (
	"context"
	"math/rand/v2"
	"testing"
	"time"
)

// Nodes die in the full flow of fast answers, at any byte of a frame: the cut is
// wherever the connection broke.
func TestDeathsInFullFlow(t *testing.T) {
	if testing.Short() {
		t.Skip("some restarts, not with -short")
	}
	const rounds, streams, tokens = 8, 8, 1500
	f := start(t, nil, owner("a", "0.33.0", 16, slow(1000)), owner("b", "0.33.0", 16, slow(1000)), owner("c", "0.33.0", 16, slow(1000)))
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	defer cancel()
	seed := rand.Uint64()
	random := rand.New(rand.NewPCG(seed, 0))
	t.Logf("seed %d", seed)
	continued := 0
	for range rounds {
		c := gather(t, f, streams, tokens)
		c.begun(t)
		<-time.After(time.Duration(random.IntN(300)) * time.Millisecond)
		victim := busiest(f, nil)
		victim.Kill()
		continued += verify(t, c.wait(), tokens)
		if err := victim.Restart(ctx); err != nil {
			t.Fatal(err)
		}
		if err := f.Settle(ctx); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%d of %d answers were continued: %+v", continued, rounds*streams, f.Node(0).Router().Continued().Breaks)
	if continued == 0 {
		t.Error("no answer broke")
	}
}
