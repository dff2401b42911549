package main

import (
	"cmp"
	"fmt"
	"strings"
	"time"

	tea "charm.land/bubbletea/v2"
	"github.com/charmbracelet/x/ansi"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/admin"
)

// View is part of [tea.Model].
func (m topModel) View() tea.View {
	v := tea.NewView(strings.Join(m.lines(), "\n"))
	v.AltScreen = true
	v.WindowTitle = "kage-mesh top"
	return v
}

// room is how many lines the nodes and the requests get.
type room struct{ nodes, requests int }

// room shares the window: a heading, two tables' heads, two blank lines and the
// keys are fixed; requests have six lines if there are that many, nodes the
// rest.
func (m topModel) room() room {
	free := max(m.height-6, 2)
	nodes, requests := len(m.nodes()), len(m.running)+len(m.ended)
	r := room{requests: min(requests, max(6, free-nodes))}
	r.requests = max(1, min(r.requests, free-1))
	r.nodes = min(nodes, max(1, free-r.requests))
	return r
}

// lines is all that the window shows: the page and, at its foot, the keys.
func (m topModel) lines() []string {
	out := m.page()
	for len(out) < m.height-1 {
		out = append(out, "")
	}
	out = out[:max(0, min(len(out), m.height-1))]
	return append(out, ansi.Truncate(m.paint.dim(m.keys()), m.width, "…"))
}

// page is the mesh and its requests, no line wider than the window.
func (m topModel) page() []string {
	var out []string
	add := func(line string) { out = append(out, ansi.Truncate(strings.TrimRight(line, " "), m.width, "…")) }
	add(m.headline())
	if m.picture == nil {
		return out
	}
	add("")
	c := columnsOf(m.width)
	add(m.paint.dim(c.head()))
	nodes, r := m.nodes(), m.room()
	first := m.top()
	for i := range nodes[first : first+r.nodes] {
		add(m.node(c, &nodes[first+i]))
	}
	add("")
	add(m.paint.dim(m.requestsHead()))
	requests := append(append([]router.Record{}, m.running...), m.ended...)
	for i := range min(r.requests, len(requests)) {
		add(m.request(&requests[i]))
	}
	if len(requests) == 0 {
		add(m.paint.dim("none yet through " + m.picture.Self))
	}
	return out
}

// top is the index of the first node shown.
func (m topModel) top() int { return max(0, min(m.first, len(m.nodes())-m.room().nodes)) }

func (m topModel) headline() string {
	p := m.picture
	if p == nil {
		return "kage-mesh: asking the node …"
	}
	up, total, running, waiting, speed := 0, 0, 0, 0, 0.0
	for _, n := range m.nodes() {
		total++
		if n.Status == "alive" || n.Status == "draining" {
			up++
			running += n.Running
			waiting += n.Waiting
			speed += m.speeds[n.ID].now()
		}
	}
	state := m.paint.verdict(p.Health)
	if !m.lost.IsZero() {
		state = m.paint.red(fmt.Sprintf("NO NEWS FOR %s", m.now.Sub(m.lost).Round(time.Second)))
	}
	return fmt.Sprintf("kage-mesh %s · %s · %d/%d nodes up · %d running · %d waiting · %s tok/s",
		p.Cluster, state, up, total, running, waiting, short(speed))
}

// columns are the widths of the nodes' table.
type columns struct{ name, bar, spark, models int }

// columnsOf gives a wider window to names, then to bars, sparklines and models.
func columnsOf(width int) columns {
	c := columns{name: 12, bar: 8, spark: 10}
	const fixed = 2 + 1 + 1 + 14 + 1 + 5 + 1 + 6 + 1 + 1 // mark, amount, run, tok/s and gaps
	more := max(0, width-fixed-c.name-c.bar-c.spark-16)
	grow := func(into *int, most int) {
		n := min(more, most-*into)
		*into, more = *into+n, more-n
	}
	grow(&c.name, 16)
	grow(&c.bar, 20)
	grow(&c.spark, 30)
	grow(&c.name, 24)
	c.models = max(0, width-fixed-c.name-c.bar-c.spark)
	return c
}

func (c columns) head() string {
	return fmt.Sprintf("  %-*s %-*s %-14s %5s %6s %-*s %s", c.name, "NODE", c.bar, "MEMORY", "  used/all GiB", "RUN", "TOK/S", c.spark, "", "IN MEMORY")
}

func (m topModel) node(c columns, n *admin.PictureMember) string {
	mark, colour := m.mark(n)
	up := n.Status == "alive" || n.Status == "draining"
	if !up || n.Silent > 0 {
		word := n.Status
		if up {
			word = fmt.Sprintf("silent %d s", n.Silent)
		} else if since, err := time.Parse(time.RFC3339, n.Since); err == nil {
			word += " " + ago(m.now.Sub(since)) + " ago"
		}
		return colour(mark) + " " + m.paint.dim(pad(n.Name, c.name)+" "+word)
	}
	flight := fmt.Sprint(n.Running)
	if n.Waiting > 0 {
		flight += fmt.Sprintf("+%d", n.Waiting)
	}
	bar, amount := m.memory(n, c.bar)
	s := m.speeds[n.ID]
	speed := "-"
	if s.now() > 0 {
		speed = short(s.now())
	}
	return colour(mark) + " " + pad(n.Name, c.name) + " " + bar + " " + pad(amount, 14) + " " +
		fmt.Sprintf("%5s %6s ", flight, speed) + m.paint.cyan(pad(sparkline(s.smooth, c.spark), c.spark)) + " " +
		pad(held(n), c.models)
}

// mark is a node's state as a sign, with the colour that repeats it.
func (m topModel) mark(n *admin.PictureMember) (sign string, colour func(string) string) {
	switch {
	case n.Status == "failed":
		return "✗", m.paint.red
	case n.Silent > 0, n.Status == "draining", !n.Serving && n.Role != "router":
		return "!", m.paint.yellow
	}
	return "✓", m.paint.green
}

// memory is the bar of the memory that decides what fits, the GPU's where there
// is one: what models take, what else is taken, what is free.
func (m topModel) memory(n *admin.PictureMember, width int) (bar, amount string) {
	kind, total, free := "ram", n.RAMTotal, n.RAMFree
	if n.VRAMTotal > 0 {
		kind, total, free = "gpu", n.VRAMTotal, n.VRAMFree
	}
	if total == 0 {
		return strings.Repeat(" ", width), "memory unknown"
	}
	models := uint64(0)
	for _, h := range n.Held {
		switch {
		case kind == "gpu" && !n.Unified:
			models += h.SizeVRAM
		default:
			models += h.Size
		}
	}
	models = min(models, total)
	used := models
	if free > 0 {
		used = max(models, total-min(free, total))
	}
	cells := func(b uint64) int { return int((float64(b)/float64(total))*float64(width) + 0.5) }
	full, other := cells(models), cells(used)
	bar = m.paint.cyan(strings.Repeat("█", full)) + strings.Repeat("▒", other-full) + m.paint.dim(strings.Repeat("░", width-other))
	const gib = 1 << 30
	return bar, fmt.Sprintf("%s %s/%s", kind, short(float64(used)/gib), short(float64(total)/gib))
}

// held lists what is in memory; what runs has its number behind it.
func held(n *admin.PictureMember) string {
	var out []string
	if n.Status == "draining" {
		out = append(out, "draining:")
	}
	for _, h := range n.Held {
		text := h.Name
		switch {
		case h.Loading:
			text += " loading"
		case h.Running > 0:
			text += fmt.Sprintf("×%d", h.Running)
		}
		out = append(out, text)
	}
	if len(out) == 0 {
		if n.Ollama == "" && n.Role != "router" {
			return "no Ollama"
		}
		return "-"
	}
	return strings.Join(out, " ")
}

// requestColumns are the widths of model and node in the requests' table.
func (m topModel) requestColumns() (model, node int) {
	more := max(0, m.width-80)
	return 17 + more/2, 13 + min(more/4, 11)
}

func (m topModel) requestsHead() string {
	model, node := m.requestColumns()
	return fmt.Sprintf("%-8s %-*s %-*s %6s %6s %6s %s", "REQUEST", model, "MODEL", node+3, "   NODE", "TTFT", "TOK/S", "TOOK", " OUTCOME")
}

func (m topModel) request(r *router.Record) string {
	model, node := m.requestColumns()
	speed := "-"
	if r.Rate > 0 {
		speed = short(r.Rate)
	}
	arrow, outcome := "  ", " "+string(r.Outcome)
	took := r.Took
	if r.Outcome == "" {
		arrow, outcome = m.flow(r), " running"
		if r.First == 0 {
			outcome = " waiting"
		}
		took = max(took, m.now.Sub(r.Start).Seconds())
	}
	if r.Continued > 0 {
		outcome += " (continued)"
	} else if n := len(r.Attempts); n > 1 {
		outcome += fmt.Sprintf(" (%d tries)", n)
	}
	line := fmt.Sprintf("%-8s %s %s %s %6s %6s %6s", r.Start.Local().Format(time.TimeOnly), pad(cmp.Or(r.Model, "-"), model),
		arrow, pad(cmp.Or(r.Owner, "-"), node), seconds(r.First), speed, seconds(took))
	switch r.Outcome {
	case "":
		return m.paint.cyan(line + outcome)
	case router.OutcomeOK:
		return line + outcome
	case router.OutcomeClientGone:
		return line + m.paint.dim(outcome)
	}
	return line + m.paint.yellow(outcome)
}

// flow is an arrow that moves while tokens do.
func (m topModel) flow(r *router.Record) string {
	if r.First == 0 {
		return "… "
	}
	return []string{"▸▹", "▹▸"}[m.beats%2]
}

func (m topModel) keys() string {
	line := "q quit · s order: " + topOrders[m.order]
	if shown, all := m.room().nodes, len(m.nodes()); shown < all {
		line += fmt.Sprintf(" · ↑↓ nodes %d-%d of %d", m.top()+1, m.top()+shown, all)
	}
	return line
}

// pad makes text exactly as wide as a column.
func pad(text string, width int) string {
	text = ansi.Truncate(text, width, "…")
	return text + strings.Repeat(" ", max(0, width-ansi.StringWidth(text)))
}

// sparkline draws the newest values, at most width, against their own largest.
func sparkline(values []float64, width int) string {
	values = values[max(0, len(values)-width):]
	most := 0.0
	for _, v := range values {
		most = max(most, v)
	}
	if most == 0 {
		return ""
	}
	ticks := []rune("▁▂▃▄▅▆▇█")
	out := make([]rune, len(values))
	for i, v := range values {
		out[i] = ticks[min(int(v/most*float64(len(ticks))), len(ticks)-1)]
	}
	return string(out)
}

// short keeps three figures or so: 0.4, 9.7, 48, 112.
func short(n float64) string {
	if n > 0 && n < 99.95 {
		return fmt.Sprintf("%.1f", n)
	}
	return fmt.Sprintf("%.0f", n)
}

func seconds(s float64) string {
	switch {
	case s == 0:
		return "-"
	case s < 1:
		return fmt.Sprintf("%.0fms", s*1000)
	case s < 100:
		return fmt.Sprintf("%.1fs", s)
	}
	return fmt.Sprintf("%.0fs", s)
}

// ago is a span in its largest unit.
func ago(d time.Duration) string {
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%.0f s", max(0, d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%.0f min", d.Minutes())
	}
	return fmt.Sprintf("%.0f h", d.Hours())
}
