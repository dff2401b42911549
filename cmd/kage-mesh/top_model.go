package main

import (
	"cmp"
	"slices"
	"strings"
	"time"

	tea "charm.land/bubbletea/v2"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/admin"
)

// topModel is all that the view shows. It is a value: Update returns the next
// one, and neither it nor View knows of a network or a clock.
type topModel struct {
	paint         paint
	width, height int

	picture *admin.Picture
	running []router.Record
	ended   []router.Record // newest first
	speeds  map[string]speeds
	now     time.Time // of the last tick
	beats   int       // ticks so far, for what moves
	lost    time.Time // since when the node does not answer; zero while it does

	order int // of topOrders
	first int // index of the first node shown
}

// topTick is the passing of a second.
type topTick time.Time

// topLost says that the stream of events broke.
type topLost struct{}

const (
	topEnded  = 64 // ended requests that are kept
	topSpeeds = 64 // seconds of a sparkline that are kept
	// topWindow is what a speed is the mean over, in ticks: reports of a node
	// come about once a second, so that less would show their rhythm.
	topWindow = 3
)

// topOrders are the orders of nodes that the key s goes through.
var topOrders = []string{"name", "load", "tok/s"}

func newTopModel(p paint, now time.Time) topModel {
	return topModel{paint: p, width: 80, height: 24, now: now, speeds: map[string]speeds{}}
}

// Init is part of [tea.Model].
func (m topModel) Init() tea.Cmd { return nextTopTick() }

func nextTopTick() tea.Cmd {
	return tea.Tick(time.Second, func(t time.Time) tea.Msg { return topTick(t) })
}

// Update is part of [tea.Model].
func (m topModel) Update(msg tea.Msg) (tea.Model, tea.Cmd) {
	switch msg := msg.(type) {
	case tea.KeyPressMsg:
		return m.key(msg.String())
	case tea.WindowSizeMsg:
		m.width, m.height = msg.Width, msg.Height
	case admin.Event:
		m = m.event(msg)
	case topLost:
		if m.lost.IsZero() {
			m.lost = m.now
		}
	case topTick:
		return m.tick(time.Time(msg)), nextTopTick()
	}
	return m, nil
}

func (m topModel) key(name string) (tea.Model, tea.Cmd) {
	switch name {
	case "q", "esc", "ctrl+c":
		return m, tea.Quit
	case "s":
		m.order = (m.order + 1) % len(topOrders)
	case "up", "k":
		m.first--
	case "down", "j":
		m.first++
	case "pgup":
		m.first -= m.room().nodes
	case "pgdown", "space":
		m.first += m.room().nodes
	case "home", "g":
		m.first = 0
	case "end", "G":
		m.first = len(m.nodes())
	}
	m.first = m.top()
	return m, nil
}

func (m topModel) event(e admin.Event) topModel {
	m.lost = time.Time{}
	if e.Picture != nil {
		m.picture = e.Picture
	}
	if e.Requests != nil {
		m.running = e.Requests.Running
		known := make(map[string]bool, len(m.ended))
		for _, r := range m.ended {
			known[r.ID] = true
		}
		fresh := slices.DeleteFunc(slices.Clone(e.Requests.Ended), func(r router.Record) bool { return known[r.ID] })
		m.ended = append(fresh, m.ended...)
		m.ended = m.ended[:min(len(m.ended), topEnded)]
	}
	return m
}

// tick takes a sample of what each node has written.
func (m topModel) tick(now time.Time) topModel {
	m.beats++
	took := now.Sub(m.now)
	m.now = now
	if m.picture == nil || took <= 0 {
		return m
	}
	next := make(map[string]speeds, len(m.picture.Members))
	for i := range m.picture.Members {
		n := &m.picture.Members[i]
		next[n.ID] = m.speeds[n.ID].add(n.Written, took)
	}
	m.speeds = next
	return m
}

// nodes are the members to show, in order. Those that left are history.
func (m topModel) nodes() []admin.PictureMember {
	if m.picture == nil {
		return nil
	}
	out := slices.DeleteFunc(slices.Clone(m.picture.Members), func(n admin.PictureMember) bool { return n.Status == "left" })
	slices.SortStableFunc(out, func(a, b admin.PictureMember) int {
		by := 0
		switch topOrders[m.order] {
		case "load":
			by = cmp.Compare(b.Running+b.Waiting, a.Running+a.Waiting)
		case "tok/s":
			by = cmp.Compare(m.speeds[b.ID].now(), m.speeds[a.ID].now())
		}
		return cmp.Or(by, strings.Compare(a.Name, b.Name))
	})
	return out
}

// speeds is what a node has written per second, oldest first.
type speeds struct {
	known  bool
	last   uint64    // the counter at the last sample
	raw    []float64 // of the last topWindow samples
	smooth []float64 // means over topWindow
}

// add takes the counter's next value. It is one of the node's process: when it
// fell the node has begun anew.
func (s speeds) add(written uint64, took time.Duration) speeds {
	rate := 0.0
	if s.known && written >= s.last {
		rate = float64(written-s.last) / took.Seconds()
	}
	s.known, s.last = true, written
	s.raw = append(slices.Clone(s.raw), rate)
	s.raw = s.raw[max(0, len(s.raw)-topWindow):]
	sum := 0.0
	for _, r := range s.raw {
		sum += r
	}
	s.smooth = append(slices.Clone(s.smooth), sum/float64(len(s.raw)))
	s.smooth = s.smooth[max(0, len(s.smooth)-topSpeeds):]
	return s
}

func (s speeds) now() float64 {
	if len(s.smooth) == 0 {
		return 0
	}
	return s.smooth[len(s.smooth)-1]
}
