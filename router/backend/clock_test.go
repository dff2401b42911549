package backend

import (
	"math"
	"testing"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh"
)

// Figures of the server's that the node's own clock contradicts are corrected,
// in what the gate forecasts and in what the node publishes.
func TestTheClockCorrectsWhatTheServerSays(t *testing.T) {
	const says = 10.0 // tok/s
	for name, c := range map[string]struct {
		took    float64 // seconds from the first piece to the end
		tokens  int
		pieces  int
		answers int
		beside  int // requests that run beside it
		decode  float64
	}{
		"half as fast as it says":       {20, 101, 101, 3, 0, 5},
		"a third faster than it says":   {7.5, 101, 101, 3, 0, 13.33},
		"one answer is not much":        {20, 101, 101, 1, 0, 10 - 5.0/3},
		"no answer yet":                 {20, 101, 101, 0, 0, says},
		"within what a clock can tell":  {11, 101, 101, 9, 0, says},
		"too short":                     {6, 31, 31, 9, 0, says},
		"too quick":                     {0.4, 41, 41, 9, 0, says},
		"a tool call is held back":      {1, 101, 3, 9, 0, says},
		"a few tokens come in one":      {20, 101, 80, 3, 0, 5},
		"as slow as its company's load": {13, 101, 101, 3, 1, says},
		"slower than that":              {26, 101, 101, 3, 1, 5},
	} {
		t.Run(name, func(t *testing.T) {
			figures := Speed{Decode: says, Prefill: 1000, Slope: 0.3, Cold: 1, Output: 100, Samples: 9}
			a := admission(Limits{Parallel: 2, Speed: func(string, *mesh.Model) Speed { return figures }}, disk(1, "model"))
			var beside []*Entry
			for range c.beside {
				beside = append(beside, enter(a, 0, Work{Key: "model", Client: "b"}))
			}
			now := 0.0
			for range c.answers {
				e := enter(a, now, Work{Key: "model"})
				a.Progress(at(now), e, 1)
				now += c.took
				a.Progress(at(now), e, c.pieces)
				a.wrote(e, c.tokens)
				leave(a, now, e)
			}
			running(t, beside...)
			is := func(what string, got, want float64) {
				t.Helper()
				if math.Abs(got-want) > 0.02*want {
					t.Errorf("%s %.2f, want %.2f", what, got, want)
				}
			}
			a.Observe(at(now), a.state)
			is("the gate reckons with", a.runners[a.idOf("model")].speed.Decode, c.decode)
			_, l := Report(Facts{
				State: a.state, Gate: a.Occupancy(at(now), []string{"model"}), Speed: func(string) Speed { return figures },
			})
			is("published", l.Model("model").Decode, c.decode)
			is("published for prompts", l.Model("model").Prefill, 1000*c.decode/says)
		})
	}
}
