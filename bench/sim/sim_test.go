package sim

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router"
)

// one is a fleet of one machine with one model that reads no prompts to speak of.
func one(slots int, slope float64) Fleet {
	k := rtx3060()
	k.Slots, k.Slope, k.Reads, k.Disk = slots, slope, 1e3, 1e15
	m := model("8b", 4.9, 32, 8, 1, 256)
	m.Prompt = 1
	return Fleet{Name: "one", Models: []Model{m}, Kinds: []*Kind{k}, Front: []int{0}, capacity: 60.0 / 256}
}

// seeds plays a cell several times and returns what f makes of each result,
// with its mean and the standard error of that.
func seeds(n int, c Cell, f func(*Result) float64) (m, standardError float64) {
	var v []float64
	for i := range n {
		c.Seed = uint64(i + 1)
		v = append(v, f(Run(c)))
	}
	m = mean(v)
	for _, x := range v {
		standardError += (x - m) * (x - m)
	}
	return m, math.Sqrt(standardError / float64(n-1) / float64(n))
}

// moments are E[S] and E[S^2] of a request's time on a free machine, from the
// very distribution that requests are drawn from.
func moments() (first, second float64) {
	random := rand.New(rand.NewPCG(9, 9))
	const n = 400_000
	for range n {
		t := logNormal(random, 256, 0.8) / 60
		first, second = first+t/n, second+t*t/n
	}
	return first, second
}

// One slot and Poisson arrivals is M/G/1: the mean wait is that of Pollaczek
// and Khinchine.
func TestOneSlotIsMG1(t *testing.T) {
	s1, s2 := moments()
	for _, load := range []float64{0.3, 0.6, 0.8} {
		c := Cell{Fleet: one(1, 0), Load: load, Rule: Random(), Requests: 6000}
		rate := load * c.Fleet.capacity
		want := rate * s2 / (2 * (1 - rate*s1))
		got, e := seeds(10, c, func(r *Result) float64 { return r.Mean() - s1 })
		if math.Abs(got-want) > 4*e+0.02*want {
			t.Errorf("load %v: mean wait %.2f +- %.2f s, Pollaczek-Khinchine says %.2f", load, got, e, want)
		}
	}
}

// Many slots that slow each other down in full is processor sharing: the mean
// stay is E[S]/(1-load), whatever the distribution.
func TestSharedMachineIsProcessorSharing(t *testing.T) {
	s1, _ := moments()
	for _, load := range []float64{0.3, 0.7} {
		c := Cell{Fleet: one(500, 1), Load: load, Rule: Random(), Requests: 6000}
		want := s1 / (1 - load*c.Fleet.capacity*s1)
		got, e := seeds(10, c, (*Result).Mean)
		if math.Abs(got-want) > 4*e+0.02*want {
			t.Errorf("load %v: mean stay %.2f +- %.2f s, processor sharing says %.2f", load, got, e, want)
		}
	}
}

// Old information makes all choose the same machine: the least loaded of all is
// then worse than one of two drawn, and that better than none (Mitzenmacher,
// How Useful Is Old Information, 2000). With fresh information it is the best.
func TestOldInformationHerds(t *testing.T) {
	play := func(rule Rule, gossip float64) float64 {
		m, _ := seeds(3, Cell{Fleet: Equal8(), Load: 0.8, Rule: rule, Requests: 2000, Gossip: gossip}, (*Result).Mean)
		return m
	}
	random := play(Random(), 1)
	two, least := play(TwoChoices(), 0.01), play(Least(), 0.01)
	if !(least < two && two < random) {
		t.Errorf("fresh counts: least of all %.1f s, of two %.1f, random %.1f", least, two, random)
	}
	two, least = play(TwoChoices(), 30), play(Least(), 30)
	if !(two < least && least > random) {
		t.Errorf("counts 30 s old: least of all %.1f s, of two %.1f, random %.1f", least, two, random)
	}
}

func TestEqualCellsGiveEqualResults(t *testing.T) {
	c := Cell{Fleet: Seed4(), Load: 0.8, Rule: Mesh("mesh", router.Select), Requests: 300, Seed: 7, Loss: 0.2}
	a, b := Run(c), Run(c)
	if !slices.Equal(a.completion, b.completion) {
		t.Error("two runs of one cell differ")
	}
	c.Seed = 8
	if slices.Equal(a.completion, Run(c).completion) {
		t.Error("another seed changes nothing")
	}
}

// Every request gets its answer, also when a machine dies under it.
func TestNothingIsLost(t *testing.T) {
	for _, c := range []Cell{{Dies: true}, {DiesSilent: true}, {Crowd: 20}, {Loss: 0.5}, {WrongSpeeds: 0.5}, {NoLengths: true}, {Bursts: true}} {
		c.Fleet, c.Load, c.Rule, c.Requests = Unequal16(), 0.6, Mesh("mesh", router.Select), 200
		r := Run(c)
		if len(r.completion) != 150 {
			t.Errorf("%+v: %d of 150 answered", c, len(r.completion))
		}
		if (c.Dies || c.DiesSilent) && r.lost == 0 {
			t.Error("the machine that died did nothing")
		}
	}
}

// What a fleet can do at most is the sum of its machines where they are equal.
func TestCapacityOfEqualMachines(t *testing.T) {
	f := Equal8()
	want := 8 / f.work(f.prepared().Kinds[0], 0)
	if got := f.Capacity(); math.Abs(got-want) > 0.02*want {
		t.Errorf("capacity %.3f/s, want %.3f", got, want)
	}
}
