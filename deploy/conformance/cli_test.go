//go:build linux || darwin

package conformance

import (
	"context"
	"fmt"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/deploy/need"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/deploy/realollama"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/deploy/standin"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/deploy/tinymodels"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/store"
)

// script is the ollama command against one server, as a person would use it.
// It returns what was printed, by step, without what differs from run to run.
func script(t *testing.T, o *realollama.Ollama, url, registry, dir string) map[string]string {
	t.Helper()
	out := make(map[string]string)
	run := func(step string, args ...string) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
		defer cancel()
		cmd := o.CLIAt(ctx, url, args...)
		cmd.Dir = dir
		text, err := cmd.CombinedOutput()
		result := plainText(string(text))
		switch step {
		case "run": // sampled, but as long as the model says
			result = fmt.Sprint(len(strings.Fields(result)), " words")
		case "pull":
			full := make(map[string]bool)
			for _, b := range bars.FindAllString(escapes.ReplaceAllString(string(text), ""), -1) {
				full[b] = true
			}
			result = fmt.Sprint(stepsOf(string(text), "pulling manifest", "verifying sha256 digest", "writing manifest", "success"), " with ", len(full), " bars")
		case "create":
			result = stepsOf(string(text), "gathering model components", "copying file", "parsing GGUF", "writing manifest", "success")
		}
		if err != nil {
			result += " [" + err.Error() + "]"
		}
		out[step] = result
	}
	run("run", "run", "brief", "hi")
	eventually(t, "brief in ollama ps", func() bool {
		run("ps", "ps")
		return strings.Contains(out["ps"], "brief:latest")
	})
	run("run a model that stops", "run", "short", "hi")
	run("run unknown", "run", "127.0.0.1:1/library/nosuch", "hi")
	run("list", "list")
	run("show", "show", "tiny")
	run("show modelfile", "show", "--template", "tiny")
	run("show unknown", "show", "nosuch")
	run("cp", "cp", "short", "twin")
	run("run the copy", "run", "twin", "hi")
	run("list the copy", "list")
	run("rm", "rm", "twin")
	run("rm again", "rm", "twin")
	run("create", "create", "mine", "-f", "Modelfile.mine")
	run("run what was created", "run", "mine", "hi")
	run("rm what was created", "rm", "mine")
	run("pull", "pull", "--insecure", registry+"/library/short")
	run("run what was pulled", "run", registry+"/library/short", "hi")
	run("rm what was pulled", "rm", registry+"/library/short")
	run("pull unknown", "pull", "--insecure", registry+"/library/nosuch")
	run("list in the end", "list")
	return out
}

// workplace is a directory with a Modelfile.mine beside its weights.
func workplace(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := tinymodels.Write(dir, "short"); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(dir, "Modelfile.short"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "Modelfile.mine"), append(text, "SYSTEM be brief\n"...), 0o644); err != nil {
		t.Fatal(err)
	}
	return dir
}

var (
	escapes = regexp.MustCompile(`\x1b\[[0-9;?]*[a-zA-Z]|[⠀-⣿]`)
	layers  = regexp.MustCompile(`(using existing|creating new) layer sha256:\S+|sha256:\S+( \d+%)?`)
	bars    = regexp.MustCompile(`pulling [0-9a-f]{12}: +100%`)
	varying = regexp.MustCompile(`\d+(\.\d+)? ?([KMG]?B/s|[KMG]B|ms|s|m)\b|\d+%|▕[^▏]*▏|[0-9a-f]{12}|(Less than a|About an?|\d+) (second|minute|hour)s? (ago|from now)`)
)

// plainText is what a terminal would show in the end, roughly: without escapes,
// amounts and times, each line once, in their order.
func plainText(s string) string {
	s = layers.ReplaceAllString(escapes.ReplaceAllString(s, ""), "layer")
	s = varying.ReplaceAllString(s, "~")
	seen := make(map[string]bool)
	var lines []string
	for _, line := range strings.FieldsFunc(s, func(r rune) bool { return r == '\n' || r == '\r' }) {
		line = strings.Join(strings.Fields(line), " ")
		if line != "" && !seen[line] {
			seen[line] = true
			lines = append(lines, line)
		}
	}
	return strings.Join(lines, "\n")
}

// stepsOf is what a command told of its progress: the steps in their order. A
// terminal is drawn over at any moment, so the text in between differs.
func stepsOf(s string, steps ...string) string {
	rest := escapes.ReplaceAllString(s, "")
	for _, step := range steps {
		_, after, ok := strings.Cut(rest, step)
		if !ok {
			return "no " + step + " in " + s
		}
		rest = step + after
	}
	return strings.Join(steps, ", ")
}

func TestOllamaCommand(t *testing.T) {
	need.NotShort(t, "conformance: the ollama command")
	s := realSubjects(t, "tiny", "short", "brief")
	registry := httptest.NewServer(&standin.Registry{Dir: storeOf(t, s.direct.URL, "short")})
	defer registry.Close()
	address := strings.TrimPrefix(registry.URL, "http://")
	dir := workplace(t)
	want := script(t, s.direct, s.direct.URL, address, dir)
	if !strings.HasSuffix(want["pull"], "with 4 bars") {
		t.Errorf("one Ollama, pull: %s", want["pull"])
	}
	for _, step := range []string{"run", "list", "show", "pull", "create", "run what was pulled"} {
		if want[step] == "" || strings.Contains(want[step], "[exit") {
			t.Errorf("one Ollama, %s: %s", step, want[step])
		}
	}
	for _, one := range s.mesh {
		// What was removed through the entry before is news here for a moment.
		eventually(t, "the removed model is gone from "+one.name, func() bool {
			return !slices.ContainsFunc(modelNames(t, one.url), func(name string) bool { return strings.HasPrefix(name, address) })
		})
		got := script(t, s.direct, one.url, address, dir)
		same := 0
		for step := range want {
			if a, b := ofList(step, got[step]), ofList(step, want[step]); a != b {
				t.Errorf("%s on %s:\n%s\non one Ollama:\n%s", step, one.name, a, b)
				continue
			}
			same++
		}
		t.Logf("%s: %d of %d steps as on one Ollama", one.name, same, len(want))
	}
}

// ofList sorts the lines of a listing, whose order is by time of change, and
// those of show, where Ollama writes the parameters in an order drawn anew.
func ofList(step, text string) string {
	if !strings.HasPrefix(step, "list") && !strings.HasPrefix(step, "show") {
		return text
	}
	lines := strings.Split(text, "\n")
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// A person at a node whose Ollama has nothing pulls a model that another node
// has: it comes from there, with the command's progress bars.
func TestOllamaCommandPullsFromAPeer(t *testing.T) {
	need.NotShort(t, "conformance: the ollama command")
	s := realSubjects(t, "short")
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	out, err := s.direct.CLIAt(ctx, s.mesh[0].url, "pull", "short").CombinedOutput()
	text := escapes.ReplaceAllString(string(out), "")
	if err != nil || !strings.Contains(text, "copying from") || !strings.Contains(text, "100%") || !strings.Contains(text, "success") {
		t.Fatalf("pull: %v\n%s", err, text)
	}
	var shown struct{ Models []struct{ Name string } }
	decode(t, s.empty.URL+"/api/tags", &shown)
	if len(shown.Models) != 1 || shown.Models[0].Name != "short:latest" {
		t.Errorf("the node's Ollama has %v", shown.Models)
	}
	r := send(t, "POST", s.empty.URL+"/api/generate", `{"model":"short","prompt":"hi","stream":false}`)
	if r.object(t)["response"] != " one two three." {
		t.Errorf("the copy says %s", r.body)
	}
}

// storeOf is where a server keeps a model, by its own word.
func storeOf(t *testing.T, url, model string) string {
	t.Helper()
	file, _ := send(t, "POST", url+"/api/show", map[string]string{"model": model}).object(t)["modelfile"].(string)
	dir := store.FromModelfile(file)
	if dir == "" {
		t.Fatalf("no store in %q", file)
	}
	return dir
}
