package main

import (
	"bytes"
	"context"
	"encoding/json"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/admin"
)

// TestMain lets the test binary be the program itself, for what depends on a
// process's own arguments.
func TestMain(m *testing.M) {
	if os.Getenv("KAGE_TEST_MAIN") != "" {
		main()
	}
	os.Exit(m.Run())
}

// result is what a run of the program left.
type result struct {
	code           int
	stdout, stderr string
}

// run runs the program with args and nothing of the machine's environment.
func run(t *testing.T, env map[string]string, args ...string) result {
	t.Helper()
	var stdout, stderr bytes.Buffer
	e := environment{
		stdin: strings.NewReader(""), stdout: &stdout, stderr: &stderr,
		getenv: func(k string) string { return env[k] },
	}
	code := e.main(append([]string{"kage-mesh"}, args...))
	return result{code, stdout.String(), stderr.String()}
}

func TestCommandLine(t *testing.T) {
	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	busy, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	unused := func() string { // a port that refuses
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		return l.Addr().String()
	}()
	join := func(args ...string) []string {
		return append([]string{
			"join", "--state-dir", filepath.Join(dir, "state"), "--no-mdns",
			"--api-listen", "127.0.0.1:0", "--peer-listen", "127.0.0.1:0", "--gossip-listen", "127.0.0.1:0",
		}, args...)
	}
	tests := []struct {
		name   string
		args   []string
		code   int
		stdout string // regular expression
		stderr string
	}{
		{"nothing shows help", nil, 0, `(?s)COMMANDS:.*join .*EXIT CODES`, `^$`},
		{"help of join", []string{"join", "--help"}, 0, `(?s)api-listen.*KAGE_API_LISTEN`, `^$`},
		{"unknown command", []string{"membrs"}, 2, `^$`, `(?s)error: no command 'membrs'\nfix: did you mean 'members'\?`},
		{"unknown flag", []string{"members", "--jsn"}, 2, `^$`, `(?s)error: .*-jsn\nfix: did you mean --json\?`},
		{"argument too many", []string{"status", "x"}, 2, `^$`, `takes no argument`},
		{"no node runs", []string{"members", "--api", unused}, 3, `^$`, `(?s)no kage-mesh node answers at .*connection refused\nfix: start one`},
		{"drain, two nodes", []string{"drain", "a", "b"}, 2, `^$`, `drain takes one node, got 2\nfix: see`},
		{"drain, no node runs", []string{"drain", "--api", unused}, 3, `^$`, `no kage-mesh node answers`},
		{"no kage-mesh there", []string{"status", "--api", "127.0.0.1"}, 2, `^$`, `bad address`},
		{"version", []string{"version"}, 0, `^kage-mesh \S+.* go1\.`, `^$`},
		{"completion without shell", []string{"completion"}, 2, `^$`, `name one shell: bash, fish, powershell, zsh`},
		{"join, bad size", join("--vram", "lots"), 2, `^$`, `bad size 'lots' for --vram\nfix:`},
		{"join, bad seed", join("a:b:c:d"), 2, `^$`, `fix: give nodes as host`},
		{"join, bad log level", join("--log-level", "loud"), 2, `^$`, `bad log level 'loud'\nfix: use debug`},
		{"join, port in use", join("--api-listen", busy.Addr().String()), 1, `^$`, `(?s)api port .*address already in use\nfix: a node may run already`},
		{"join, gossip port in use", join("--gossip-listen", busy.Addr().String()), 1, `^$`, `(?s)in use\nfix: stop what uses it`},
		{"join, no key file", join("--key-file", filepath.Join(dir, "none")), 5, `^$`, `(?s)cannot read the mesh key.*fix: make one with 'kage-mesh keygen'`},
		{"join, mistyped key", join("--key-file", file("bad.key", "kage1-abc")), 5, `^$`, `not a mesh key.*\nfix: copy the whole line`},
		{"join, unknown setting", join("--config", file("a.yaml", "cluser: home\n")), 2, `^$`, `a.yaml:1: unknown setting 'cluser'\nfix: did you mean 'cluster'\?`},
		{"join, bad setting", join("--config", file("b.yaml", "\ndrain-grace: soon\n")), 2, `^$`, `b.yaml:2: bad value for 'drain-grace'`},
		{"join, no config", join("--config", filepath.Join(dir, "none.yaml")), 2, `^$`, `cannot read the configuration`},
		{"demo, bad number", []string{"demo", "--nodes", "0"}, 2, `^$`, `bad --speed, --requests or --nodes`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := run(t, nil, tt.args...)
			if r.code != tt.code {
				t.Errorf("exit code %d, want %d", r.code, tt.code)
			}
			if !regexp.MustCompile(tt.stdout).MatchString(r.stdout) {
				t.Errorf("stdout does not match %s:\n%s", tt.stdout, r.stdout)
			}
			if !regexp.MustCompile(tt.stderr).MatchString(r.stderr) {
				t.Errorf("stderr does not match %s:\n%s", tt.stderr, r.stderr)
			}
		})
	}
}

func TestKeygenMakesAKeyThatIsRead(t *testing.T) {
	a, b := run(t, nil, "keygen"), run(t, nil, "keygen")
	if _, err := mesh.ParseKey(a.stdout); err != nil {
		t.Errorf("%q: %v", a.stdout, err)
	}
	if a.stdout == b.stdout {
		t.Error("two keys are the same")
	}
}

func TestVersionJSON(t *testing.T) {
	var b buildInfo
	if err := json.Unmarshal([]byte(run(t, nil, "version", "--json").stdout), &b); err != nil || b.Version == "" || b.Protocol == 0 {
		t.Errorf("%+v, %v", b, err)
	}
}

// A node that is run, asked and told to leave, all by the command line.
func TestJoinMembersLeave(t *testing.T) {
	var stdout, stderr syncBuffer
	e := environment{stdin: strings.NewReader(""), stdout: &stdout, stderr: &stderr, getenv: func(string) string { return "" }}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	done := make(chan error, 1)
	go func() {
		done <- newApp(e).RunContext(ctx, []string{
			"kage-mesh", "join", "--state-dir", t.TempDir(), "--no-mdns", "--name", "lonely",
			"--api-listen", "127.0.0.1:0", "--peer-listen", "127.0.0.1:0", "--gossip-listen", "127.0.0.1:0",
			"--ollama", "127.0.0.1:1", "--ram", "48GiB", "--role", "spare",
		})
	}()
	found := regexp.MustCompile(`api +(http://127\.0\.0\.1:\d+)`)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	var api string
	for api == "" {
		select {
		case <-tick.C:
			if m := found.FindStringSubmatch(stdout.String()); m != nil {
				api = m[1]
			}
		case err := <-done:
			t.Fatalf("join ended: %v\n%s", err, stderr.String())
		}
	}
	if lines := strings.Count(stdout.String(), "\n"); lines > 10 {
		t.Errorf("the report has %d lines:\n%s", lines, stdout.String())
	}
	var m admin.Members
	if err := json.Unmarshal([]byte(run(t, nil, "members", "--api", api, "--json").stdout), &m); err != nil || len(m.Members) != 1 {
		t.Fatalf("members: %+v, %v", m, err)
	}
	if n := m.Members[0]; n.Name != "lonely" || n.RAMTotal != 48<<30 || n.Role != "spare" {
		t.Errorf("the overrides are not there: %+v", n)
	}
	if r := run(t, nil, "status", "--api", api, "--check"); r.code != codeDegraded || !strings.Contains(r.stdout, "CLUSTER STATUS: DOWN (1/1 nodes online)") {
		t.Errorf("status --check of a node without Ollama: %+v", r)
	}
	if r := run(t, nil, "drain", "--api", api, "--wait", "10s"); r.code != 0 || r.stdout != "lonely takes no new work and runs nothing\n" {
		t.Errorf("drain: %+v", r)
	}
	if r := run(t, nil, "members", "--api", api); !regexp.MustCompile(`lonely \* +draining`).MatchString(r.stdout) {
		t.Errorf("members of a drained node: %+v", r)
	}
	if r := run(t, nil, "drain", "nobody", "--api", api); r.code != codeFailure || !strings.Contains(r.stderr, "no member 'nobody'") || !strings.Contains(r.stderr, "fix: see 'kage-mesh members'") {
		t.Errorf("drain of nobody: %+v", r)
	}
	var d admin.Drained
	if r := run(t, nil, "undrain", "lonely", "--json", "--api", api); r.code != 0 || json.Unmarshal([]byte(r.stdout), &d) != nil || d.Draining || d.Node != "lonely" || d.SchemaVersion == 0 {
		t.Errorf("undrain: %+v", r)
	}
	if r := run(t, nil, "leave", "--api", api); r.code != 0 {
		t.Errorf("leave: %+v", r)
	}
	if err := <-done; err != nil {
		t.Errorf("join ended with %v", err)
	}
}

// syncBuffer is a buffer that a running command writes while a test reads.
type syncBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}
