package compare

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// WriteReport writes README.md, the plots and results.json into dir.
func WriteReport(dir string, r *Results) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	data, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		return err
	}
	files := map[string][]byte{"results.json": append(data, '\n'), "README.md": []byte(Markdown(r))}
	for _, p := range plots {
		if svg := p.draw(r); svg != "" {
			files[p.file] = []byte(svg)
		}
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// column is one column of a table: a metric as it is, over that of another
// way, or less that of direct.
type column struct {
	title  string
	metric string
	base   string // ratio to this way; "" the figure itself
	added  bool   // less direct's
	format string
}

// table is one scenario's table; one for each of its cases.
type table struct {
	scenario, title string
	intro           string
	columns         []column
}

var tables = []table{
	{Small, "Small requests", "`POST /api/generate`, 8 tokens, not streamed, closed loop; in the open loop a latency counts from when its request was due. " +
		"CPU is that of all processes of the way, per 10,000 requests.", []column{
		{"requests/s", "rps", "", false, "%.0f"},
		{"over nginx", "rps", Nginx, false, "%.2f"},
		{"p50 added, us", "p50", "", true, "%.0f"},
		{"p99 added, us", "p99", "", true, "%.0f"},
		{"CPU s/10k", "cpu", "", false, "%.2f"},
		{"CPU over nginx", "cpu", Nginx, false, "%.2f"},
		{"others' share of the machine, %", "foreign", "", false, "%.0f"},
	}},
	{Streamed, "Streams", "Transit is a token's way from the backend's write to the client. CPU is per million tokens. " +
		"Memory is what all processes of the way hold together while all streams run (PSS).", []column{
		{"tok/s", "tps", "", false, "%.0f"},
		{"over nginx", "tps", Nginx, false, "%.2f"},
		{"first token p50 added, us", "first", "", true, "%.0f"},
		{"transit p50, us", "transit", "", false, "%.0f"},
		{"over nginx", "transit", Nginx, false, "%.2f"},
		{"transit p99, us", "transit99", "", false, "%.0f"},
		{"gap p99 added, us", "gap99", "", true, "%.0f"},
		{"CPU s/1M tok", "cpu", "", false, "%.1f"},
		{"over nginx", "cpu", Nginx, false, "%.2f"},
		{"memory, MiB", "memory", "", false, "%.0f"},
		{"failed", "failed", "", false, "%.0f"},
	}},
	{Faults, "Dead, dying and returning backends", "Failed counts answers that were not whole at the client. A cut that ended cleanly is one that a client takes for whole.", []column{
		{"failed", "failed", "", false, "%.0f"},
		{"cut, yet ended cleanly", "clean", "", false, "%.0f"},
		{"p99, ms", "p99", "", false, "%.0f"},
		{"used again after, s", "back", "", false, "%.1f"},
	}},
	{Gone, "Clients that leave", "20 clients hang up at once; how long until the backend notices.", []column{
		{"median, ms", "lag", "", false, "%.1f"},
		{"worst, ms", "worst", "", false, "%.1f"},
		{"never seen, of 20", "unseen", "", false, "%.0f"},
	}},
	{Makespan, "Unequal nodes", "200 requests of 20 to 200 tokens, 16 at once, to nodes of 2 slots at 50 tok/s, 2 at 10 and 1 at 4; " +
		"the lower bound is all tokens over the sum of all slots.", []column{
		{"makespan over the lower bound", "bound", "", false, "%.2f"},
		{"mean, s", "mean", "", false, "%.1f"},
		{"p99, s", "p99", "", false, "%.1f"},
		{"failed", "failed", "", false, "%.0f"},
	}},
}

// Markdown is the report without its plots.
func Markdown(r *Results) string {
	var b strings.Builder
	fmt.Fprintf(&b, "# kage-mesh side by side\n\nWritten by `make bench`; the samples are in `results.json`.\n\n")
	fmt.Fprintf(&b, "Machine: %s. Load average at the end of the run: %s. Everything (clients, proxies, backends) shares these cores, on loopback, ", r.Machine, r.LoadAverage)
	fmt.Fprintf(&b, "so requests per second are of the whole chain; CPU seconds are the figure that noise disturbs least.\n\n")
	fmt.Fprintf(&b, "Figures are medians of %d repeats with quartiles in brackets; ratios are taken inside a repeat. In each repeat the ways take their turns in a new random order.\n\n", r.Repeats)
	fmt.Fprintf(&b, "One hop: the client's node has the Ollama that answers. Two hops: the client's node has none and forwards over mTLS to the owner; every request crosses. ")
	fmt.Fprintf(&b, "Mesh: a node beside each Ollama, clients spread over all, each request goes where the mesh thinks best.\n")
	if len(r.Missing) > 0 {
		fmt.Fprintf(&b, "\nNot measured: %s.\n", strings.Join(r.Missing, "; "))
	}
	if text := r.Notes; text != "" {
		fmt.Fprintf(&b, "\n%s\n", text)
	}
	for _, t := range tables {
		cases := r.cases(t.scenario)
		if len(cases) == 0 {
			continue
		}
		fmt.Fprintf(&b, "\n## %s\n\n%s\n", t.title, t.intro)
		for _, p := range plots {
			if p.scenario == t.scenario {
				fmt.Fprintf(&b, "\n![%s](%s)\n", p.title, p.file)
			}
		}
		for _, c := range cases {
			fmt.Fprintf(&b, "\n### %s\n\n%s", c, t.markdown(r, c))
		}
	}
	return b.String()
}

func (t table) markdown(r *Results, case_ string) string {
	var b strings.Builder
	var used []column
	for _, c := range t.columns {
		if slices.ContainsFunc(r.Samples, func(s Sample) bool {
			_, ok := s.Values[c.metric]
			return ok && s.Scenario == t.scenario && s.Case == case_
		}) {
			used = append(used, c)
		}
	}
	b.WriteString("| way |")
	for _, c := range used {
		b.WriteString(" " + c.title + " |")
	}
	b.WriteString(" errors |\n|---|" + strings.Repeat("---|", len(used)+1) + "\n")
	for _, target := range r.targets(t.scenario, case_) {
		b.WriteString("| " + target + " |")
		for _, c := range used {
			b.WriteString(" " + c.cell(r, t.scenario, case_, target) + " |")
		}
		b.WriteString(" " + words(r.errors(t.scenario, case_, target)) + " |\n")
	}
	return b.String()
}

func (c column) cell(r *Results, scenario, case_, target string) string {
	var f Figure
	switch {
	case c.base != "":
		f = r.Ratio(scenario, case_, target, c.base, c.metric)
	case c.added:
		f = r.Added(scenario, case_, target, Direct, c.metric)
	default:
		f = r.Figure(scenario, case_, target, c.metric)
	}
	if math.IsNaN(f.Median) {
		return "-"
	}
	text := fmt.Sprintf(c.format, f.Median)
	if low, high := fmt.Sprintf(c.format, f.Low), fmt.Sprintf(c.format, f.High); f.N > 1 && low != high {
		text += " (" + low + "-" + high + ")"
	}
	return text
}

// targets lists the ways of a case, in the order of the constants.
func (r *Results) targets(scenario, case_ string) (list []string) {
	for _, s := range r.Samples {
		if s.Scenario == scenario && s.Case == case_ && !slices.Contains(list, s.Target) {
			list = append(list, s.Target)
		}
	}
	order := []string{Direct, Nginx, HAProxy, OneHop, TwoHops, Whole}
	slices.SortStableFunc(list, func(a, b string) int {
		at := func(s string) int {
			base, _, _ := strings.Cut(s, " @")
			return slices.Index(order, base)
		}
		return at(a) - at(b)
	})
	return list
}

func words(errors map[string]int) string {
	var list []string
	for k, n := range errors {
		list = append(list, fmt.Sprintf("%d %s", n, k))
	}
	if len(list) == 0 {
		return "-"
	}
	slices.Sort(list)
	return strings.Join(list, ", ")
}
