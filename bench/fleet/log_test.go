package fleet

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/ollamatest"
)

// lockedBuffer takes the log of several nodes.
type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) lines(t *testing.T) (lines []map[string]any, text string) {
	t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	for line := range strings.Lines(b.buf.String()) {
		var fields map[string]any
		if err := json.Unmarshal([]byte(line), &fields); err != nil {
			t.Fatal(err)
		}
		lines = append(lines, fields)
	}
	return lines, b.buf.String()
}

// Each request of a client has one line at info, at its ingress, and nothing
// of its text is anywhere in the log, at no level, whatever went wrong.
func TestOneLinePerRequestAndNoText(t *testing.T) {
	var log lockedBuffer
	f, err := Start(t.Context(), append(ten()[:2], Spec{Name: "router", Hardware: ten()[0].Hardware}), Options{
		Logger: slog.New(slog.NewJSONHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	const secret = "zanzibar"
	entry := f.Node(2).Endpoint()
	Ask(t.Context(), entry, "common", secret, 8, true)
	Ask(t.Context(), entry, "common", secret, 8, false)
	Ask(t.Context(), entry, "nosuch", secret, 8, true)
	for i := range 2 {
		f.Node(i).Ollama.Fault(ollamatest.Fault{Kind: ollamatest.Die, After: 3})
	}
	Ask(t.Context(), entry, "common", secret, 8, true)
	for i := range 2 {
		f.Node(i).Ollama.Fault(ollamatest.Fault{Kind: ollamatest.Status, Status: 400, Text: `{"error":"cannot read ` + secret + `"}`})
	}
	Ask(t.Context(), entry, "common", secret, 8, true)
	Embed(t.Context(), entry, "embed", secret)
	const requests = 6
	var lines []map[string]any
	waitFor(t, "a line for every request", func() bool {
		all, _ := log.lines(t)
		lines = lines[:0]
		for _, l := range all {
			if l["msg"] == "request" && l["level"] == "INFO" {
				lines = append(lines, l)
			}
		}
		return len(lines) >= requests
	})
	if len(lines) != requests {
		t.Errorf("%d lines for %d requests", len(lines), requests)
	}
	ids := map[any]bool{}
	outcomes := map[any]int{}
	for _, l := range lines {
		if l["node"] != "router" {
			t.Errorf("a line at %v, which is not the ingress", l["node"])
		}
		ids[l["request"]] = true
		outcomes[l["outcome"]]++
	}
	if len(ids) != requests || outcomes["ok"] < 3 || outcomes["not-found"] != 1 || outcomes["rejected"] != 1 {
		t.Errorf("%d different ids, outcomes %v", len(ids), outcomes)
	}
	if l := lines[0]; l["owner"] == "" || l["attempts"] != 1.0 || l["tokens"] != 8.0 || l["tokens_per_s"] == 0.0 {
		t.Errorf("the first line: %v", l)
	}
	_, text := log.lines(t)
	if i := strings.Index(text, secret); i >= 0 {
		t.Errorf("the prompt is in the log: %s", text[max(0, i-200):min(len(text), i+100)])
	}
	if answer := answerText.FindString(text); answer != "" {
		t.Errorf("an answer is in the log: %s", answer)
	}
}

// answerText is two tokens of a fake Ollama's answer in a row.
var answerText = regexp.MustCompile(` [0-9a-f]{4}-\d+ [0-9a-f]{4}-\d+`)
