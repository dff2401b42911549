package router

import (
	"cmp"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// Candidates come in the order of their ranks, equal ones in their own,
// whatever their number and how far apart they are.
func TestOrder(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for _, n := range []int{1, 2, 3, 16, 33, 100, 500, 5000} {
		for name, draw := range map[string]func() int64{
			"spread":     func() int64 { return r.Int64N(int64(time.Hour)) },
			"near":       func() int64 { return int64(time.Second) + r.Int64N(int64(time.Second)/10) },
			"equal":      func() int64 { return 7 },
			"few":        func() int64 { return r.Int64N(3) },
			"far apart":  func() int64 { return 1 << r.IntN(49) },
			"an outlier": func() int64 { return max(r.Int64N(1000), (r.Int64N(100)/99)<<48) },
		} {
			cs, ranks, want := make([]Candidate, n), make([]int64, n), make([]int64, n)
			for i := range cs {
				ranks[i] = draw()
				if r.IntN(5) == 0 {
					ranks[i] = refused
				}
				cs[i].Estimate.Wait, want[i] = time.Duration(ranks[i]), int64(i)
			}
			before := slices.Clone(cs)
			slices.SortStableFunc(want, func(a, b int64) int {
				// As numbers without a sign those that are refused are the greatest.
				return cmp.Compare(uint64(ranks[a]), uint64(ranks[b]))
			})
			order(cs, ranks)
			if !slices.Equal(ranks, want) {
				t.Fatalf("%d, %s: not in order", n, name)
			}
			for i := range cs {
				if cs[i].Estimate != before[ranks[i]].Estimate {
					t.Fatalf("%d, %s: an estimate is in another's place", n, name)
				}
			}
		}
	}
}
