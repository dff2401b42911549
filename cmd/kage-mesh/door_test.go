package main

import (
	"strings"
	"testing"
)

func TestAPIKeysByCommandLine(t *testing.T) {
	dir := t.TempDir()
	add := run(t, nil, "apikeys", "add", "--state-dir", dir, "--rate", "30", "webui")
	if add.code != 0 || !strings.HasPrefix(add.stdout, "kma-") || strings.Count(add.stdout, "\n") != 1 {
		t.Fatalf("add: %+v", add)
	}
	list := run(t, nil, "apikeys", "list", "--state-dir", dir)
	if !strings.Contains(list.stdout, "webui") || !strings.Contains(list.stdout, "30") || strings.Contains(list.stdout, strings.TrimSpace(add.stdout)) {
		t.Errorf("list: %+v", list)
	}
	if r := run(t, nil, "apikeys", "add", "--state-dir", dir, "webui"); r.code != codeFailure || !strings.Contains(r.stderr, "fix: choose another name") {
		t.Errorf("the same name again: %+v", r)
	}
	if r := run(t, nil, "apikeys", "add", "--state-dir", dir, "--scope", "root", "x"); r.code != codeUsage {
		t.Errorf("a scope that does not exist: %+v", r)
	}
	if r := run(t, nil, "apikeys", "remove", "--state-dir", dir, "webui"); r.code != 0 {
		t.Errorf("remove: %+v", r)
	}
	if r := run(t, nil, "apikeys", "remove", "--state-dir", dir, "webui"); r.code != codeFailure {
		t.Errorf("remove again: %+v", r)
	}
}

func TestDoorFlagsThatMakeNoSense(t *testing.T) {
	for _, args := range [][]string{
		{"--allow", "lan"}, {"--allow", "10.0.0.0/33"}, {"--origins", "http://*.*"}, {"--tls-cert", "a.pem"},
	} {
		join := append([]string{"join", "--state-dir", t.TempDir(), "--no-mdns"}, args...)
		if r := run(t, nil, join...); r.code != codeUsage || !strings.Contains(r.stderr, "fix: ") {
			t.Errorf("%v: %+v", args, r)
		}
	}
}

// A node that was given itself as Ollama says so and does not start.
func TestANodeIsNoOllama(t *testing.T) {
	r := run(t, nil, "join", "--state-dir", t.TempDir(), "--no-mdns", "--api-listen", "127.0.0.1:39435",
		"--peer-listen", "127.0.0.1:0", "--gossip-listen", "127.0.0.1:0", "--ollama", "127.0.0.1:39435")
	if r.code != codeFailure || !strings.Contains(r.stderr, "is a kage-mesh node") || !strings.Contains(r.stderr, "fix: set --ollama") {
		t.Errorf("%+v", r)
	}
}
