package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"golang.org/x/term"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh/hardware"
)

// bars shows a pull's progress: on a terminal one line for each layer that
// moves in place, elsewhere one line for each new step.
type bars struct {
	w        io.Writer
	terminal bool
	width    int
	model    string
	lines    []bar
	drawn    int       // lines on the terminal
	at       time.Time // of the last drawing
	said     map[string]bool
}

// bar is one line: a status, or a layer with its bytes.
type bar struct {
	name        string
	done, total int64
	began       time.Time
	from        int64 // bytes that were there when it began
}

// drawEvery bounds how often a terminal is written to.
const drawEvery = 100 * time.Millisecond

func (e environment) newBars(model string) *bars {
	b := &bars{w: e.stderr, model: model, width: 80, said: make(map[string]bool)}
	if f, ok := e.stderr.(*os.File); ok && term.IsTerminal(int(f.Fd())) && e.getenv("TERM") != "dumb" {
		b.terminal = true
		if w, _, err := term.GetSize(int(f.Fd())); err == nil && w > 0 {
			b.width = w
		}
	}
	return b
}

// show takes a line of progress in.
func (b *bars) show(l pullLine) {
	if l.Error != "" || l.Status == "" {
		return // the result says it
	}
	if l.Digest == "" {
		b.set(l.Status, 0, 0)
	} else {
		short := strings.TrimPrefix(l.Digest, "sha256:")
		short = short[:min(12, len(short))]
		if len(l.Nodes) == 0 {
			b.set("pulling "+short, l.Completed, l.Total)
		}
		for _, n := range l.Nodes {
			b.set("pulling "+short+" on "+n.Node, n.Completed, n.Total)
		}
	}
	if b.terminal && time.Since(b.at) >= drawEvery {
		b.draw()
	}
}

func (b *bars) set(name string, done, total int64) {
	if !b.terminal {
		if !b.said[name] {
			b.said[name] = true
			fmt.Fprintf(b.w, "%s: %s\n", b.model, name)
		}
		return
	}
	for i := range b.lines {
		if b.lines[i].name == name {
			b.lines[i].done, b.lines[i].total = done, total
			return
		}
	}
	b.lines = append(b.lines, bar{name: name, done: done, total: total, began: time.Now(), from: done})
}

// draw writes all lines over those drawn before.
func (b *bars) draw() {
	b.at = time.Now()
	var out strings.Builder
	if b.drawn > 0 {
		fmt.Fprintf(&out, "\x1b[%dA", b.drawn)
	}
	for _, l := range b.lines {
		out.WriteString("\x1b[2K" + l.text(b.width, b.at) + "\n")
	}
	b.drawn = len(b.lines)
	_, _ = io.WriteString(b.w, out.String())
}

func (b *bars) end() {
	if b.terminal {
		b.draw()
	}
}

// text is the line in at most width columns.
func (l bar) text(width int, now time.Time) string {
	if l.total <= 0 {
		return clip(l.name, width)
	}
	share := min(1, float64(l.done)/float64(l.total))
	right := fmt.Sprintf(" %3.0f%% %s/%s", share*100, hardware.FormatSize(uint64(max(l.done, 0))), hardware.FormatSize(uint64(l.total)))
	if took := now.Sub(l.began).Seconds(); took > 0.5 && l.done > l.from && l.done < l.total {
		right += " " + hardware.FormatSize(uint64(float64(l.done-l.from)/took)) + "/s"
	}
	room := width - len(l.name) - len(right) - 4 // brackets, a blank, the last column
	if room < 5 {
		return clip(l.name+right, width)
	}
	full := int(share * float64(room))
	return l.name + " [" + strings.Repeat("#", full) + strings.Repeat(" ", room-full) + "]" + right
}

// clip keeps a line on one line; the last column is left free, because some
// terminals wrap at it.
func clip(s string, width int) string {
	if r := []rune(s); len(r) >= width {
		return string(r[:max(width-1, 0)])
	}
	return s
}
