package browser

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/bench/fleet"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/deploy/need"
)

// browser is a script of this directory, ready to run.
func browser(t *testing.T, ctx context.Context, script string, args ...string) *exec.Cmd {
	t.Helper()
	need.NotShort(t, "starts a browser")
	chromium := lookPath(t, "chromium", "chromium-browser", "google-chrome")
	node := lookPath(t, "node")
	cmd := exec.CommandContext(ctx, node, append([]string{script}, args...)...)
	cmd.Env = append(os.Environ(), "KAGE_CHROMIUM="+chromium, "KAGE_NODE_MODULES="+modules(t))
	cmd.Stderr = os.Stderr
	return cmd
}

func lookPath(t *testing.T, names ...string) string {
	t.Helper()
	for _, name := range names {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	need.Missing(t, "browser: needs "+names[0]+" (make deps installs it on Debian)")
	return ""
}

// modules is the directory that holds node_modules as package-lock.json pins
// them, filled once.
func modules(t *testing.T) string {
	t.Helper()
	npm := lookPath(t, "npm")
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(cache, "kage-mesh", "browser-playwright-1.65.1")
	if _, err := os.Stat(filepath.Join(dir, "node_modules", "playwright-core", "package.json")); err == nil {
		return dir
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"package.json", "package-lock.json"} {
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.CommandContext(t.Context(), npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund")
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		need.Missing(t, fmt.Sprintf("browser: npm ci: %v: %s", err, out))
	}
	return dir
}

// A person has the page of a node open while the mesh works, loses a node,
// gets it back, and loses the very node whose page it is.
func TestThePageFollowsTheMesh(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	cmd := browser(t, ctx, "live.mjs") // first: says at once what is missing
	f, err := fleet.Start(ctx, household20(), fleet.Options{Version: "test"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.Close)
	cmd.Args = append(cmd.Args, f.Node(0).Endpoint())
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	last := ""
	for lines := bufio.NewScanner(stdout); lines.Scan(); {
		last = lines.Text()
		t.Log(last)
		switch what, name, _ := strings.Cut(last, " "); what {
		case "note:":
		case "done":
			stdin.Close() // it reads until then
		default:
			act(t, ctx, f, what, name)
			fmt.Fprintln(stdin, "ok")
		}
	}
	if err := cmd.Wait(); err != nil || last != "done" {
		t.Fatalf("the browser ended with %v after %q", err, last)
	}
}

// household20 is the seed's, twenty times as fast, with a registry to pull from,
// and one model that is not in it.
func household20() []fleet.Spec {
	specs := fleet.Seed(20)
	private := specs[2].Ollama.Models[0]
	private.Name, private.Digest, private.Size = "private:1b", "", 1<<30
	for i := range specs {
		specs[i].Ollama.Catalog = specs[2].Ollama.Models
		specs[i].Ollama.PullRate = 3 << 28 // times 20: a large model takes a second or two
	}
	specs[2].Ollama.Models = append(slices.Clone(specs[2].Ollama.Models), private)
	return specs
}

// act does to the mesh what the script asks for.
func act(t *testing.T, ctx context.Context, f *fleet.Fleet, what, name string) {
	t.Helper()
	var node *fleet.Node
	for _, n := range f.Nodes() {
		if n.Spec.Name == name {
			node = n
		}
	}
	switch what {
	case "work":
		work, stop := context.WithCancel(ctx)
		done := make(chan struct{})
		t.Cleanup(func() { stop(); <-done })
		go func() { // a long answer of the one model that is slow even here
			defer close(done)
			_ = fleet.Ask(work, f.Node(1).Endpoint(), "qwen2.5:72b", "tell me all", 20_000, true)
		}()
	case "kill":
		node.Kill()
	case "restart":
		if err := node.Restart(ctx); err != nil {
			t.Errorf("restart %s: %v", name, err)
		}
	default:
		t.Errorf("the script asks for %q", what)
	}
}

// The page in the states and widths that people see it in: nothing sticks out,
// nothing fails. KAGE_SCREENSHOTS names a directory to keep the pictures in.
func TestScenes(t *testing.T) {
	dir := os.Getenv("KAGE_SCREENSHOTS")
	if dir == "" {
		dir = t.TempDir()
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	four, dead, fifty := scene(t, 4), scene(t, 4, "gpu-mobile"), scene(t, 50, "gpu-mobile-7")
	cmd := browser(t, ctx, "scenes.mjs", dir,
		"four="+four, "four-dark="+four, "four-phone="+four, "four-dead="+dead,
		"four-dead-phone="+dead, "fifty="+fifty, "fifty-phone="+fifty)
	out, err := cmd.Output()
	if err != nil || strings.TrimSpace(string(out)) != "done" {
		t.Fatalf("%v\n%s", err, out)
	}
}
