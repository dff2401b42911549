package doctor

import (
	"fmt"
	"slices"
	"strings"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh/hardware"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/admin"
)

// Runner is a node and the model that it is tried with.
type Runner struct {
	Node  string `json:"node"`
	Model string `json:"model"`
}

// Runners picks the smallest model of each node: one that all of them have, if
// there is one, so that the nodes can be compared.
func Runners(m admin.Models) (out []Runner) {
	usable := func(row admin.ModelRow, node string) bool {
		spot := row.On[node]
		return !row.Cloud && !row.Embeds && spot.OnDisk && spot.Fits > hardware.None
	}
	smallest := func(ok func(admin.ModelRow) bool) (name string) {
		var best uint64
		for _, row := range m.Models {
			if ok(row) && (name == "" || row.Size < best) {
				name, best = row.Name, row.Size
			}
		}
		return name
	}
	common := smallest(func(row admin.ModelRow) bool {
		return !slices.ContainsFunc(m.Nodes, func(n admin.ModelNode) bool { return !usable(row, n.Name) })
	})
	for _, n := range m.Nodes {
		name := common
		if name == "" {
			name = smallest(func(row admin.ModelRow) bool { return usable(row, n.Name) })
		}
		if name != "" {
			out = append(out, Runner{n.Name, name})
		}
	}
	return out
}

// Rate is what one node did: tokens per second of the whole request, by the
// clock of who asked.
type Rate struct {
	Runner
	Alone    float64 `json:"alone"`
	Together float64 `json:"together"`
	Error    string  `json:"error,omitempty"`
}

// Comparison is the outcome of one request per node, first each alone and then
// all at once.
type Comparison struct {
	Rates    []Rate  `json:"rates"`
	Alone    float64 `json:"alone"`    // sum of the rates alone
	Together float64 `json:"together"` // sum of the rates at once
	Share    float64 `json:"share"`    // Together of Alone; 1 is no loss at all
	SpeedUp  float64 `json:"speed_up"` // Together against the fastest node alone
}

// enough is the share of the sum of the nodes' own rates that a mesh must
// reach.
const enough = 0.9

// Compare sums up, and says what it means.
func Compare(rates []Rate) (Comparison, []Finding) {
	c := Comparison{Rates: rates}
	var out []Finding
	var best float64
	nodes := 0
	for _, r := range rates {
		if r.Error != "" {
			f := failed("kage-mesh explain "+r.Model, "A small request for that node only had no answer.", "%s (%s): %s", r.Node, r.Model, r.Error)
			f.On = ""
			out = append(out, f)
			continue
		}
		nodes++
		c.Alone += r.Alone
		c.Together += r.Together
		best = max(best, r.Alone)
		out = append(out, passed("%s: %.1f tok/s alone, %.1f beside the others (%s)", r.Node, r.Alone, r.Together, r.Model)...)
	}
	switch {
	case len(rates) == 0:
		out = append(out, warning("kage-mesh models diff", "There is nothing to measure.", "no node has a model that it can run"))
	case nodes > 0 && c.Alone > 0:
		c.Share, c.SpeedUp = c.Together/c.Alone, c.Together/best
		text := fmt.Sprintf("%d at once: %.1f of %.1f tok/s (%.0f %%), %.2f times the fastest alone", nodes, c.Together, c.Alone, 100*c.Share, c.SpeedUp)
		if c.Share < enough {
			slowest := slices.MinFunc(rates, func(a, b Rate) int { return strings.Compare(share(a), share(b)) })
			w := warning("kage-mesh members   # is "+slowest.Node+" busy for somebody else, or one machine with another node?",
				"Nodes that are machines of their own do not slow each other.", "%s; %s lost most", text, slowest.Node)
			out = append(out, w)
		} else {
			out = append(out, passed("%s", text)...)
		}
	}
	for i := range out {
		out[i].Check, out[i].Scope = "parallel", Parallel
	}
	Sort(out)
	return c, out
}

// share orders nodes by what was left of their rate.
func share(r Rate) string {
	if r.Error != "" || r.Alone <= 0 {
		return "9"
	}
	return fmt.Sprintf("%.6f", min(r.Together/r.Alone, 8))
}
