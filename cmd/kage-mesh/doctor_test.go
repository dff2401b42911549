package main

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/cmd/kage-mesh/doctor"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh"
)

// closedPort is an address on loopback that refuses.
func closedPort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// Without a node doctor checks what it can, and what it collects for others
// holds no key.
func TestDoctorWithoutANode(t *testing.T) {
	key := mesh.NewKey().String()
	t.Setenv("KAGE_KEY", key)
	t.Setenv("KAGE_CLUSER", key) // a slip must not tell it either
	dir := t.TempDir()
	config := filepath.Join(dir, "c.yaml")
	text := "api-listen: 127.0.0.1:0\npeer-listen: 127.0.0.1:0\ngossip-listen: 127.0.0.1:0\nstate-dir: " + dir + "\nollama: " + closedPort(t) + "\n"
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	bundle := filepath.Join(dir, "b.tar.gz")
	args := []string{"doctor", "--scope", "services", "--json", "--config", config, "--api", closedPort(t), "--bundle", bundle}
	r := run(t, nil, args...)
	var d diagnosis
	if err := json.Unmarshal([]byte(r.stdout), &d); err != nil {
		t.Fatalf("%v: %+v", err, r)
	}
	if r.code != codeFailure || d.Verdict != doctor.Failed || d.Node != "" {
		t.Errorf("code %d, %+v", r.code, d)
	}
	found := func(check string, level doctor.Level) bool {
		return slices.ContainsFunc(d.Findings, func(f doctor.Finding) bool { return f.Check == check && f.Level == level })
	}
	if !found("ollama", doctor.Failed) || !found("ports", doctor.Passed) || !found("config", doctor.Warning) {
		t.Errorf("%+v", d.Findings)
	}

	f, err := os.Open(bundle)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	zip, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for archive := tar.NewReader(zip); ; {
		h, err := archive.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, h.Name)
		data, err := io.ReadAll(archive)
		if err != nil || strings.Contains(string(data), key) || len(data) == 0 {
			t.Errorf("%s: %v\n%s", h.Name, err, data)
		}
	}
	if want := []string{"kage-mesh/doctor.json", "kage-mesh/facts.json", "kage-mesh/version.json", "kage-mesh/metrics.txt", "kage-mesh/log.txt"}; !slices.Equal(names, want) {
		t.Errorf("%q", names)
	}
	if r := run(t, nil, args...); r.code != codeUsage || !strings.Contains(r.stderr, "fix: name a file that does not exist yet") {
		t.Errorf("an archive that is there was overwritten: %+v", r)
	}
}

func TestDoctorRefusesOtherScopes(t *testing.T) {
	if r := run(t, nil, "doctor", "--scope", "conectivity"); r.code != codeUsage || !strings.Contains(r.stderr, "did you mean 'connectivity'?") {
		t.Errorf("%+v", r)
	}
}

// The lines for people have a mark, evidence and a fix.
func TestDoctorAsksTheNode(t *testing.T) {
	var stdout, stderr syncBuffer
	e := environment{stdin: strings.NewReader(""), stdout: &stdout, stderr: &stderr, getenv: func(string) string { return "" }}
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	done := make(chan error, 1)
	go func() {
		done <- newApp(e).RunContext(ctx, []string{
			"kage-mesh", "join", "--state-dir", t.TempDir(), "--no-mdns", "--name", "lonely",
			"--api-listen", "127.0.0.1:0", "--peer-listen", "127.0.0.1:0", "--gossip-listen", "127.0.0.1:0", "--ollama", "127.0.0.1:1",
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
	r := run(t, nil, "doctor", "--scope", "services", "--scope", "models", "--fix-hints", "--api", api)
	for _, want := range []string{
		`(?m)^✗ ollama +nothing listens at http://127\.0\.0\.1:1\n +fix: .*ollama.*\n +why: `,
		`(?m)^✗ models +no node of the mesh has an Ollama that answers`,
		`(?m)^✓ ports +clients 127\.0\.0\.1:\d+, peers .* all of this node \(pid \d+\)$`,
		`(?m)^✓ descriptors `,
		`\d+ passed, \d+ warnings?, 2 failed\n$`,
	} {
		if !regexp.MustCompile(want).MatchString(r.stdout) {
			t.Errorf("no line %s in\n%s", want, r.stdout)
		}
	}
	if r.code != codeFailure || !strings.Contains(r.stderr, "2 checks failed") {
		t.Errorf("%d %s", r.code, r.stderr)
	}
	if r := run(t, nil, "leave", "--api", api); r.code != 0 {
		t.Errorf("leave: %+v", r)
	}
	if err := <-done; err != nil {
		t.Errorf("join ended with %v", err)
	}
}
