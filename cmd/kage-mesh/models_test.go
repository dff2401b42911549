package main

import (
	"bytes"
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/bench/fleet"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh/hardware"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/admin"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/ollamatest"
)

const gib = 1 << 30

// modelsMesh is a mesh whose second node is too small for the large model.
func modelsMesh(t *testing.T) *fleet.Fleet {
	t.Helper()
	cpu := func(n uint64) hardware.Inventory {
		amount := hardware.Bytes{N: n, Source: hardware.Configured}
		return hardware.Inventory{OS: "linux", Arch: "amd64", Role: "cpu", RAM: amount, RAMFree: amount}
	}
	small, large := ollamatest.Model{Name: "small", Size: gib}, ollamatest.Model{Name: "large", Size: 20 * gib}
	far := ollamatest.Model{Name: "far:cloud", Remote: "https://ollama.com"}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	f, err := fleet.Start(ctx, []fleet.Spec{
		{Name: "box", Hardware: cpu(64 * gib), Ollama: &ollamatest.Config{Models: []ollamatest.Model{small, large, far}, Catalog: []ollamatest.Model{{Name: "new", Size: gib}}}},
		{Name: "pi", Hardware: cpu(8 * gib), Ollama: &ollamatest.Config{Catalog: []ollamatest.Model{small}}},
	}, fleet.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.Close)
	return f
}

// kage runs the program against a node.
func kage(f *fleet.Fleet, args ...string) (code int, stdout, stderr string) {
	var out, errs bytes.Buffer
	e := environment{stdin: strings.NewReader(""), stdout: &out, stderr: &errs, getenv: func(string) string { return "" }}
	full := append([]string{"kage-mesh"}, args...)
	full = append(full[:3:3], append([]string{"--api", f.Node(1).Endpoint()}, full[3:]...)...)
	code = e.main(full)
	return code, out.String(), errs.String()
}

func TestModelsListDiffAndSync(t *testing.T) {
	f := modelsMesh(t)
	code, out, errs := kage(f, "models", "list")
	if code != codeOK || errs != "" {
		t.Fatalf("list: %d %s", code, errs)
	}
	for name, cells := range map[string][]string{
		"MODEL": {"SIZE", "BOX", "PI"}, "small:latest": {"1.0 GiB", "cpu", "(cpu)"}, "large:latest": {"20.0 GiB", "cpu", "-"}, "far:cloud": {"cloud"},
	} {
		found := false
		for line := range strings.Lines(out) {
			if !strings.HasPrefix(line, name) {
				continue
			}
			found = true
			for _, c := range cells {
				if !strings.Contains(line, c) {
					t.Errorf("%s lacks %q: %s", name, c, line)
				}
			}
		}
		if !found {
			t.Errorf("no line of %s in\n%s", name, out)
		}
	}
	var m admin.Models
	if _, out, _ = kage(f, "models", "list", "--json"); json.Unmarshal([]byte(out), &m) != nil || m.SchemaVersion != 1 || len(m.Models) != 3 || !m.Models[2].On["box"].OnDisk {
		t.Errorf("list --json: %s", out)
	}

	code, out, errs = kage(f, "models", "diff")
	if code != codeDegraded || !strings.Contains(out, "not enough memory") || !strings.Contains(errs, "1 model") {
		t.Errorf("diff: %d\n%s%s", code, out, errs)
	}
	if code, _, errs := kage(f, "models", "diff", "--target", "nosuch"); code != codeUsage || !strings.Contains(errs, "box, pi") {
		t.Errorf("diff of no node: %d %s", code, errs)
	}
	if code, out, _ := kage(f, "models", "sync", "--dry-run"); code != codeOK || !strings.Contains(out, "pull") || f.Node(1).Ollama.Stats().Requests["POST /api/pull"] != 0 {
		t.Errorf("sync --dry-run: %d\n%s", code, out)
	}
	code, out, errs = kage(f, "models", "sync", "--target", "pi", "--json")
	var result struct{ Steps []syncStep }
	if code != codeOK || json.Unmarshal([]byte(out), &result) != nil || len(result.Steps) != 2 || !result.Steps[0].Done || result.Steps[1].Action != "skip" {
		t.Errorf("sync: %d\n%s%s", code, out, errs)
	}
	// A fake has no files to copy, and the pull must say so and go on.
	if !strings.Contains(errs, "small:latest: copying from box") || !strings.Contains(errs, "cannot copy it from box") {
		t.Errorf("progress: %s", errs)
	}
	if code, out, errs := kage(f, "models", "diff", "--target", "pi"); code != codeOK {
		t.Errorf("diff after sync: %d\n%s%s", code, out, errs)
	}
}

func TestModelsChange(t *testing.T) {
	f := modelsMesh(t)
	for _, c := range []struct {
		args []string
		code int
		says string
	}{
		{[]string{"models", "pull", "new"}, codeOK, ""},
		{[]string{"models", "pull"}, codeUsage, "needs the name"},
		{[]string{"models", "cp", "new", "-x"}, codeUsage, "not defined: -x"},
		{[]string{"models", "pull", "nosuch", "--node", "pi"}, codeFailure, "file does not exist"},
		{[]string{"models", "pull", "x", "--node", "nosuch"}, codeFailure, "box, pi"},
		{[]string{"models", "cp", "new", "alias"}, codeOK, "copied new to alias on box"},
		{[]string{"models", "load", "alias", "--keep-alive", "10m"}, codeOK, "loaded alias on box"},
		{[]string{"models", "rm", "alias", "new"}, codeOK, "deleted new on box"},
		{[]string{"models", "rm", "nosuch"}, codeFailure, "not found"},
		{[]string{"models", "load", "nosuch"}, codeFailure, "no node has it"},
		{[]string{"models", "load", "small", "--node", "box"}, codeOK, "loaded small on box"},
	} {
		code, out, errs := kage(f, c.args...)
		if code != c.code || !strings.Contains(out+errs, c.says) {
			t.Errorf("%v: %d\n%s%s", c.args, code, out, errs)
		}
	}
	loaded := func() bool {
		_, out, _ := kage(f, "models", "list")
		return strings.Contains(out, "cpu *")
	}
	for end := time.Now().Add(10 * time.Second); !loaded(); {
		if time.Now().After(end) {
			t.Fatal("the list does not show what is in memory")
		}
	}
	if code, out, errs := kage(f, "models", "unload", "small"); code != codeOK || !strings.Contains(out, "unloaded small on box") {
		t.Errorf("unload: %d %s%s", code, out, errs)
	}
	if n := f.Node(0).Ollama.Stats().Unloads; n == 0 {
		t.Error("nothing was unloaded")
	}
}

func TestPlanSync(t *testing.T) {
	on := func(digest, weights string) admin.ModelSpot {
		return admin.ModelSpot{OnDisk: true, Digest: digest, Weights: weights, Fits: hardware.Full}
	}
	m := admin.Models{
		Nodes: []admin.ModelNode{{Name: "a"}, {Name: "b", FreeDisk: 10 * gib}},
		Models: []admin.ModelRow{
			{Name: "big", Size: 8 * gib, On: map[string]admin.ModelSpot{"a": on("1", ""), "b": {Fits: hardware.Full}}},
			{Name: "mid", Size: 4 * gib, On: map[string]admin.ModelSpot{"a": on("1", ""), "b": {Fits: hardware.CPU}}},
			{Name: "huge", Size: 90 * gib, On: map[string]admin.ModelSpot{"a": on("1", ""), "b": {}}},
			{Name: "split", Size: gib, Digest: "2", Mismatch: true, On: map[string]admin.ModelSpot{"a": on("2", "w"), "b": {OnDisk: true, Digest: "1", Weights: "v", Fits: hardware.Full, Differs: true}}},
			{Name: "made", Size: gib, Digest: "2", Mismatch: true, On: map[string]admin.ModelSpot{"a": on("2", "w"), "b": {OnDisk: true, Digest: "1", Weights: "w", Fits: hardware.Full, Differs: true}}},
			{Name: "far:cloud", Cloud: true, On: map[string]admin.ModelSpot{"a": on("1", ""), "b": {}}},
		},
	}
	var got []string
	for _, s := range planSync(m, nil) {
		got = append(got, s.Node+" "+s.Action+" "+s.Model)
	}
	want := "b skip made,b update split,b pull mid,b skip big,b skip huge"
	if strings.Join(got, ",") != want {
		t.Errorf("%v, want %s", got, want)
	}
	if steps := planSync(m, []string{"a"}); len(steps) != 0 {
		t.Errorf("a lacks %v", steps)
	}
}

func TestBars(t *testing.T) {
	now := time.Unix(100, 0)
	b := bar{name: "pulling abc", done: gib, total: 2 * gib, began: now.Add(-4 * time.Second)}
	for _, width := range []int{10, 30, 60, 100} {
		if text := b.text(width, now); len([]rune(text)) >= width || width >= 60 && (!strings.Contains(text, " 50% 1.0 GiB/2.0 GiB 256.0 MiB/s") || !strings.Contains(text, "[###")) {
			t.Errorf("%d: %q", width, text)
		}
	}
	var out bytes.Buffer
	e := environment{stderr: &out, getenv: func(string) string { return "" }}
	bars := e.newBars("m")
	for _, done := range []int64{0, 5, 10} {
		bars.show(pullLine{Status: "pulling abc", Digest: "sha256:abcdef", Total: 10, Completed: done})
	}
	bars.end()
	if out.String() != "m: pulling abcdef\n" {
		t.Errorf("off a terminal: %q", out.String())
	}
}
