package sim

import (
	"fmt"
	"io"
	"math"
	"runtime"
	"strings"
	"sync"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router"
)

// Loads are the columns of the tables.
var Loads = []float64{0.3, 0.6, 0.8, 0.95}

// Rules are the rows.
func Rules() []Rule {
	return []Rule{
		Clairvoyant(), Central(router.Select), Mesh("**kage-mesh**", router.Select), Mesh("expected completion", router.Completion),
		Nginx(), RoundRobin(), Random(), TwoChoices(), Prober(),
	}
}

// sum is what several seeds of a cell came to.
type sum struct {
	mean, p99, first, loads, herd float64
	means                         []float64 // by seed
	grows                         bool
}

// play runs each cell with each of the seeds, on all cores.
func play(cells []Cell, seeds int) []sum {
	results := make([][]*Result, len(cells))
	var wait sync.WaitGroup
	cores := make(chan struct{}, runtime.GOMAXPROCS(0))
	for i := range cells {
		results[i] = make([]*Result, seeds)
		for k := range seeds {
			cores <- struct{}{}
			wait.Go(func() {
				defer func() { <-cores }()
				c := cells[i]
				c.Seed = uint64(k + 1)
				results[i][k] = Run(c)
			})
		}
	}
	wait.Wait()
	sums := make([]sum, len(cells))
	for i, rs := range results {
		s, n, grew := &sums[i], float64(seeds), 0
		for _, r := range rs {
			s.mean += r.Mean() / n
			s.means = append(s.means, r.Mean())
			s.p99 += r.Quantile(0.99) / n
			s.first += r.First(0.5) / n
			s.loads += r.Loads() / n
			s.herd += r.Herd() / n
			if r.Grows() {
				grew++
			}
		}
		s.grows = 2*grew > seeds
	}
	return sums
}

// Compare prints how the rules do on a fleet, as multiples of the clairvoyant's
// mean completion time (and 99th percentile).
func Compare(w io.Writer, f Fleet, requests, seeds int) {
	rate := f.Capacity()
	rules := Rules()
	var cells []Cell
	for _, rule := range rules {
		for _, l := range Loads {
			cells = append(cells, Cell{Fleet: f, Load: l, Rule: rule, Requests: requests, Seed: 1})
		}
	}
	sums := play(cells, seeds)
	at := func(rule, load int) *sum { return &sums[rule*len(Loads)+load] }
	fmt.Fprintf(w, "## %s: %d machines, %d models, %.3g requests/s at load 1, %d requests, of which the first quarter is not counted, and %d seeds per cell\n\n",
		f.Name, len(f.Kinds), len(f.Models), rate, requests, seeds)
	fmt.Fprintln(w, "Mean completion time (99th percentile) as a multiple of the clairvoyant's. U: the last third took more than three times as long as the first.")
	fmt.Fprintln(w)
	row(w, "rule", func(l int) string { return fmt.Sprintf("load %.0f %%", 100*Loads[l]) })
	row(w, "---", func(int) string { return "---" })
	for i, rule := range rules {
		row(w, rule.Name, func(l int) string {
			s, c := at(i, l), at(0, l)
			text := fmt.Sprintf("%.3g (%.3g)", s.mean/c.mean, s.p99/c.p99)
			if s.grows {
				text = "U " + text
			}
			return text
		})
	}
	fmt.Fprintf(w, "\nAbsolute, seconds: mean / 99th percentile / median time to first token; loads per 1,000 requests.\n\n")
	row(w, "rule", func(l int) string { return fmt.Sprintf("load %.0f %%", 100*Loads[l]) })
	row(w, "---", func(int) string { return "---" })
	for i, rule := range rules {
		row(w, rule.Name, func(l int) string {
			s := at(i, l)
			return fmt.Sprintf("%.3g / %.3g / %.2g; %.0f", s.mean, s.p99, s.first, s.loads)
		})
	}
	fmt.Fprintln(w, "\nkage-mesh against perfect information, the clairvoyant and nginx:")
	fmt.Fprintln(w)
	row(w, "", func(l int) string { return fmt.Sprintf("load %.0f %%", 100*Loads[l]) })
	row(w, "---", func(int) string { return "---" })
	for _, other := range []struct {
		name string
		rule int
	}{{"over perfect information", 1}, {"over the clairvoyant", 0}, {"over nginx", 4}} {
		row(w, other.name, func(l int) string {
			s, o := at(2, l), at(other.rule, l)
			return fmt.Sprintf("mean %.3f, p99 %.3f", s.mean/o.mean, s.p99/o.p99)
		})
	}
	fmt.Fprintln(w)
}

// ratio is how many times as long as in other cells with the same seeds requests
// take, and the standard error of that, seed by seed: the ratio estimator of
// Cochran, Sampling Techniques (1977), 2.11. NaN error: one seed.
func ratio(means, others []float64) (r, standardError float64) {
	n := float64(len(means))
	r = mean(means) / mean(others)
	for i, m := range means {
		d := m - r*others[i]
		standardError += d * d
	}
	return r, math.Sqrt(standardError/(n*(n-1))) / mean(others)
}

func row(w io.Writer, name string, cell func(int) string) {
	fmt.Fprintf(w, "| %s |", name)
	for l := range Loads {
		fmt.Fprintf(w, " %s |", cell(l))
	}
	fmt.Fprintln(w)
}

// disturbance is something that a rule must stand.
type disturbance struct {
	name  string
	do    func(*Cell)
	calm  int  // number of the row that it is compared with
	alike bool // the clairvoyant meets it, too: it is in what is asked, not in what is known
}

var disturbances = []disturbance{
	{"nothing", func(*Cell) {}, 0, true},
	{"speeds wrong by up to 50 %, for good", func(c *Cell) { c.WrongSpeeds = 0.5 }, 0, false},
	{"gossip every 2 s, 20 % lost", func(c *Cell) { c.Gossip, c.Loss = 2, 0.2 }, 0, false},
	{"answer lengths unknown, and as guessed", func(c *Cell) { c.NoLengths = true }, 0, false},
	{"answers three times as long", func(c *Cell) { c.Answers = 3 }, 4, true},
	{"the same, and guessed at a third", func(c *Cell) { c.Answers, c.NoLengths = 3, true }, 4, false},
	{"answers a third as long", func(c *Cell) { c.Answers = 1.0 / 3 }, 6, true},
	{"the same, and guessed at three times", func(c *Cell) { c.Answers, c.NoLengths = 1.0/3, true }, 6, false},
	{"all traffic at one entry", func(c *Cell) { c.OneEntry = true }, 0, false},
	{"arrivals in clumps", func(c *Cell) { c.Bursts = true }, 0, true},
	{"flash crowd: 20 s at five times the rate", func(c *Cell) { c.Crowd = 20 }, 0, true},
	{"a machine dies, back after 60 s", func(c *Cell) { c.Dies = true }, 0, false},
	{"a machine is unplugged, back after 60 s", func(c *Cell) { c.DiesSilent = true }, 0, false},
}

// Robust prints what disturbances make of kage-mesh at 80 % load, and of the
// clairvoyant where they are in the arrivals.
func Robust(w io.Writer, f Fleet, requests, seeds int) {
	f.Capacity()
	var cells []Cell
	for _, rule := range []Rule{Mesh("kage-mesh", router.Select), Clairvoyant()} {
		for _, d := range disturbances {
			c := Cell{Fleet: f, Load: 0.8, Rule: rule, Requests: requests}
			if rule.choose == nil || d.alike {
				d.do(&c)
			} else {
				c.Requests = 40 // not shown
			}
			cells = append(cells, c)
		}
	}
	sums := play(cells, seeds)
	fmt.Fprintf(w, "## Disturbances: %s at 80 %% load, %d requests and %d seeds per cell\n\n", f.Name, requests, seeds)
	fmt.Fprintln(w, "Beside it the clairvoyant, where the disturbance is in the arrivals: what is theirs, and what is the rule's. ±: standard error, by seeds.")
	fmt.Fprintln(w)
	fmt.Fprintln(w, "| disturbance | mean s | p99 s | over undisturbed: mean | p99 | clairvoyant: mean s | over undisturbed: mean | p99 |")
	fmt.Fprintln(w, "| --- | --- | --- | --- | --- | --- | --- | --- |")
	for i, d := range disturbances {
		s, calm := sums[i], sums[d.calm]
		fmt.Fprintf(w, "| %s | %.3g | %.3g | %s | %.2f |", d.name, s.mean, s.p99, over(&s, &calm), s.p99/calm.p99)
		if c, calm := sums[len(disturbances)+i], sums[len(disturbances)+d.calm]; d.alike {
			fmt.Fprintf(w, " %.3g | %s | %.2f |\n", c.mean, over(&c, &calm), c.p99/calm.p99)
		} else {
			fmt.Fprintln(w, " | | |")
		}
	}
	fmt.Fprintln(w)
}

// over writes the ratio of two cells' means; that of a cell to itself is exact.
func over(s, calm *sum) string {
	r, e := ratio(s.means, calm.means)
	if e == 0 {
		return fmt.Sprintf("%.2f", r)
	}
	return fmt.Sprintf("%.2f ± %.2f", r, e)
}

// Herding prints how evenly requests are spread where machines are equal.
func Herding(w io.Writer, requests, seeds int) {
	f := Equal8()
	f.Capacity()
	rules := []Rule{Mesh("**kage-mesh**", router.Select), Clairvoyant(), TwoChoices(), Least(), RoundRobin(), Random()}
	var cells []Cell
	for _, r := range rules {
		for _, l := range Loads {
			cells = append(cells, Cell{Fleet: f, Load: l, Rule: r, Requests: requests})
		}
	}
	sums := play(cells, seeds)
	fmt.Fprintf(w, "## Herding: eight equal machines, gossip every second, %d requests and %d seeds per cell\n\n", requests, seeds)
	fmt.Fprintln(w, "Most requests at one machine over the mean of all, on average over the moments with at least one per machine; mean completion s.")
	fmt.Fprintln(w)
	row(w, "rule", func(l int) string { return fmt.Sprintf("load %.0f %%", 100*Loads[l]) })
	row(w, "---", func(int) string { return "---" })
	for i, r := range rules {
		row(w, r.Name, func(l int) string {
			s := sums[i*len(Loads)+l]
			return strings.TrimPrefix(fmt.Sprintf("%.2f; %.3g s", s.herd, s.mean), "NaN; ")
		})
	}
	fmt.Fprintln(w)
}
