package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	tea "charm.land/bubbletea/v2"
	"github.com/charmbracelet/x/ansi"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh/hardware"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh/meshtest"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/admin"
)

var rewrite = flag.Bool("rewrite", false, "write what is shown now into testdata")

// noon is when the scenes take place, in whatever zone the test runs.
var noon = time.Date(2026, 3, 4, 12, 0, 0, 0, time.Local)

// golden compares text with testdata/name.
func golden(t *testing.T, name, text string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *rewrite {
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if text != string(want) {
		t.Errorf("%s: got\n%s\nwant\n%s", name, text, want)
	}
}

func topNode(name string, edit func(*admin.PictureMember)) admin.PictureMember {
	n := admin.PictureMember{Member: admin.Member{
		Name: name, ID: name, Status: "alive", Role: "gpu", Ollama: "0.33.0",
		VRAMTotal: 24 << 30, VRAMFree: 6 << 30, RAMTotal: 64 << 30, RAMFree: 50 << 30, Running: 1, Waiting: 2,
	}, Serving: true, Held: []admin.HeldModel{{Name: "qwen2.5:32b", Size: 17 << 30, SizeVRAM: 16 << 30, Running: 1}}}
	if edit != nil {
		edit(&n)
	}
	return n
}

func household() *admin.Picture {
	return &admin.Picture{Cluster: "home", Self: "attic", Health: "DEGRADED", Members: []admin.PictureMember{
		topNode("attic", func(n *admin.PictureMember) {
			n.Self, n.Role, n.VRAMTotal, n.VRAMFree, n.RAMFree, n.Held, n.Running, n.Waiting = true, "cpu", 0, 0, 60<<30, nil, 0, 0
		}),
		topNode("gpu-box-with-a-very-long-name", nil),
		topNode("kitchen", func(n *admin.PictureMember) {
			n.Unified, n.Running, n.Waiting, n.VRAMFree = true, 12, 120, 0
			n.Held = append(n.Held, admin.HeldModel{Name: "nomic-embed-text:latest", Size: 1 << 29, Loading: true})
		}),
		topNode("cellar", func(n *admin.PictureMember) { n.Status, n.Serving = "draining", false }),
		topNode("garage", func(n *admin.PictureMember) {
			n.Status, n.Serving, n.Since = "failed", false, noon.Add(-5*time.Minute).Format(time.RFC3339)
		}),
		topNode("shed", func(n *admin.PictureMember) { n.Silent = 7 }),
		topNode("bare", func(n *admin.PictureMember) {
			n.Ollama, n.Serving, n.Held, n.VRAMTotal, n.RAMTotal = "", false, nil, 0, 0
		}),
		topNode("gone", func(n *admin.PictureMember) { n.Status = "left" }),
	}}
}

func traffic() *admin.Requests {
	return &admin.Requests{
		Running: []router.Record{
			{ID: "3", Model: "qwen2.5:32b", Owner: "kitchen", Start: noon.Add(-2 * time.Second)},
			{ID: "2", Model: "hf.co/somebody/a-model-with-a-long-name:Q4_K_M", Owner: "gpu-box-with-a-very-long-name", Start: noon.Add(-90 * time.Second), First: 1.25, Rate: 17.26, Took: 90},
		},
		Ended: []router.Record{
			{ID: "1", Model: "qwen2.5:72b", Owner: "kitchen", Start: noon.Add(-3 * time.Minute), First: 0.31, Took: 121.4, Rate: 112, Outcome: router.OutcomeOK, Continued: 1},
			{ID: "0", Model: "m", Start: noon.Add(-4 * time.Minute), Took: 0.004, Outcome: router.OutcomeBusy},
		},
	}
}

// play is a model after a few seconds in which kitchen wrote more and more.
func play(t *testing.T, width, height int, p *admin.Picture, r *admin.Requests, keys ...string) topModel {
	t.Helper()
	var m tea.Model = newTopModel(paint{}, noon.Add(-10*time.Second))
	send := func(msg tea.Msg) { m, _ = m.Update(msg) }
	send(tea.WindowSizeMsg{Width: width, Height: height})
	for second := range 11 {
		next := *p
		next.Members = append([]admin.PictureMember{}, p.Members...)
		for i := range next.Members {
			if next.Members[i].Name == "kitchen" {
				next.Members[i].Written = uint64(100_000 + 4*second*second)
			}
		}
		send(admin.Event{Picture: &next})
		send(topTick(noon.Add(time.Duration(second-10) * time.Second)))
	}
	send(admin.Event{Requests: r})
	for _, k := range keys {
		send(press(k))
	}
	return m.(topModel)
}

func press(name string) tea.KeyPressMsg {
	codes := map[string]rune{"down": tea.KeyDown, "up": tea.KeyUp, "pgdown": tea.KeyPgDown, "end": tea.KeyEnd, "esc": tea.KeyEscape}
	if code, ok := codes[name]; ok {
		return tea.KeyPressMsg{Code: code}
	}
	return tea.KeyPressMsg{Code: rune(name[0]), Text: name}
}

func TestTopView(t *testing.T) {
	fifty := &admin.Picture{Cluster: "hall", Self: "node-00", Health: "HEALTHY"}
	for i := range 50 {
		fifty.Members = append(fifty.Members, topNode(fmt.Sprintf("node-%02d", i), func(n *admin.PictureMember) { n.Running = i % 7 }))
	}
	lost, _ := play(t, 80, 24, household(), traffic()).Update(topLost{})
	lost, _ = lost.Update(topTick(noon.Add(9 * time.Second)))
	for name, m := range map[string]topModel{
		"before":      newTopModel(paint{}, noon),
		"household":   play(t, 80, 24, household(), traffic()),
		"wide":        play(t, 160, 24, household(), traffic(), "s", "s"),
		"quiet":       play(t, 80, 24, household(), &admin.Requests{}),
		"fifty":       play(t, 80, 24, fifty, traffic(), "s", "pgdown", "down"),
		"fifty-end":   play(t, 80, 24, fifty, traffic(), "end"),
		"low":         play(t, 80, 9, fifty, traffic()),
		"no-news":     lost.(topModel),
		"small-phone": play(t, 40, 14, household(), traffic()),
	} {
		t.Run(name, func(t *testing.T) {
			lines := m.lines()
			if len(lines) > m.height {
				t.Errorf("%d lines in a window of %d", len(lines), m.height)
			}
			for _, line := range lines {
				if w := ansi.StringWidth(line); w > m.width {
					t.Errorf("%d columns: %s", w, line)
				}
			}
			golden(t, "top/"+name+".txt", strings.Join(lines, "\n")+"\n")
		})
	}
}

// Colour adds nothing and takes no room.
func TestTopColourOnlyRepeats(t *testing.T) {
	m := play(t, 80, 24, household(), traffic())
	plain := strings.Join(m.lines(), "\n")
	m.paint.on = true
	coloured := strings.Join(m.lines(), "\n")
	if coloured == plain || ansi.Strip(coloured) != plain {
		t.Errorf("without colour:\n%s\nwith:\n%s", plain, ansi.Strip(coloured))
	}
}

func TestTopKeys(t *testing.T) {
	m := play(t, 80, 24, household(), traffic(), "up", "down", "end", "s", "s", "s")
	if m.order != 0 || m.top() != 0 {
		t.Errorf("order %d, first %d", m.order, m.top())
	}
	for _, k := range []tea.KeyPressMsg{press("q"), press("esc"), {Code: 'c', Mod: tea.ModCtrl}} {
		_, cmd := m.Update(k)
		if cmd == nil {
			t.Errorf("%s does not quit", k)
		} else if _, ok := cmd().(tea.QuitMsg); !ok {
			t.Errorf("%s does not quit", k)
		}
	}
}

// A stream that is taken up again tells of what ended once more.
func TestTopHearsOfARequestOnce(t *testing.T) {
	m := play(t, 80, 24, household(), traffic())
	m = m.event(admin.Event{Requests: traffic()})
	if len(m.ended) != 2 {
		t.Errorf("%d ended requests", len(m.ended))
	}
}

func TestSpeeds(t *testing.T) {
	var s speeds
	for _, written := range []uint64{5000, 5030, 5060, 5060} {
		s = s.add(written, 2*time.Second)
	}
	if s.now() != 10 { // 30, 30 and 0 tokens in 2 s each
		t.Errorf("%v", s)
	}
	s = s.add(7, time.Second) // the node has begun anew
	if s.raw[len(s.raw)-1] != 0 {
		t.Errorf("a restart is no speed: %v", s)
	}
	for range 3 * topSpeeds {
		s = s.add(s.last+1, time.Second)
	}
	if len(s.smooth) != topSpeeds || len(s.raw) != topWindow || s.now() != 1 {
		t.Errorf("%d %d %v", len(s.smooth), len(s.raw), s.now())
	}
}

func TestTopOnce(t *testing.T) {
	api, _ := meshNow(t, meshtest.Member("attic", meshtest.Self(), meshtest.Hardware(hardware.Inventory{RAM: hardware.Bytes{N: 8 << 30, Source: hardware.Detected}})))
	r := run(t, nil, "top", "--api", api)
	if r.code != 0 || !strings.Contains(r.stdout, "1/1 nodes up") || !strings.Contains(r.stdout, "✓ attic") || strings.Contains(r.stdout, "\x1b") {
		t.Errorf("%+v", r)
	}
	r = run(t, nil, "top", "--json", "--api", api)
	var doc topSnapshot
	if err := json.Unmarshal([]byte(r.stdout), &doc); err != nil || doc.Mesh == nil || doc.Mesh.Members[0].Name != "attic" || doc.Requests == nil {
		t.Errorf("%v: %+v", err, r)
	}
}
