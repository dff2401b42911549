package compare

import (
	"fmt"
	"html"
	"math"
	"strings"
)

// plot is one bar chart: a metric of every way, grouped by case.
type plot struct {
	file, title     string
	scenario        string
	metric, base    string // ratio to base; "" the figure itself
	unit            string
	cases           []string // default all
	withoutBaseline bool     // leave direct out
}

var plots = []plot{
	{"small.svg", "Requests per second over nginx's (more is better)", Small, "rps", Nginx, "x", []string{"1 at once", "16 at once", "64 at once"}, true},
	{"small-cpu.svg", "CPU seconds per 10,000 requests (less is better)", Small, "cpu", "", "s", []string{"16 at once", "64 at once"}, true},
	{"streams-cpu.svg", "CPU seconds per million tokens, 500 streams (less is better)", Streamed, "cpu", "", "s", []string{"500 at 30 tok/s"}, true},
	{"streams-transit.svg", "A token's way, p50, 500 streams (less is better)", Streamed, "transit", "", "us", []string{"500 at 30 tok/s"}, false},
	{"faults.svg", "Answers lost (less is better)", Faults, "failed", "", "", []string{oneHolder, beforeFirst, midStream}, true},
	{"makespan.svg", "Makespan over the lower bound, unequal nodes (less is better)", Makespan, "bound", "", "x", nil, false},
}

const (
	barHeight = 18
	labelWide = 200
	plotWide  = 760
)

// draw is the plot as SVG; "" when nothing of it was measured.
func (p plot) draw(r *Results) string {
	cases := p.cases
	if cases == nil {
		cases = r.cases(p.scenario)
	}
	var rows strings.Builder
	y, most := 44, 0.0
	type bar struct {
		case_, target string
		f             Figure
	}
	var bars []bar
	for _, c := range cases {
		for _, t := range r.targets(p.scenario, c) {
			if p.withoutBaseline && t == Direct {
				continue
			}
			f := r.Figure(p.scenario, c, t, p.metric)
			if p.base != "" {
				f = r.Ratio(p.scenario, c, t, p.base, p.metric)
			}
			if !math.IsNaN(f.Median) {
				bars = append(bars, bar{c, t, f})
				most = max(most, f.High)
			}
		}
	}
	if len(bars) == 0 {
		return ""
	}
	if most == 0 {
		most = 1
	}
	scale := float64(plotWide-labelWide-90) / most
	last := ""
	for _, b := range bars {
		if b.case_ != last {
			y += 10
			fmt.Fprintf(&rows, `<text x="8" y="%d" font-weight="bold">%s</text>`+"\n", y+12, html.EscapeString(b.case_))
			y += 20
			last = b.case_
		}
		colour := "#8a94a6"
		if strings.HasPrefix(b.target, "kage-mesh") {
			colour = "#2b6cb0"
		}
		wide := b.f.Median * scale
		fmt.Fprintf(&rows, `<text x="%d" y="%d" text-anchor="end">%s</text>`+"\n", labelWide-8, y+12, html.EscapeString(b.target))
		fmt.Fprintf(&rows, `<rect x="%d" y="%d" width="%.1f" height="%d" fill="%s"/>`+"\n", labelWide, y, wide, barHeight-4, colour)
		fmt.Fprintf(&rows, `<line x1="%.1f" x2="%.1f" y1="%d" y2="%d" stroke="#1a202c"/>`+"\n",
			labelWide+b.f.Low*scale, labelWide+b.f.High*scale, y+(barHeight-4)/2, y+(barHeight-4)/2)
		fmt.Fprintf(&rows, `<text x="%.1f" y="%d">%.3g%s</text>`+"\n", labelWide+b.f.High*scale+6, y+12, b.f.Median, p.unit)
		y += barHeight
	}
	return fmt.Sprintf(`<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" font-family="sans-serif" font-size="12">
<rect width="100%%" height="100%%" fill="white"/>
<text x="8" y="24" font-size="15" font-weight="bold">%s</text>
<text x="8" y="42" fill="#555">median; the line spans the quartiles of the repeats</text>
%s</svg>
`, plotWide, y+12, html.EscapeString(p.title), rows.String())
}
