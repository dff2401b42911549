package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/admin"
)

// terminal is a new pseudo terminal: what a person types into, and the side
// that a program reads.
func terminal(t *testing.T) (person, program *os.File) {
	t.Helper()
	person, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { person.Close() })
	if err := unix.IoctlSetPointerInt(int(person.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(person.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	program, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { program.Close() })
	return person, program
}

// A node that finds a keyed mesh asks the person at its terminal for the key,
// does not show it, joins, and has it for the next time.
func TestJoinAsksForTheKeyOnATerminal(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	key := mesh.NewKey()
	keyFile := filepath.Join(t.TempDir(), "mesh.key")
	if err := os.WriteFile(keyFile, []byte(key.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	person, program := terminal(t)
	state := t.TempDir()
	start := func(stdin *os.File, dir string, args ...string) (stdout, stderr *syncBuffer, done chan error) {
		stdout, stderr, done = &syncBuffer{}, &syncBuffer{}, make(chan error, 1)
		e := environment{stdin: strings.NewReader(""), stdout: stdout, stderr: stderr, getenv: func(string) string { return "" }}
		if stdin != nil {
			e.stdin = stdin
		}
		go func() {
			done <- newApp(e).RunContext(ctx, append([]string{
				"kage-mesh", "join", "--state-dir", dir, "--no-mdns", "--ollama", "127.0.0.1:1",
				"--api-listen", "127.0.0.1:0", "--peer-listen", "127.0.0.1:0", "--gossip-listen", "127.0.0.1:0",
			}, args...))
		}()
		return stdout, stderr, done
	}
	until := func(what string, stderr *syncBuffer, ok func() bool) {
		t.Helper()
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for !ok() {
			select {
			case <-tick.C:
			case <-ctx.Done():
				t.Fatalf("not %s\n%s", what, stderr.String())
			}
		}
	}
	port := func(stdout *syncBuffer, name string) string {
		m := regexp.MustCompile(name + ` +(?:http://)?(127\.0\.0\.1:\d+)`).FindStringSubmatch(stdout.String())
		if m == nil {
			return ""
		}
		return m[1]
	}
	out, errs, done := start(nil, t.TempDir(), "--name", "first", "--key-file", keyFile)
	until("a first node", errs, func() bool { return port(out, "api") != "" })
	api := "http://" + port(out, "api")
	var m admin.Members
	members := func() bool {
		return json.Unmarshal([]byte(run(t, nil, "members", "--api", api, "--json").stdout), &m) == nil
	}
	until("its address", errs, func() bool { return members() && len(m.Members) == 1 })
	seed := m.Members[0].Address

	_, errs2, done2 := start(program, state, "--name", "second", "--seed", seed)
	until("asked for the key", errs2, func() bool { return strings.Contains(errs2.String(), "\nmesh key: ") })
	if _, err := fmt.Fprintln(person, "kage1-nonsense"); err != nil {
		t.Fatal(err)
	}
	until("asked again", errs2, func() bool { return strings.Count(errs2.String(), "\nmesh key: ") == 2 })
	if _, err := fmt.Fprintln(person, key.String()); err != nil {
		t.Fatal(err)
	}
	until("two members", errs2, func() bool { return members() && len(m.Members) == 2 })
	cancel()
	<-done  //nolint:errcheck // it was told to stop
	<-done2 //nolint:errcheck // it was told to stop
	shown := make([]byte, 4096)
	_ = person.SetReadDeadline(time.Now()) // what the terminal has echoed so far
	n, _ := person.Read(shown)
	if text := string(shown[:n]) + errs2.String(); strings.Contains(text, key.String()[6:30]) {
		t.Errorf("the key was shown: %q", text)
	}
	info, err := os.Stat(filepath.Join(state, mesh.KeyFile))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the key is not kept for its owner alone: %v, %v", info, err)
	}
}
