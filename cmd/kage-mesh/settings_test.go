package main

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/discovery"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/admin"
)

func TestConfigShowSaysWhereSettingsComeFrom(t *testing.T) {
	t.Setenv("KAGE_CLUSTER", "lab")
	t.Setenv("KAGE_DRAIN_GRACE", "1m30s")
	t.Setenv("KAGE_CLUSER", "typo")
	file := filepath.Join(t.TempDir(), "c.yaml")
	text := "# ours\nname: box\ncluster: other\nseed: [192.168.1.20, 192.168.1.21]\nram:\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	show := func(args ...string) (out struct{ Settings []admin.Setting }) {
		t.Helper()
		r := run(t, nil, append([]string{"config", "show", "--json", "--config", file}, args...)...)
		if err := json.Unmarshal([]byte(r.stdout), &out); err != nil || r.code != 0 {
			t.Fatalf("%+v", r)
		}
		if !strings.Contains(r.stderr, "KAGE_CLUSER; did you mean KAGE_CLUSTER?") {
			t.Errorf("the slip goes unnoticed: %s", r.stderr)
		}
		return out
	}
	want := map[string]admin.Setting{
		"name":        {Value: "box", Origin: file + ":2"},
		"cluster":     {Value: "lab", Origin: "environment KAGE_CLUSTER"},
		"drain-grace": {Value: "1m30s", Origin: "environment KAGE_DRAIN_GRACE"},
		"seed":        {Value: "192.168.1.20,192.168.1.21", Origin: file + ":4"},
		"role":        {Value: "spare", Origin: "flag"},
		"ram":         {Value: "", Origin: "default"},
		"max-body":    {Value: "64MiB", Origin: "default"},
		"log-level":   {Value: "info", Origin: "default"},
	}
	for _, got := range show("--role", "spare").Settings {
		w, ok := want[got.Name]
		if w.Name = got.Name; ok && got != w {
			t.Errorf("got %+v, want %+v", got, w)
		}
		delete(want, got.Name)
	}
	if len(want) > 0 {
		t.Errorf("not shown: %v", want)
	}
	for _, got := range show("--cluster", "mine").Settings {
		if got.Name == "cluster" && (got.Value != "mine" || got.Origin != "flag") {
			t.Errorf("a flag beats the environment: %+v", got)
		}
	}
}

// What config show prints is a configuration file of the same meaning.
func TestConfigShowPrintsAConfigurationFile(t *testing.T) {
	first := run(t, nil, "config", "show", "--seed", "10.0.0.1,10.0.0.2", "--origins", "http://x:*", "--name", "a b", "--drain-grace", "90s", "--tls")
	file := filepath.Join(t.TempDir(), "c.yaml")
	if err := os.WriteFile(file, []byte(first.stdout), 0o600); err != nil {
		t.Fatal(err)
	}
	second := run(t, nil, "config", "show", "--config", file)
	without := func(s string) string {
		lines := slices.DeleteFunc(strings.Split(s, "\n"), func(l string) bool { return strings.HasPrefix(l, "# config:") })
		return strings.Join(lines, "\n")
	}
	if first.code+second.code != 0 || without(first.stdout) != without(second.stdout) {
		t.Errorf("%+v\nread again:\n%+v", first, second)
	}
}

func TestParseConfigRefuses(t *testing.T) {
	known := []string{"name", "seed"}
	for text, want := range map[string]string{
		"nam: x":             "f:1: unknown setting 'nam'",
		"name: x\nname: y":   "f:2: 'name' stands there twice",
		"- name":             "f:1: not a list of settings",
		"just text":          "f:1: not a list of settings",
		"name: {a: b}":       "f:1: bad value for 'name': it holds settings of its own",
		"seed: [[a], b]":     "f:1: bad value for 'seed': its items must be plain values",
		"name: [":            "cannot read f",
		"name: x\n\tseed: y": "cannot read f",
	} {
		if _, err := parseConfig("f", []byte(text), known); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %s", text, err, want)
		}
	}
	for _, text := range []string{"", "# nothing\n", "name:\n", "name: x # why\nseed: []"} {
		if _, err := parseConfig("f", []byte(text), known); err != nil {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestChangesAreTakenOrNeedARestart(t *testing.T) {
	old := []admin.Setting{{Name: "log-level", Value: "info"}, {Name: "name", Value: "a"}, {Name: "seed"}, {Name: "grace", Value: "30s"}}
	now := []admin.Setting{{Name: "log-level", Value: "debug"}, {Name: "name", Value: "b"}, {Name: "seed", Value: "10.0.0.1"}, {Name: "grace", Value: "30s"}}
	taken, restart := changes(old, now)
	if got := list(taken); got != "log-level: info -> debug, seed: - -> 10.0.0.1" {
		t.Error(got)
	}
	if got := list(restart); got != "name: a -> b" {
		t.Error(got)
	}
	// What needs a restart still runs with the old value, and is told again.
	if after := *merged(old, now); after[0].Value != "debug" || after[1].Value != "a" {
		t.Errorf("%+v", after)
	}
	for _, name := range live {
		if !slices.Contains(settingNames(nil), name) {
			t.Errorf("%s is no setting", name)
		}
	}
}

func TestSeedsChangeWhileTheyRun(t *testing.T) {
	s := newSeeds(nil)
	ctx, cancel := context.WithCancel(t.Context())
	found := make(chan string, 16)
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx, func(p discovery.Peer) { found <- p.Addr }) }()
	for _, want := range []string{"10.0.0.1:11437", "10.0.0.2:11437"} {
		s.set(discovery.Static{want})
		for got := <-found; got != want; got = <-found { // the one before may come twice
			if want == "10.0.0.1:11437" {
				t.Fatal(got)
			}
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// SIGHUP makes a running node read its configuration file again.
func TestHangupReloads(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("Windows has no SIGHUP")
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	file := filepath.Join(dir, "c.yaml")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("log-level: warn\nrole: spare\n")
	var log syncBuffer
	cmd := exec.Command(self, "join", "--config", file, "--state-dir", dir, "--no-mdns", "--name", "hup", "--log-format", "text",
		"--api-listen", "127.0.0.1:0", "--peer-listen", "127.0.0.1:0", "--gossip-listen", "127.0.0.1:0", "--ollama", "127.0.0.1:1")
	var stdout syncBuffer
	cmd.Env = append(os.Environ(), "KAGE_TEST_MAIN=1")
	cmd.Stdout, cmd.Stderr = &stdout, &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var ended atomic.Bool
	done := make(chan struct{})
	go func() { _ = cmd.Wait(); ended.Store(true); close(done) }()
	t.Cleanup(func() { _ = cmd.Process.Kill(); <-done })
	until := func(what string, ok func() bool) {
		t.Helper()
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for deadline := time.Now().Add(30 * time.Second); !ok(); <-tick.C {
			if time.Now().After(deadline) || ended.Load() {
				t.Fatalf("not %s\n%s%s", what, stdout.String(), log.String())
			}
		}
	}
	until("up", func() bool { return strings.Contains(stdout.String(), "api ") })
	hangup := func() {
		t.Helper()
		if err := cmd.Process.Signal(syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
	}
	write("log-level: info\nrole: other\nseed: [127.0.0.1:1]\n")
	hangup()
	until("reloaded", func() bool {
		return strings.Contains(log.String(), `msg="settings read again" changed="log-level: warn -> info, seed: - -> 127.0.0.1:1" needs_restart="role: spare -> other"`)
	})
	write("log-levl: debug\n")
	hangup()
	until("refused", func() bool { return strings.Contains(log.String(), "unknown setting 'log-levl'") })
}
