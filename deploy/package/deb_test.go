//go:build linux

package packaging

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/bench/fleet"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/deploy/lab/proc"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/deploy/need"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/ollamatest"
)

// The deb's life: installed, run as its unit runs it, upgraded in place while
// clients stream through it and another node, purged. Nobody loses an answer, the
// node keeps its identity, and nothing is left behind.
//
// systemd is not the first process here, so [proc.Service] stands in for it.
func TestTheDebsLife(t *testing.T) {
	mayInstall(t)
	dir := t.TempDir()
	open(t, dir)
	one, two := build(t, dir, "0.0.1"), build(t, dir, "0.0.2")
	install(t, one)
	t.Cleanup(func() { _ = exec.Command("dpkg", "--purge", "kage-mesh").Run() })
	version(t, "0.0.1")
	shares(t, one)

	// A second node beside it, and an Ollama for each.
	host := fmt.Sprintf("127.83.%d.%d", os.Getpid()>>8&0xff, os.Getpid()&0xff)
	old := filepath.Join(dir, "kage-mesh")
	copyFile(t, "/usr/bin/kage-mesh", old)
	model := ollamatest.Model{Name: "m", Size: 100 << 20, Decode: 100}
	a, b := ollama(t, model), ollama(t, model)
	state := filepath.Join(dir, "state")
	if err := os.Mkdir(state, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(state, 65534, 65534); err != nil {
		t.Fatal(err)
	}
	unit := unitCommand(t)
	service := proc.NewService(t, dir, func() *exec.Cmd {
		args := []string{
			"--reuid=65534", "--regid=65534", "--clear-groups", "--no-new-privs", "--bounding-set=-all", "--",
		}
		args = append(args, unit...)
		args = append(args, "--no-mdns", "--name", "packaged", "--ollama", a, "--parallel", "4", "--api-listen", host+":11435",
			"--peer-listen", host+":11436", "--gossip-listen", host+":11437", "--drain-grace", "10s")
		cmd := exec.Command("setpriv", args...)
		cmd.Env = []string{"PATH=/usr/bin:/bin", "STATE_DIRECTORY=" + state}
		return cmd
	})
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	if err := service.Start(ctx); err != nil {
		t.Fatalf("%v\n%s%s", err, service.Stdout.String(), service.Stderr.String())
	}
	if !service.Keeps() {
		t.Fatal("the node did not ask for its client port to be kept")
	}
	other := exec.CommandContext(ctx, old, "join", "--no-mdns", "--name", "other", "--ollama", b, "--parallel", "4", "--state-dir", filepath.Join(dir, "other"),
		"--api-listen", host+":12435", "--peer-listen", host+":12436", "--gossip-listen", host+":12437", host+":11437")
	other.Env = []string{"PATH=/usr/bin:/bin", "HOME=" + dir}
	proc.Start(t, other).Name("other")
	entries := []string{host + ":11435", host + ":12435"}
	for _, entry := range entries {
		awaitMembers(ctx, t, entry, map[string]string{"packaged": "0.0.1", "other": "0.0.1"})
	}
	before := members(ctx, t, entries[1])["packaged"].ID

	load := start(ctx, entries)
	load.until(ctx, t, "answers of both before the upgrade", func() bool { return load.by("packaged") >= 8 && load.by("other") >= 8 })
	install(t, two) // with systemd its last step is the restart
	sent := load.count.Load()
	if err := service.Restart(ctx); err != nil {
		t.Fatalf("%v\n%s", err, service.Stderr.String())
	}
	during := load.count.Load() - sent
	version(t, "0.0.2")
	awaitMembers(ctx, t, entries[1], map[string]string{"packaged": "0.0.2", "other": "0.0.1"})
	then := load.by("packaged")
	load.until(ctx, t, "answers of the upgraded node", func() bool { return load.by("packaged") >= then+8 })
	load.stop()
	t.Logf("%d answers, %d of them while the node restarted, %d failed", load.count.Load(), during, len(load.failed))
	for _, err := range load.failed {
		t.Error(err)
	}
	if during == 0 {
		t.Error("nobody asked while the node restarted: the load is too small to say anything")
	}
	if after := members(ctx, t, entries[1])["packaged"].ID; before == "" || after != before {
		t.Errorf("the node was %q and is %q", before, after)
	}
	if err := service.Stop(); err != nil {
		t.Error(err)
	}
	purge(t)
}

// load is clients that ask without a pause, half of them at each entry.
type load struct {
	count  atomic.Int64
	cancel context.CancelFunc
	done   sync.WaitGroup

	mu     sync.Mutex
	nodes  map[string]int
	failed []error
	more   chan struct{}
}

const clients, tokens = 12, 30

func start(ctx context.Context, entries []string) *load {
	l := &load{nodes: map[string]int{}, more: make(chan struct{})}
	stop, cancel := context.WithCancel(ctx)
	l.cancel = cancel
	for i := range clients {
		l.done.Go(func() {
			for n := 0; stop.Err() == nil; n++ {
				// What has begun is finished: an end of the test is no client that leaves.
				entry, asked := entries[i%len(entries)], time.Now()
				l.add(fleet.Ask(ctx, "http://"+entry, "m", fmt.Sprintf("client %d asks %d", i, n), tokens, true), entry, asked)
			}
		})
	}
	return l
}

func (l *load) add(a fleet.Answer, entry string, asked time.Time) {
	l.count.Add(1)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.nodes[a.Node]++
	if a.Err != nil {
		l.failed = append(l.failed, fmt.Errorf("asked %s at %s: by %q, attempt %d: %w", entry, asked.UTC().Format(time.StampMilli), a.Node, a.Attempts, a.Err))
	}
	close(l.more)
	l.more = make(chan struct{})
}

func (l *load) by(node string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.nodes[node]
}

// until waits for what becomes true with an answer.
func (l *load) until(ctx context.Context, t *testing.T, what string, ok func() bool) {
	t.Helper()
	for {
		l.mu.Lock()
		more := l.more
		l.mu.Unlock()
		if ok() {
			return
		}
		select {
		case <-more:
		case <-ctx.Done():
			t.Fatalf("waiting for %s: %v", what, context.Cause(ctx))
		}
	}
}

func (l *load) stop() {
	l.cancel()
	l.done.Wait()
}

// member is what `kage-mesh members --json` says that matters here.
type member struct {
	ID      string `json:"id"`
	Name    string `json:"name"`
	Status  string `json:"status"`
	Version string `json:"version"`
	Models  []struct {
		Name string `json:"name"`
	} `json:"models"`
}

func members(ctx context.Context, t *testing.T, api string) map[string]member {
	t.Helper()
	out, err := exec.CommandContext(ctx, "/usr/bin/kage-mesh", "members", "--api", api, "--json").Output()
	if err != nil {
		return nil // not up yet
	}
	var list struct {
		Members []member `json:"members"`
	}
	if err := json.Unmarshal(out, &list); err != nil {
		t.Fatalf("%v in %s", err, out)
	}
	found := map[string]member{}
	for _, m := range list.Members {
		found[m.Name] = m
	}
	return found
}

// awaitMembers waits until the node at api sees these versions alive, and what
// they have: one that has just begun may not know yet.
func awaitMembers(ctx context.Context, t *testing.T, api string, want map[string]string) {
	t.Helper()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		got := members(ctx, t, api)
		all := true
		for name, version := range want {
			all = all && got[name].Status == "alive" && got[name].Version == version && len(got[name].Models) > 0
		}
		if all {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("%s sees %+v, not %v", api, got, want)
		}
	}
}

func ollama(t *testing.T, m ollamatest.Model) string {
	t.Helper()
	s := ollamatest.New(ollamatest.Config{Models: []ollamatest.Model{m}, Parallel: 4, RAM: 8 << 30})
	if err := s.Listen("127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return strings.TrimPrefix(s.URL(), "http://")
}

// mayInstall skips where a person's machine would be changed.
func mayInstall(t *testing.T) {
	t.Helper()
	if os.Getenv("CI") != "true" && os.Getenv("KAGE_TEST_DEB") == "" {
		t.Skip("installs and purges the package kage-mesh: `make deb`, as root on Debian and its kin")
	}
	for _, tool := range []string{"dpkg", "setpriv"} {
		if _, err := exec.LookPath(tool); err != nil || os.Getuid() != 0 {
			need.Missing(t, "needs root, dpkg and setpriv")
		}
	}
	if exec.Command("dpkg", "-s", "kage-mesh").Run() == nil {
		t.Fatal("kage-mesh is installed here already, and would be removed")
	}
}

func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).Output()
	if err != nil {
		if exit, ok := errors.AsType[*exec.ExitError](err); ok {
			err = fmt.Errorf("%w: %s", err, exit.Stderr)
		}
		t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
	return string(out)
}

func build(t *testing.T, dir, version string) string {
	t.Helper()
	into := filepath.Join(dir, version)
	if err := os.Mkdir(into, 0o700); err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(run(t, "../ci/package.sh", "deb", into, version))
}

func install(t *testing.T, deb string) {
	t.Helper()
	run(t, "dpkg", "--install", deb)
}

func version(t *testing.T, want string) {
	t.Helper()
	if out := run(t, "/usr/bin/kage-mesh", "version"); !strings.Contains(out, " "+want+" ") {
		t.Errorf("installed is %q, not %s", out, want)
	}
}

// shares checks the manual and the completions.
func shares(t *testing.T, deb string) {
	t.Helper()
	list := run(t, "dpkg", "--contents", deb)
	for _, file := range []string{"man1/kage-mesh.1.gz", "completions/kage-mesh", "/_kage-mesh", "kage-mesh.fish"} {
		if !strings.Contains(list, file) {
			t.Errorf("the deb has no %s", file)
		}
	}
}

// unitCommand is what the installed unit starts.
func unitCommand(t *testing.T) []string {
	t.Helper()
	text, err := os.ReadFile("/usr/lib/systemd/system/kage-mesh.service")
	if err != nil {
		t.Fatal(err)
	}
	start := regexp.MustCompile(`(?m)^ExecStart=(.+)$`).FindSubmatch(text)
	if start == nil {
		t.Fatal("the unit starts nothing")
	}
	return strings.Fields(string(start[1]))
}

// purge removes the package and looks for what is left.
func purge(t *testing.T) {
	t.Helper()
	files := strings.Fields(run(t, "dpkg", "--listfiles", "kage-mesh"))
	run(t, "dpkg", "--purge", "kage-mesh")
	for _, file := range files {
		if info, err := os.Stat(file); err == nil && !info.IsDir() {
			t.Errorf("left behind: %s", file)
		}
	}
	for _, dir := range []string{"/etc/kage-mesh", "/var/lib/kage-mesh", "/usr/share/doc/kage-mesh"} {
		if _, err := os.Stat(dir); err == nil {
			t.Errorf("left behind: %s", dir)
		}
	}
}

// open lets another user pass through the test's own directory, which is two
// levels below the one for all.
func open(t *testing.T, dir string) {
	t.Helper()
	for _, d := range []string{dir, filepath.Dir(dir)} {
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	data, err := os.ReadFile(from)
	if err == nil {
		err = os.WriteFile(to, data, 0o700)
	}
	if err != nil {
		t.Fatal(err)
	}
}
