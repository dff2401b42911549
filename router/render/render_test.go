package render

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/wire"
)

const (
	turns  = `{{- range .Messages }}<|{{ .Role }}|>{{ .Content }}<|end|>{{ end }}<|assistant|>`
	open   = `{{- range $i, $_ := .Messages }}{{- $last := eq (len (slice $.Messages $i)) 1 }}<|{{ .Role }}|>{{ .Content }}{{ if not (and $last (eq .Role "assistant")) }}<|end|>{{ end }}{{ if and $last (ne .Role "assistant") }}<|assistant|>{{ end }}{{ end }}`
	legacy = `{{ if .System }}<|system|>{{ .System }}<|end|>{{ end }}{{ if .Prompt }}<|user|>{{ .Prompt }}<|end|>{{ end }}<|assistant|>{{ .Response }}<|end|>`
	think  = `{{- range .Messages }}<|{{ .Role }}|>{{ if .Thinking }}<think>{{ .Thinking }}</think>{{ end }}{{ .Content }}<|end|>{{ end }}<|assistant|>{{ if and $.IsThinkSet (not $.Think) }}<think></think>{{ end }}`
)

func TestPrompt(t *testing.T) {
	chat := `{"model":"m","messages":[{"role":"system","content":"be brief"},{"role":"user","content":"a"},{"role":"assistant","content":"b"},{"role":"USER","content":"c"}]}`
	today := time.Now().Format(time.DateOnly)
	tests := []struct {
		name  string
		model Model
		kind  wire.Kind
		body  string
		want  string // "" it cannot
	}{
		{"generate", Model{Template: turns}, wire.Generate, `{"model":"m","prompt":"hi"}`, "<|user|>hi<|end|><|assistant|>"},
		{"generate, system", Model{Template: turns, System: "own"}, wire.Generate, `{"model":"m","prompt":"hi","system":"yours"}`, "<|system|>yours<|end|><|user|>hi<|end|><|assistant|>"},
		{"generate, the model's system", Model{Template: turns, System: "own"}, wire.Generate, `{"model":"m","prompt":"hi"}`, "<|system|>own<|end|><|user|>hi<|end|><|assistant|>"},
		{"generate, the model's messages", Model{Template: turns, System: "own", Messages: []Message{{Role: "user", Content: "x"}, {Role: "assistant", Content: "y"}}}, wire.Generate, `{"model":"m","prompt":"hi"}`, "<|system|>own<|end|><|user|>x<|end|><|assistant|>y<|end|><|user|>hi<|end|><|assistant|>"},
		{"generate, own template", Model{Template: turns}, wire.Generate, `{"model":"m","prompt":"hi","template":"Q: {{ .Prompt }} A:"}`, "Q: hi A:"},
		{"generate, raw", Model{Template: turns, System: "own"}, wire.Generate, `{"model":"m","prompt":"hi","raw":true}`, "hi"},
		{"chat", Model{Template: turns}, wire.Chat, chat, "<|system|>be brief<|end|><|user|>a<|end|><|assistant|>b<|end|><|user|>c<|end|><|assistant|>"},
		{"chat, the model's system is not asked", Model{Template: turns, System: "own"}, wire.Chat, chat, "<|system|>be brief<|end|><|user|>a<|end|><|assistant|>b<|end|><|user|>c<|end|><|assistant|>"},
		{"chat, the model's system", Model{Template: turns, System: "own"}, wire.Chat, `{"model":"m","messages":[{"role":"user","content":"a"}]}`, "<|system|>own<|end|><|user|>a<|end|><|assistant|>"},
		{"chat, prefill", Model{Template: open}, wire.Chat, `{"model":"m","messages":[{"role":"user","content":"a"},{"role":"assistant","content":"b"}]}`, "<|user|>a<|end|><|assistant|>b"},
		{"chat, neighbours of one role", Model{Template: turns}, wire.Chat, `{"model":"m","messages":[{"role":"user","content":"a"},{"role":"user","content":"b"}]}`, "<|user|>a\n\nb<|end|><|assistant|>"},
		{"chat, results of tools stay apart", Model{Template: turns}, wire.Chat, `{"model":"m","messages":[{"role":"tool","content":"a"},{"role":"tool","content":"b"}]}`, "<|tool|>a<|end|><|tool|>b<|end|><|assistant|>"},
		{"chat, all systems at once", Model{Template: `{{ .System }}|{{ range .Messages }}{{ .Role }} {{ end }}`}, wire.Chat, `{"model":"m","messages":[{"role":"system","content":"a"},{"role":"user","content":"x"},{"role":"system","content":"b"}]}`, "a\n\nb|system user system "},
		{"chat, calls of tools", Model{Template: `{{ range .Messages }}{{ range .ToolCalls }}{{ .Function.Name }}({{ .Function.Arguments }}){{ json .Function.Arguments }}{{ end }}{{ .Content }}{{ end }}`}, wire.Chat, `{"model":"m","messages":[{"role":"assistant","tool_calls":[{"function":{"name":"f","arguments":{"b":1,"a":"x"}}}]},{"role":"user","content":"go"}]}`, `f({"a":"x","b":1}){"a":"x","b":1}go`},
		{"old style, generate", Model{Template: legacy}, wire.Generate, `{"model":"m","prompt":"hi","system":"s"}`, "<|system|>s<|end|><|user|>hi<|end|><|assistant|>"},
		{"old style, chat", Model{Template: legacy}, wire.Chat, chat, "<|system|>be brief<|end|><|user|>a<|end|><|assistant|>b<|end|><|user|>c<|end|><|assistant|>"},
		{"old style, a trailing answer stays open", Model{Template: legacy}, wire.Chat, `{"model":"m","messages":[{"role":"user","content":"a"},{"role":"assistant","content":"b"}]}`, "<|user|>a<|end|><|assistant|>b"},
		{"old style, no place for the answer", Model{Template: `Q: {{ .Prompt }} A:`}, wire.Chat, `{"model":"m","messages":[{"role":"user","content":"a"},{"role":"assistant","content":" b"},{"role":"user","content":"c"}]}`, "Q: a A: bQ: c A:"},
		{"old style, a condition around the answer", Model{Template: `{{ if .Prompt }}[{{ .Prompt }}{{ end }}{{ if .Response }}{{ .Response }}]{{ end }}tail`}, wire.Generate, `{"model":"m","prompt":"hi"}`, "[hi"},
		{"thinking unset", Model{Template: think}, wire.Chat, `{"model":"m","messages":[{"role":"user","content":"a"}]}`, "<|user|>a<|end|><|assistant|>"},
		{"thinking on", Model{Template: think}, wire.Chat, `{"model":"m","think":true,"messages":[{"role":"user","content":"a"}]}`, "<|user|>a<|end|><|assistant|>"},
		{"thinking off", Model{Template: think}, wire.Chat, `{"model":"m","think":false,"messages":[{"role":"user","content":"a"}]}`, "<|user|>a<|end|><|assistant|><think></think>"},
		{"thinking off, OpenAI", Model{Template: think}, wire.V1Chat, `{"model":"m","reasoning_effort":"none","messages":[{"role":"user","content":"a"}]}`, "<|user|>a<|end|><|assistant|><think></think>"},
		{"a level of thinking", Model{Template: `{{ .ThinkLevel }} {{ .Think }}{{ range .Messages }}{{ end }}`}, wire.V1Chat, `{"model":"m","reasoning":{"effort":"low"},"messages":[{"role":"user","content":"a"}]}`, "low true"},
		{"earlier thoughts of qwen3", Model{Template: turns, Family: "qwen3"}, wire.Chat, `{"model":"m","messages":[{"role":"assistant","content":"<think>\nhm</think>\n\nb"},{"role":"user","content":"c"}]}`, "<|assistant|>b<|end|><|user|>c<|end|><|assistant|>"},
		{"earlier thoughts of another", Model{Template: turns}, wire.Chat, `{"model":"m","messages":[{"role":"assistant","content":"<think>hm</think>b"},{"role":"user","content":"c"}]}`, "<|assistant|><think>hm</think>b<|end|><|user|>c<|end|><|assistant|>"},
		{"OpenAI, parts", Model{Template: turns}, wire.V1Chat, `{"model":"m","messages":[{"role":"user","content":[{"type":"text","text":"a"},{"type":"text","text":"b"}]}]}`, "<|user|>a\n\nb<|end|><|assistant|>"},
		{"OpenAI, name of a tool", Model{Template: `{{ range .Messages }}{{ .Role }}:{{ .ToolName }} {{ end }}`}, wire.V1Chat, `{"model":"m","messages":[{"role":"assistant","content":null,"tool_calls":[{"id":"1","function":{"name":"f","arguments":"{}"}}]},{"role":"tool","tool_call_id":"1","content":"x"}]}`, "assistant: tool:f "},
		{"OpenAI, completion", Model{Template: turns, System: "own"}, wire.V1Completions, `{"model":"m","prompt":"hi"}`, "<|system|>own<|end|><|user|>hi<|end|><|assistant|>"},
		{"date", Model{Template: `{{ currentDate }}{{ .Prompt }}`}, wire.Generate, `{"model":"m","prompt":"x"}`, today + "x"},
		{"a text that looks like a template", Model{Template: turns}, wire.Generate, `{"model":"m","prompt":"{{ .System }}"}`, "<|user|>{{ .System }}<|end|><|assistant|>"},

		{"jinja", Model{Template: `{% for m in messages %}{{ m.content }}{% endfor %}`}, wire.Chat, chat, ""},
		{"no Go template", Model{Template: `{{ if`}, wire.Chat, chat, ""},
		{"a loop without end", Model{Template: `{{ range 1000000000 }}{{ range 1000000000 }}{{ end }}{{ end }}{{ .Prompt }}`}, wire.Generate, `{"model":"m","prompt":"x"}`, ""},
		{"parts that call each other", Model{Template: `{{ define "x" }}{{ template "x" }}{{ template "x" }}{{ end }}{{ range .Messages }}{{ template "x" }}{{ end }}`}, wire.Chat, chat, ""},
		{"no template", Model{}, wire.Chat, chat, ""},
		{"an unknown function", Model{Template: `{{ yell .Prompt }}`}, wire.Generate, `{"model":"m","prompt":"x"}`, ""},
		{"a renderer inside Ollama", Model{Template: turns, Renderer: "qwen3-coder"}, wire.Chat, chat, ""},
		{"channels", Model{Template: turns, Family: "gptoss"}, wire.Chat, chat, ""},
		{"channels by the template", Model{Template: `<|channel|>final{{ .Prompt }}`}, wire.Generate, `{"model":"m","prompt":"x"}`, ""},
		{"an image", Model{Template: turns}, wire.V1Chat, `{"model":"m","messages":[{"role":"user","content":[{"type":"image_url","image_url":"data:"}]}]}`, ""},
		{"a conversation that may not fit", Model{Template: turns, parameters: map[string]string{"num_ctx": "8"}}, wire.Chat, chat, ""},
		{"failing while it executes", Model{Template: `{{ range .Messages }}{{ index .Role 99 }}{{ end }}`}, wire.Chat, chat, ""},
		{"the answer's place is odd", Model{Template: `{{ .Prompt }}{{ printf "%s" .Response | printf "%s" }}`}, wire.Generate, `{"model":"m","prompt":"x"}`, ""},
		{"the answer's place has an else", Model{Template: `{{ .Prompt }}{{ if .System }}{{ .Response }}{{ else }}x{{ end }}`}, wire.Generate, `{"model":"m","prompt":"x"}`, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			q, err := Read(tt.kind, []byte(tt.body))
			got := ""
			if err == nil {
				got, err = tt.model.Prompt(q)
			}
			if got != tt.want || (tt.want == "") != errors.Is(err, ErrCannot) {
				t.Errorf("got %q, %v, want %q", got, err, tt.want)
			}
		})
	}
}

func TestOptions(t *testing.T) {
	tests := []struct {
		name string
		kind wire.Kind
		body string
		want string
	}{
		{"native", wire.Generate, `{"model":"m","prompt":"p","options":{"temperature":0,"stop":["x"],"num_predict":9}}`, `{"num_predict":4,"stop":["x"],"temperature":0}`},
		{"OpenAI's defaults", wire.V1Chat, `{"model":"m","messages":[{"role":"user","content":"a"}]}`, `{"num_predict":4,"temperature":1,"top_p":1}`},
		{"OpenAI's names", wire.V1Chat, `{"model":"m","messages":[],"max_tokens":9,"temperature":0.5,"top_p":0.2,"seed":3,"stop":"x","frequency_penalty":1,"presence_penalty":2}`, `{"frequency_penalty":1,"num_predict":4,"presence_penalty":2,"seed":3,"stop":["x"],"temperature":0.5,"top_p":0.2}`},
		{"several stops", wire.V1Completions, `{"model":"m","prompt":"p","stop":["x","y"]}`, `{"num_predict":4,"stop":["x","y"],"temperature":1,"top_p":1}`},
		{"no stops", wire.V1Chat, `{"model":"m","messages":[],"stop":[]}`, `{"num_predict":4,"temperature":1,"top_p":1}`},
		{"nulls", wire.V1Chat, `{"model":"m","messages":[],"temperature":null,"seed":null,"stop":null}`, `{"num_predict":4,"temperature":1,"top_p":1}`},
		{"a zero that is unset", wire.V1Completions, `{"model":"m","prompt":"p","top_p":0}`, `{"num_predict":4,"temperature":1,"top_p":1}`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			q, err := Read(tt.kind, []byte(tt.body))
			if err != nil {
				t.Fatal(err)
			}
			body, err := q.Continue("PROMPT", 4, nil)
			if err != nil {
				t.Fatal(err)
			}
			var out struct {
				Model, Prompt string
				Raw, Stream   bool
				Options       json.RawMessage
			}
			if err := json.Unmarshal(body, &out); err != nil || out.Model != "m" || out.Prompt != "PROMPT" || !out.Raw || !out.Stream {
				t.Fatalf("%v: %s", err, body)
			}
			if string(out.Options) != tt.want {
				t.Errorf("options %s, want %s", out.Options, tt.want)
			}
		})
	}
}

func TestContinueKeepsWhatBearsOnTheRun(t *testing.T) {
	q, err := Read(wire.Chat, []byte(`{"model":"m","keep_alive":-1,"shift":false,"truncate":true,"messages":[{"role":"user","content":"a"}],"options":{"repeat_penalty":1.3}}`))
	if err != nil {
		t.Fatal(err)
	}
	body, err := q.Continue("p", -1, map[string]float64{"repeat_penalty": 1.1, "top_k": 3})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"keep_alive":-1`, `"shift":false`, `"truncate":true`, `"repeat_penalty":1.3`, `"top_k":3`} {
		if !strings.Contains(string(body), want) {
			t.Errorf("%s lacks %s", body, want)
		}
	}
	if strings.Contains(string(body), "num_predict") {
		t.Errorf("%s has a limit", body)
	}
}

func TestLimit(t *testing.T) {
	tests := []struct {
		name, options, parameters string
		want                      int
		ok                        bool
	}{
		{"none", `{}`, "", 0, false},
		{"the request's", `{"num_predict":7}`, "num_predict 24", 7, true},
		{"the model's", `{}`, "stop            \"<|end|>\"\nnum_predict                    24\n", 24, true},
		{"null is unset", `{"num_predict":null}`, "num_predict 24", 24, true},
		{"0 is without", `{"num_predict":0}`, "num_predict 24", 0, false},
		{"negative is without", `{"num_predict":-1}`, "num_predict 24", 0, false},
		{"no number", `{"num_predict":"x"}`, "", 0, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			q, err := Read(wire.Generate, []byte(`{"model":"m","prompt":"p","options":`+tt.options+`}`))
			if err != nil {
				t.Fatal(err)
			}
			m := &Model{parameters: parseParameters(tt.parameters)}
			if n, ok := q.Limit(m); n != tt.want || ok != tt.ok {
				t.Errorf("%d, %v, want %d, %v", n, ok, tt.want, tt.ok)
			}
		})
	}
}

func TestAsksAndTold(t *testing.T) {
	q, err := Read(wire.V1Chat, []byte(`{"model":"m","messages":[{"role":"user","content":"a"}],"max_tokens":100,"reasoning_effort":"high"}`))
	if err != nil {
		t.Fatal(err)
	}
	path, body, err := q.Asks()
	want := `{"_debug_render_only":true,"messages":[{"role":"user","content":"a"}],"model":"m","options":{"num_predict":1,"temperature":1,"top_p":1},"stream":false,"think":"high"}`
	if err != nil || path != "/api/chat" || string(body) != want {
		t.Errorf("%v: %s %s, want %s", err, path, body, want)
	}
	if got, ok := Told([]byte(`{"model":"m","_debug_info":{"rendered_template":"<|user|>a"}}`)); !ok || got != "<|user|>a" {
		t.Errorf("told %q, %v", got, ok)
	}
	for _, answer := range []string{`{"model":"m","message":{"content":"x"},"done":true}`, `{]`, `{"_debug_info":{"rendered_template":"[img-0]","image_count":1}}`} {
		if got, ok := Told([]byte(answer)); ok {
			t.Errorf("told %q by %s", got, answer)
		}
	}
}

func TestResume(t *testing.T) {
	tests := []struct {
		name                  string
		model                 Model
		prompt, text, thought string
		want, closing         string
		cannot                bool
	}{
		{"text", Model{Template: turns}, "P", " so far", "", "P so far", "", false},
		{"in the thought", Model{Template: think}, "P", "", "hm", "P<think>\nhm", "</think>", false},
		{"after the thought", Model{Template: think}, "P", "so", "hm", "P<think>\nhm\n</think>\n\nso", "", false},
		{"after a thought with its line break", Model{Template: think}, "P", "so", "hm\n", "P<think>\nhm\n</think>\n\nso", "", false},
		{"the prompt opens the thought", Model{Template: think}, "P<think>", "", "hm", "P<think>\nhm", "</think>", false},
		{"with a line break", Model{Template: think}, "P<think>\n", "", "hm", "P<think>\nhm", "</think>", false},
		{"other tags", Model{Template: `{{ range .Messages }}{{ if .Thinking }}<reason>{{ .Thinking }}</reason>{{ end }}{{ .Content }}{{ end }}`}, "P", "", "hm", "P<reason>\nhm", "</reason>", false},
		{"tags of a jinja template", Model{Template: `{% if thinking %}<think>{{ thinking }}</think>{% endif %}`}, "P", "", "hm", "P<think>\nhm", "</think>", false},
		{"no tags known", Model{Template: turns}, "P", "", "hm", "", "", true},
		{"channels", Model{Family: "gptoss"}, "P", "x", "", "", "", true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, closing, err := tt.model.Resume(tt.prompt, tt.text, tt.thought)
			if got != tt.want || closing != tt.closing || errors.Is(err, ErrCannot) != tt.cannot {
				t.Errorf("%q, %q, %v, want %q, %q", got, closing, err, tt.want, tt.closing)
			}
		})
	}
}

// A template of a stranger's model and a request of anybody: never a panic,
// and whatever is rendered holds the last thing that the user said.
func FuzzPrompt(f *testing.F) {
	for _, template := range []string{turns, open, legacy, think, `Q: {{ .Prompt }} A:`, `{{ define "x" }}{{ .Response }}{{ end }}{{ template "x" . }}`} {
		f.Add(template, "hello", "be brief")
	}
	f.Fuzz(func(t *testing.T, template, text, system string) {
		if strings.Contains(template, "printf") {
			t.Skip("a width makes it print any number of blanks, in Ollama as here")
		}
		body, err := json.Marshal(map[string]any{"model": "m", "messages": []Message{{Role: "system", Content: system}, {Role: "user", Content: text}}})
		if err != nil {
			t.Skip(err)
		}
		q, err := Read(wire.Chat, body)
		if err != nil {
			t.Fatal(err)
		}
		m := Model{Template: template}
		prompt, err := m.Prompt(q)
		if err != nil {
			if !errors.Is(err, ErrCannot) {
				t.Errorf("not our error: %v", err)
			}
			return
		}
		if resumed, _, err := m.Resume(prompt, text, ""); err == nil && resumed != prompt+text {
			t.Errorf("%q is not %q and %q", resumed, prompt, text)
		}
		m.tags(prompt)
	})
}

func FuzzRead(f *testing.F) {
	f.Add(uint8(wire.Chat), []byte(`{"model":"m","messages":[{"role":"user","content":"a","tool_calls":[{"function":{"name":"f","arguments":{}}}]}]}`))
	f.Add(uint8(wire.V1Chat), []byte(`{"model":"m","messages":[{"role":"user","content":[{"type":"text","text":"a"}]}],"stop":["x"],"reasoning":{"effort":"low"}}`))
	f.Add(uint8(wire.V1Completions), []byte(`{"model":"m","prompt":"p","top_p":0}`))
	f.Add(uint8(wire.Generate), []byte(`{"model":"m","prompt":"p","options":{"num_predict":3}}`))
	f.Fuzz(func(t *testing.T, kind uint8, body []byte) {
		q, err := Read(wire.Kind(kind), body)
		if err != nil {
			return
		}
		m := &Model{Template: turns}
		q.Limit(m)
		q.Sets(m, "repeat_penalty")
		_, asks, err := q.Asks()
		if err == nil && !json.Valid(asks) {
			t.Errorf("asks %s", asks)
		}
		if next, err := q.Continue("p", 3, map[string]float64{"x": 1}); err == nil && !json.Valid(next) {
			t.Errorf("continues with %s", next)
		}
	})
}
