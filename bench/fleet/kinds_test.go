package fleet_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/ollamatest"
)

var weather = []any{map[string]any{"type": "function", "function": map[string]any{
	"name": "weather", "parameters": map[string]any{
		"type": "object", "properties": map[string]any{"city": map[string]any{"type": "string"}}, "required": []string{"city"},
	},
}}}

var blocks = []any{map[string]any{"role": "user", "content": []any{
	map[string]any{"type": "text", "text": "tell "}, map[string]any{"type": "text", "text": "me"},
}}}

var schema = map[string]any{
	"type": "object", "properties": map[string]any{"a": map[string]any{"type": "string"}, "b": map[string]any{"type": "string"}},
	"required": []string{"a", "b"},
}

// What cannot go on from its text alone ends whole by another way, or in a
// clear error of its dialect. It never ends cleanly on a cut answer and never
// says anything twice.
func TestWhatCannotGoOnExactly(t *testing.T) {
	f := start(t, byName,
		owner("a", "0.33.0", 4, ollamatest.Model{Name: "m", Size: 1 << 20, Capabilities: []string{"completion", "tools", "thinking", "insert"}, ThinkTokens: 8}),
		owner("b", "0.33.0", 4, ollamatest.Model{Name: "m", Size: 1 << 20, Capabilities: []string{"completion", "tools", "thinking", "insert"}, ThinkTokens: 8}))
	tests := []struct {
		name, path string
		more       map[string]any
		after      int
		path2      string // how it goes on; "" it ends in an error
		because    string // in the error
	}{
		{"json, greedy", "generate", map[string]any{"format": "json", "think": false}, 3, "restart", ""},
		{"json, warm", "generate", map[string]any{"format": "json", "think": false, "temperature": 0.8}, 3, "", "given format"},
		{"schema, greedy", "chat", map[string]any{"format": schema, "think": false}, 4, "restart", ""},
		{"schema, seeded", "chat", map[string]any{"format": schema, "think": false, "temperature": 0.8, "seed": 7}, 4, "restart", ""},
		{"response_format, warm", "v1-chat", map[string]any{"response_format": map[string]any{"type": "json_object"}, "reasoning_effort": "none", "temperature": nil}, 3, "", "given format"},
		{"seed at a temperature", "generate", map[string]any{"think": false, "temperature": 0.9, "seed": 11}, 12, "restart", ""},
		{"seed at a temperature, OpenAI", "v1-chat", map[string]any{"reasoning_effort": "none", "temperature": 0.9, "seed": 11}, 12, "restart", ""},
		{"tools offered, greedy, nothing sent", "chat", map[string]any{"tools": weather, "think": false}, 0, "", ""},
		{"a tool call was sent", "chat", map[string]any{"tools": weather, "think": false}, 1, "", "tool call"},
		{"a tool call was sent, OpenAI", "v1-chat", map[string]any{"tools": weather, "reasoning_effort": "none"}, 1, "", "tool call"},
		{"suffix, greedy", "generate", map[string]any{"suffix": " end", "system": nil, "think": false}, 6, "restart", ""},
		{"logprobs, greedy", "generate", map[string]any{"logprobs": true, "think": false}, 6, "restart", ""},
		{"logprobs, warm", "generate", map[string]any{"logprobs": true, "think": false, "temperature": 0.8}, 6, "", "log probabilities"},
		{"thinking, greedy, in the thought", "chat", map[string]any{"think": true}, 4, "restart", ""},
		{"thinking, greedy, after the thought", "chat", map[string]any{"think": true}, 14, "restart", ""},
		{"thinking, greedy, OpenAI", "v1-chat", nil, 5, "restart", ""},
		{"thinking, warm, in the thought", "chat", map[string]any{"think": true, "temperature": 0.8}, 4, "exact", ""},
		{"thinking, warm, at its end", "generate", map[string]any{"think": true, "temperature": 0.8}, 8, "exact", ""},
		{"thinking, warm, after the thought", "chat", map[string]any{"think": true, "temperature": 0.8}, 14, "exact", ""},
		{"thinking, warm, OpenAI", "v1-chat", map[string]any{"temperature": nil}, 4, "exact", ""},
		{"warm", "generate", map[string]any{"think": false, "temperature": 0.8}, 9, "exact", ""},
		{"warm by default, OpenAI", "v1-completions", map[string]any{"temperature": nil}, 12, "exact", ""},
		{"own stops", "generate", map[string]any{"think": false, "stop": []string{"-25"}}, 9, "exact", ""},
		{"raw", "generate", map[string]any{"raw": true, "system": nil}, 20, "exact", ""},
		{"messages, greedy", "v1-messages", map[string]any{"thinking": map[string]any{"type": "disabled"}}, 12, "exact", ""},
		{"messages, warm", "v1-messages", map[string]any{"temperature": 0.8, "thinking": map[string]any{"type": "disabled"}}, 12, "exact", ""},
		{"messages, warm, blocks", "v1-messages", map[string]any{"temperature": 0.8, "thinking": map[string]any{"type": "disabled"}, "messages": blocks}, 3, "exact", ""},
		{"messages, greedy, thinking", "v1-messages", map[string]any{"thinking": map[string]any{"type": "enabled"}}, 12, "restart", ""},
		{"messages, warm, thinking", "v1-messages", map[string]any{"temperature": 0.8, "thinking": map[string]any{"type": "enabled"}}, 12, "", "with thinking"},
		{"a tool call was sent, messages", "v1-messages", map[string]any{"thinking": map[string]any{"type": "disabled"}, "tools": []any{map[string]any{"name": "weather", "input_schema": map[string]any{"type": "object"}}}}, 1, "", "tool call"},
		{"responses, greedy", "v1-responses", nil, 12, "restart", ""},
		{"responses, warm", "v1-responses", map[string]any{"temperature": 0.8}, 12, "", "this API"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			const tokens = 40
			r := routeNamed(tt.path)
			body := r.request("m", tokens, tt.more)
			want := listen(t.Context(), f.Node(0).Endpoint(), r.path, body)
			before := f.Node(0).Router().Continued()
			got := struck(t, f, 1, ollamatest.Fault{Kind: ollamatest.Die, After: tt.after}, r.path, body)
			now := f.Node(0).Router().Continued()
			if tt.path2 == "" && tt.because == "" { // not one byte was sent: tried again, not continued
				if err := got.whole(); err != nil || got.calls != want.calls {
					t.Errorf("%v: %+v", err, got)
				}
				return
			}
			if tt.path2 == "" {
				if err := got.broken(); err != nil || !strings.Contains(got.failure, tt.because) {
					t.Errorf("%v: failure %q", err, got.failure)
				}
				return
			}
			if err := got.whole(); err != nil {
				t.Fatalf("%v: %+v", err, got)
			}
			key := router.ContinuedKey{Cause: "reset", Path: tt.path2}
			if now.Breaks[key] != before.Breaks[key]+1 {
				t.Errorf("it went on some other way: %+v, before %+v", now.Breaks, before.Breaks)
			}
			if sampled, set := tt.more["temperature"]; set && sampled != 0 && tt.more["seed"] == nil {
				// Another sample, but in order and without a gap.
				for _, text := range []string{got.text, got.thinking} {
					if a, err := ollamatest.Parse(text); text != "" && err != nil {
						t.Errorf("%+v %v: %q", a, err, text)
					}
				}
				if a, _ := ollamatest.Parse(got.thinking); got.thinking != "" && a.Tokens != 8 {
					t.Errorf("thought %q", got.thinking)
				}
			} else if got.text != want.text || got.thinking != want.thinking {
				t.Errorf("got %q and %q,\nwant %q and %q", got.thinking, got.text, want.thinking, want.text)
			}
			if tt.more["format"] != nil && !json.Valid([]byte(got.text)) {
				t.Errorf("no single JSON value: %s", got.text)
			}
			if got.output != want.output && got.output != 0 && tt.more["temperature"] == nil {
				t.Errorf("%d tokens, want %d", got.output, want.output)
			}
		})
	}
}

type route = struct {
	name, path string //nolint:unused // the alias must be the table's own type
	request    func(model string, tokens int, more map[string]any) map[string]any
}

func routeNamed(name string) route {
	for _, r := range routes {
		if r.name == name {
			return r
		}
	}
	panic(name)
}

// A second run that says something else, because the other node is not the
// same, ends in an error when the one that began is gone; while that one lives
// it goes on itself.
func TestASecondRunThatDiffers(t *testing.T) {
	r := routeNamed("generate")
	for _, kind := range []ollamatest.Kind{ollamatest.Kill, ollamatest.Die} {
		f := start(t, byName,
			owner("a", "0.33.0", 4, ollamatest.Model{Name: "m", Size: 1 << 20}),
			owner("b", "0.11.4", 4, ollamatest.Model{Name: "m", Size: 1 << 20})) // other defaults
		h := struck(t, f, 1, ollamatest.Fault{Kind: kind, After: 5}, r.path,
			r.request("m", 20, map[string]any{"temperature": 0.8, "seed": 3}))
		if kind == ollamatest.Die {
			if err := h.whole(); err != nil || h.note != "1 restart" {
				t.Errorf("%v: %+v", err, h)
			}
			continue
		}
		if err := h.broken(); err != nil || !strings.Contains(h.failure, "something else") {
			t.Errorf("%v: %+v", err, h)
		}
	}
}

// The versions before 0.30 penalise repetition by default, the newer ones do
// not: the one that goes on does as the one that began.
func TestDefaultsOfTheFirstNodeHold(t *testing.T) {
	for _, versions := range [][2]string{{"0.11.4", "0.33.0"}, {"0.33.0", "0.11.4"}} {
		f := start(t, byName,
			owner("a", versions[0], 4, ollamatest.Model{Name: "m", Size: 1 << 20}),
			owner("b", versions[1], 4, ollamatest.Model{Name: "m", Size: 1 << 20}))
		r := routeNamed("chat")
		body := r.request("m", 30, nil)
		want := listen(t.Context(), f.Node(0).Endpoint(), r.path, body)
		got := struck(t, f, 1, ollamatest.Fault{Kind: ollamatest.Die, After: 11}, r.path, body)
		if err := got.whole(); err != nil || got.text != want.text || ollamatest.Verify(got.text, 30) != nil {
			t.Errorf("%v: %v, got %q, want %q", versions, err, got.text, want.text)
		}
	}
}

// The model's own num_predict bounds the whole answer, too.
func TestTheModelsOwnLimitHolds(t *testing.T) {
	m := ollamatest.Model{Name: "m", Size: 1 << 20, Answer: -1, Options: map[string]any{"num_predict": 24}}
	f := start(t, byName, owner("a", "0.33.0", 4, m), owner("b", "0.33.0", 4, m))
	r := routeNamed("generate")
	for _, k := range []int{10, 24} {
		h := struck(t, f, 1, ollamatest.Fault{Kind: ollamatest.Die, After: k}, r.path, r.request("m", 0, nil))
		if err := h.whole(); err != nil || ollamatest.Verify(h.text, 24) != nil || h.reasons[0] != "length" || h.output != 24 {
			t.Errorf("after %d: %v, %+v", k, err, h)
		}
	}
}

// Ollama's guard against endless repetition just ends the stream. That is its
// answer, not a death.
func TestARunawayIsNotContinued(t *testing.T) {
	m := ollamatest.Model{Name: "m", Size: 1 << 20, Loop: true}
	f := start(t, byName, owner("a", "0.33.0", 4, m), owner("b", "0.33.0", 4, m))
	for _, r := range routes[:4] {
		h := listen(t.Context(), f.Node(0).Endpoint(), r.path, r.request("m", 500, nil))
		if h.failure != "" || h.err != nil || h.marks != 0 || strings.Count(h.text, " la") != 31 {
			t.Errorf("%s: %+v", r.name, h)
		}
		h = struck(t, f, 1, ollamatest.Fault{Kind: ollamatest.Die, After: 9}, r.path, r.request("m", 500, nil))
		if h.failure != "" || h.err != nil || h.marks != 0 || strings.Count(h.text, " la") != 9+31 {
			t.Errorf("%s, continued: %d words, %+v", r.name, strings.Count(h.text, " la"), h)
		}
	}
	if c := f.Node(0).Router().Continued(); c.Lost != 0 || c.Whole != 4 {
		t.Errorf("counted %+v", c)
	}
}

func TestContinuationCanBeTurnedOff(t *testing.T) {
	f := start(t, byName,
		owner("a", "0.33.0", 4, ollamatest.Model{Name: "m", Size: 1 << 20}),
		owner("b", "0.33.0", 4, ollamatest.Model{Name: "m", Size: 1 << 20}))
	for _, r := range routes {
		h := struck(t, f, 1, ollamatest.Fault{Kind: ollamatest.Die, After: 5}, r.path, r.request("m", 20, nil), "X-Kage-Continue", "off")
		if err := h.broken(); err != nil || !strings.Contains(h.failure, "continuation is off") {
			t.Errorf("%s: %v: %+v", r.name, err, h)
		}
	}
}

// An owner whose runner crashed, and lives on, is asked again when nobody else
// has the model.
func TestTheOnlyHolderGetsASecondChance(t *testing.T) {
	f := start(t, nil, owner("a", "0.33.0", 4, ollamatest.Model{Name: "m", Size: 1 << 20}))
	for _, r := range routes[:4] {
		h := struck(t, f, 1, ollamatest.Fault{Kind: ollamatest.Crash, After: 5}, r.path, r.request("m", 20, nil))
		if err := h.whole(); err != nil || ollamatest.Verify(h.text, 20) != nil {
			t.Errorf("%s: %v: %+v", r.name, err, h)
		}
	}
}

// Two breaks of one answer: the third node ends it. A third break is one too
// many.
func TestAnAnswerIsContinuedTwice(t *testing.T) {
	m := ollamatest.Model{Name: "m", Size: 1 << 20}
	f := start(t, byName, owner("a", "0.33.0", 4, m), owner("b", "0.33.0", 4, m), owner("c", "0.33.0", 4, m), owner("d", "0.33.0", 4, m))
	// Also the question for the prompt goes there, so the fault stays.
	die := ollamatest.Fault{Kind: ollamatest.Die, After: 7, Path: "/api/generate", Times: ollamatest.Always}
	for _, r := range routes[:4] {
		heal := f.Node(2).Ollama.Fault(die)
		h := struck(t, f, 1, ollamatest.Fault{Kind: ollamatest.Die, After: 5}, r.path, r.request("m", 30, nil))
		if err := h.whole(); err != nil || ollamatest.Verify(h.text, 30) != nil || !strings.Contains(h.note, "2 exact") || h.output != 30 {
			t.Errorf("%s: %v: %+v", r.name, err, h)
		}
		worse := f.Node(3).Ollama.Fault(die)
		h = struck(t, f, 1, ollamatest.Fault{Kind: ollamatest.Die, After: 5}, r.path, r.request("m", 30, nil))
		if err := h.broken(); err != nil || !strings.Contains(h.failure, "too many nodes failed") {
			t.Errorf("%s, third break: %v: %+v", r.name, err, h)
		}
		heal()
		worse()
	}
}

// An answer in one piece is not begun before it is whole: it is tried again
// and there is nothing to continue.
func TestNoContinuationForWhatIsNoStream(t *testing.T) {
	f := start(t, byName,
		owner("a", "0.33.0", 4, ollamatest.Model{Name: "m", Size: 1 << 20}),
		owner("b", "0.33.0", 4, ollamatest.Model{Name: "m", Size: 1 << 20}))
	for _, r := range routes[:4] {
		f.Node(1).Ollama.Fault(ollamatest.Fault{Kind: ollamatest.Die, After: 5, Path: r.path})
		h := listen(t.Context(), f.Node(0).Endpoint(), r.path, r.request("m", 20, map[string]any{"stream": false, "stream_options": nil}))
		if h.status != http.StatusOK || h.failure != "" || h.err != nil || h.note != "" {
			t.Errorf("%s: %+v", r.name, h)
		}
	}
	if c := f.Node(0).Router().Continued(); len(c.Breaks) != 0 {
		t.Errorf("counted %+v", c)
	}
}
