//go:build linux || darwin

package realollama

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestTwoServersSayTheSame(t *testing.T) {
	a := Start(t, Options{Models: []string{"tiny", "short"}})
	b := Start(t, Options{Models: []string{"tiny"}})
	if a.URL == b.URL {
		t.Fatalf("both at %s", a.URL)
	}
	if got := names(t, a); !slices.Equal(got, []string{"short:latest", "tiny:latest"}) {
		t.Errorf("models %v", got)
	}
	first, second := generate(t, a, "tiny"), generate(t, b, "tiny")
	if first != second || strings.Count(first, " ") < 5 {
		t.Errorf("%q and %q, want the same words", first, second)
	}
	if got := generate(t, a, "short"); got != " one two three." {
		t.Errorf("short said %q", got)
	}
}

func TestRemovingALinkedModelLeavesTheOthers(t *testing.T) {
	a := Start(t, Options{Models: []string{"tiny"}})
	if out, err := a.CLI(t.Context(), "rm", "tiny").CombinedOutput(); err != nil {
		t.Fatalf("rm: %v: %s", err, out)
	}
	if got := names(t, a); len(got) != 0 {
		t.Errorf("models %v after rm", got)
	}
	b := Start(t, Options{Models: []string{"tiny"}})
	if got := names(t, b); len(got) != 1 {
		t.Errorf("models %v of a new server", got)
	}
}

func TestKillEndsTheRunnersAndRestartBringsTheServerBack(t *testing.T) {
	o := Start(t, Options{Models: []string{"tiny"}})
	before, url := generate(t, o, "tiny"), o.URL
	if !strings.Contains(o.Log(), "runner") {
		t.Error("the log says nothing of a runner: it may not be in the server's group")
	}
	group := o.server.Load().Pid()
	o.Kill()
	// The kernel reaps orphans a moment after their end.
	for end := time.Now().Add(10 * time.Second); !errors.Is(syscall.Kill(-group, 0), syscall.ESRCH); {
		if time.Now().After(end) {
			t.Fatal("something of the group outlived Kill")
		}
	}
	if _, err := ask(t, o, "tiny"); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("a killed server answers: %v", err)
	}
	o.Restart()
	if o.URL != url {
		t.Errorf("restarted at %s, was at %s", o.URL, url)
	}
	if after := generate(t, o, "tiny"); after != before {
		t.Errorf("said %q after the restart and %q before", after, before)
	}
}

func TestAFrozenServerHoldsTheRequest(t *testing.T) {
	o := Start(t, Options{Models: []string{"tiny"}})
	want := generate(t, o, "tiny")
	o.Freeze()
	answered := make(chan string, 1)
	go func() {
		text, _ := ask(t, o, "tiny")
		answered <- text
	}()
	select {
	case text := <-answered:
		t.Fatalf("a frozen server answered %q", text)
	case <-time.After(300 * time.Millisecond):
	}
	o.Thaw()
	if got := <-answered; got != want {
		t.Errorf("after the thaw %q, want %q", got, want)
	}
}

func TestOptionsReachTheServer(t *testing.T) {
	o := Start(t, Options{Env: []string{"OLLAMA_NUM_PARALLEL=3"}})
	if !strings.Contains(o.Log(), "OLLAMA_NUM_PARALLEL:3") {
		t.Errorf("log:\n%s", o.Log())
	}
	out, err := o.CLI(t.Context(), "list").CombinedOutput()
	if err != nil || !strings.Contains(string(out), "NAME") || strings.Contains(string(out), "tiny") {
		t.Errorf("list: %v: %s", err, out)
	}
}

func TestLink(t *testing.T) {
	from, to := t.TempDir(), filepath.Join(t.TempDir(), "models")
	for path, text := range map[string]string{"blobs/sha256-1": "blob", "manifests/library/tiny/latest": "manifest"} {
		file := filepath.Join(from, path)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 { // a second model may share blobs
		if err := link(from, to); err != nil {
			t.Fatal(err)
		}
	}
	manifest := "manifests/library/tiny/latest"
	if err := os.WriteFile(filepath.Join(to, manifest), []byte("changed"), 0o644); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(filepath.Join(from, manifest)); err != nil || string(b) != "manifest" {
		t.Errorf("the template's manifest became %q (%v)", b, err)
	}
	if b, err := os.ReadFile(filepath.Join(to, "blobs/sha256-1")); err != nil || string(b) != "blob" {
		t.Errorf("blob %q, %v", b, err)
	}
}

func names(t *testing.T, o *Ollama) (names []string) {
	t.Helper()
	resp, err := o.Client().Get(o.URL + "/api/tags")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var tags struct{ Models []struct{ Name string } }
	if err := json.NewDecoder(resp.Body).Decode(&tags); err != nil {
		t.Fatal(err)
	}
	for _, m := range tags.Models {
		names = append(names, m.Name)
	}
	slices.Sort(names)
	return names
}

func generate(t *testing.T, o *Ollama, model string) string {
	t.Helper()
	text, err := ask(t, o, model)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func ask(t *testing.T, o *Ollama, model string) (string, error) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	body, err := json.Marshal(map[string]any{
		"model": model, "prompt": "hello", "stream": false,
		"options": map[string]any{"temperature": 0, "num_predict": 12},
	})
	if err != nil {
		return "", err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, o.URL+"/api/generate", bytes.NewReader(body))
	if err != nil {
		return "", err
	}
	resp, err := o.Client().Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return "", err
	}
	var answer struct{ Response, Error string }
	if err := json.Unmarshal(b, &answer); err != nil {
		return "", err
	}
	if answer.Error != "" {
		return "", errors.New(answer.Error)
	}
	return answer.Response, nil
}
