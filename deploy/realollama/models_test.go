//go:build linux || darwin

package realollama

import (
	"bytes"
	"encoding/json"
	"maps"
	"net/http"
	"strings"
	"testing"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/deploy/tinymodels"
)

// answer is what /api/chat says, as far as the models differ in it.
type answer struct {
	Message struct {
		Content, Thinking string
		ToolCalls         []struct {
			Function struct {
				Name      string
				Arguments map[string]any
			}
		} `json:"tool_calls"`
	}
	DoneReason string `json:"done_reason"`
	EvalCount  int    `json:"eval_count"`
	Error      string
}

func TestEveryModelDoesWhatItIsFor(t *testing.T) {
	o := Start(t, Options{Models: tinymodels.Names()})
	if got := len(names(t, o)); got != len(tinymodels.Names()) {
		t.Fatalf("%d models of %d", got, len(tinymodels.Names()))
	}
	words := func(a answer) bool {
		return strings.Count(a.Message.Content, " ") >= 10 && a.DoneReason == "length" && a.EvalCount == 16
	}
	for _, c := range []struct {
		model   string
		request map[string]any
		good    func(answer) bool
	}{
		{"tiny", nil, words},
		{"tiny2", nil, words},
		{"mid", nil, words},
		{"big", nil, words},
		{"legacy", nil, words},
		{"native", nil, words},
		{"prefill", nil, words},
		{"ambig", nil, func(a answer) bool { return a.Message.Content != "" && a.DoneReason == "length" }},
		{"short", nil, func(a answer) bool { return a.Message.Content == " one two three." && a.DoneReason == "stop" }},
		{"utf8", nil, func(a answer) bool { return strings.HasPrefix(a.Message.Content, " look😀 café") }},
		{"loop", nil, func(a answer) bool { return strings.Count(a.Message.Content, " la") >= 10 }},
		{"brief", map[string]any{"options": map[string]any{}}, func(a answer) bool { return a.DoneReason == "length" && a.EvalCount == 24 }},
		{"think", map[string]any{"think": true}, func(a answer) bool {
			return strings.TrimSpace(a.Message.Thinking) == "let me ponder" && strings.HasPrefix(strings.TrimSpace(a.Message.Content), "answer")
		}},
		{"tool", map[string]any{"tools": []any{map[string]any{"type": "function", "function": map[string]any{
			"name": "get_weather", "description": "weather of a city",
			"parameters": map[string]any{"type": "object", "properties": map[string]any{"city": map[string]any{"type": "string"}}},
		}}}}, func(a answer) bool {
			calls := a.Message.ToolCalls
			return len(calls) == 1 && calls[0].Function.Name == "get_weather" && calls[0].Function.Arguments["city"] == "Paris"
		}},
	} {
		t.Run(c.model, func(t *testing.T) {
			request := map[string]any{
				"model": c.model, "stream": false,
				"messages": []any{map[string]any{"role": "user", "content": "hello"}},
				"options":  map[string]any{"temperature": 0, "num_predict": 16},
			}
			maps.Copy(request, c.request)
			var a answer
			post(t, o, "/api/chat", request, &a)
			if a.Error != "" || !c.good(a) {
				t.Errorf("answer %+v", a)
			}
		})
	}
	t.Run("embed", func(t *testing.T) {
		var a struct{ Embeddings [][]float64 }
		post(t, o, "/api/embed", map[string]any{"model": "embed", "input": []string{"a", "b"}}, &a)
		if len(a.Embeddings) != 2 || len(a.Embeddings[0]) != 64 {
			t.Errorf("%d embeddings", len(a.Embeddings))
		}
	})
}

func post(t *testing.T, o *Ollama, path string, request, answer any) {
	t.Helper()
	body, err := json.Marshal(request)
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, o.URL+path, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := o.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(answer); err != nil {
		t.Fatal(err)
	}
}
