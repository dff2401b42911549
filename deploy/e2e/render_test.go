//go:build linux || darwin

package e2e

import (
	"bytes"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"testing"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/deploy/realollama"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/deploy/tinymodels"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/render"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/wire"
)

// The prompt that we render is the one that Ollama renders: given raw, it has
// as many tokens and leads to the same text. That holds for every model and
// every request here, also for a part of the answer given back with it.
func TestOurRenderingIsOllamasOwn(t *testing.T) {
	o := realollama.Start(t, realollama.Options{Models: tinymodels.Names()})
	options := map[string]any{"temperature": 0, "num_predict": 20, "repeat_penalty": 1.1}
	turns := func(pairs ...string) []map[string]any {
		var out []map[string]any
		for i := 0; i+1 < len(pairs); i += 2 {
			out = append(out, map[string]any{"role": pairs[i], "content": pairs[i+1]})
		}
		return out
	}
	requests := []struct {
		name  string
		kind  wire.Kind
		path  string
		think bool // for models that think
		body  map[string]any
	}{
		{"prompt", wire.Generate, "/api/generate", false, map[string]any{"prompt": "hello there"}},
		{"prompt and system", wire.Generate, "/api/generate", false, map[string]any{"prompt": "hello there", "system": "be <brief> & kind"}},
		{"prompt and template", wire.Generate, "/api/generate", false, map[string]any{"prompt": "hello", "template": "<|user|>{{ .Prompt }}!<|end|><|assistant|>"}},
		{"raw prompt", wire.Generate, "/api/generate", false, map[string]any{"prompt": "<|user|>hello<|end|><|assistant|>", "raw": true}},
		{"one message", wire.Chat, "/api/chat", false, map[string]any{"messages": turns("user", "hello")}},
		{"several turns and a system", wire.Chat, "/api/chat", false, map[string]any{"messages": turns("system", "be brief", "user", "hello", "assistant", " hi", "user", "tell me\nmore")}},
		{"two of one role", wire.Chat, "/api/chat", false, map[string]any{"messages": turns("user", "hello", "user", "there", "assistant", " hi", "assistant", " ho", "user", "x")}},
		{"a trailing answer", wire.Chat, "/api/chat", false, map[string]any{"messages": turns("user", "hello", "assistant", " well")}},
		{"thinking on", wire.Chat, "/api/chat", true, map[string]any{"messages": turns("user", "hello"), "think": true}},
		{"thinking off", wire.Chat, "/api/chat", true, map[string]any{"messages": turns("user", "hello"), "think": false}},
	}
	checked := 0
	for _, model := range tinymodels.Names() {
		if model == "embed" || model == "big" {
			continue // says nothing; and mid's like, but slow
		}
		shown, err := render.ParseModel(raw(t, o, "/api/show", map[string]any{"model": model}))
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range requests {
			if r.think && model != "think" {
				continue
			}
			t.Run(model+"/"+r.name, func(t *testing.T) {
				body := map[string]any{"model": model, "stream": false, "options": options}
				maps.Copy(body, r.body)
				want := ask(t, o, r.path, body)
				data, err := json.Marshal(body)
				if err != nil {
					t.Fatal(err)
				}
				q, err := render.Read(r.kind, data)
				if err != nil {
					t.Fatal(err)
				}
				prompt, err := shown.Prompt(q)
				if err != nil {
					t.Fatal(err)
				}
				got := ask(t, o, "/api/generate", map[string]any{"model": model, "stream": false, "raw": true, "prompt": prompt, "options": options})
				if got.PromptEvalCount != want.PromptEvalCount || got.text() != want.text() && !r.think {
					t.Errorf("%q leads to %d tokens and %q, want %d and %q", prompt, got.PromptEvalCount, got.text(), want.PromptEvalCount, want.text())
				}
				checked++
			})
		}
	}
	t.Logf("%d prompts are the same as Ollama's", checked)
}

// reply of a server, in one piece.
type oneReply struct {
	Response        string
	Message         struct{ Content, Thinking string }
	PromptEvalCount int `json:"prompt_eval_count"`
	Error           string
}

func (r oneReply) text() string { return r.Response + r.Message.Content }

func ask(t *testing.T, o *realollama.Ollama, path string, body map[string]any) (r oneReply) {
	t.Helper()
	if err := json.Unmarshal(raw(t, o, path, body), &r); err != nil || r.Error != "" {
		t.Fatalf("%s: %v %s", path, err, r.Error)
	}
	return r
}

func raw(t *testing.T, o *realollama.Ollama, path string, body map[string]any) []byte {
	t.Helper()
	data, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, o.URL+path, bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := o.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer
}
