package sim

import (
	"math"
	"math/rand/v2"
	"testing"
)

// What the seeds of two cells share does not count as error; what they do not
// share does, as much as repeating the whole shows.
func TestRatioHasTheErrorThatRepeatingItShows(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 1))
	const seeds, times = 40, 4000
	draw := func() (r, e float64) {
		calm, disturbed := make([]float64, seeds), make([]float64, seeds)
		for i := range seeds {
			calm[i] = 10 + 3*random.NormFloat64()
			disturbed[i] = 1.3*calm[i] + random.NormFloat64()
		}
		return ratio(disturbed, calm)
	}
	var sum, squares, said float64
	for range times {
		r, e := draw()
		sum, squares, said = sum+r/times, squares+r*r/times, said+e/times
	}
	shown := math.Sqrt(squares - sum*sum)
	if math.Abs(sum-1.3) > 0.001 || math.Abs(said/shown-1) > 0.1 {
		t.Errorf("%.4f, said to be off by %.4f, is by %.4f", sum, said, shown)
	}
	if r, e := ratio([]float64{2, 4, 6}, []float64{1, 2, 3}); r != 2 || e != 0 {
		t.Errorf("twice the same is %v ± %v", r, e)
	}
}
