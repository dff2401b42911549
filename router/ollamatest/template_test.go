package ollamatest

import (
	"slices"
	"strings"
	"testing"
)

const legacyTemplate = `{{ if .System }}<|system|>{{ .System }}<|end|>{{ end }}{{ if .Prompt }}<|user|>{{ .Prompt }}<|end|>{{ end }}<|assistant|>{{ .Response }}<|end|>`

func TestRender(t *testing.T) {
	caps := func(c ...string) []string { return append([]string{"completion"}, c...) }
	talk := []Message{
		{Role: "system", Content: "be brief"},
		{Role: "user", Content: "hi"},
		{Role: "assistant", Content: "hello", Thinking: "hm"},
		{Role: "user", Content: "and?"},
	}
	open := append(slices.Clip(talk), Message{Role: "assistant", Content: "so"})
	for _, tt := range []struct {
		name  string
		model Model
		turn  turn
		want  string
	}{
		{
			"plain",
			Model{},
			turn{messages: talk},
			"<|system|>be brief<|end|><|user|>hi<|end|><|assistant|>hello<|end|><|user|>and?<|end|><|assistant|>",
		},
		{
			"default system message",
			Model{System: "you are m"},
			turn{messages: talk[1:2]},
			"<|system|>you are m<|end|><|user|>hi<|end|><|assistant|>",
		},
		{
			"trailing assistant, closed",
			Model{},
			turn{messages: open[3:]},
			"<|user|>and?<|end|><|assistant|>so<|end|><|assistant|>",
		},
		{
			"trailing assistant, open",
			Model{OpenTurn: true},
			turn{messages: open[3:]},
			"<|user|>and?<|end|><|assistant|>so",
		},
		{
			"open, but not asked for",
			Model{OpenTurn: true},
			turn{messages: talk[3:]},
			"<|user|>and?<|end|><|assistant|>",
		},
		{
			"neighbours of one role",
			Model{},
			turn{messages: []Message{{Role: "user", Content: "a"}, {Role: "user", Content: "b"}}},
			"<|user|>a\n\nb<|end|><|assistant|>",
		},
		{
			"thinking",
			Model{Capabilities: caps("thinking")},
			turn{messages: talk[2:], think: true, isSet: true},
			"<|assistant|><think>hm</think>hello<|end|><|user|>and?<|end|><|assistant|>",
		},
		{
			"thinking forbidden",
			Model{Capabilities: caps("thinking")},
			turn{messages: talk[3:], isSet: true},
			"<|user|>and?<|end|><|assistant|><think></think>",
		},
		{
			"images",
			Model{},
			turn{messages: []Message{{Role: "user", Content: "see", Images: [][]byte{{1}, {2}}}}},
			"<|user|>[img-0][img-1]see<|end|><|assistant|>",
		},
		{"tools", Model{Capabilities: caps("tools")}, turn{
			messages: []Message{{Role: "assistant", ToolCalls: []toolCall{{Function: functionCall{Name: "f", Arguments: rawValue(`{"a":1}`)}}}}, {Role: "tool", Content: "7"}},
			tools:    []tool{{Type: "function", Function: toolFunction{Name: "f", Parameters: rawValue(`{}`)}}},
		}, `<|system|>Tools: {"type":"function","function":{"name":"f","parameters":{}}}<|end|>` +
			`<|assistant|>{"name":"f","parameters":{"a":1}}<|end|><|tool|>7<|end|><|assistant|>`},
		{
			"old style",
			Model{Template: legacyTemplate},
			turn{messages: talk},
			"<|system|>be brief<|end|><|user|>hi<|end|><|assistant|>hello<|end|><|user|>and?<|end|><|assistant|>",
		},
		{
			"old style, trailing assistant",
			Model{Template: legacyTemplate},
			turn{messages: open[3:]},
			"<|user|>and?<|end|><|assistant|>so",
		},
		{"without response", Model{Template: "{{ .Prompt }}!"}, turn{messages: talk[1:2]}, "hi!"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.model.Name = "m"
			e, err := New(Config{Models: []Model{tt.model}}).catalog.find("m")
			if err != nil {
				t.Fatal(err)
			}
			got, _, err := renderChat(e, tt.turn)
			if err != nil || got != tt.want {
				t.Errorf("%v\ngot  %q\nwant %q", err, got, tt.want)
			}
		})
	}
}

// The same conversation in every dialect is the same prompt, and so the same
// answer.
func TestDialectsSayTheSame(t *testing.T) {
	const pixel = "iVBORw0KGgo="
	models := []Model{{Name: "m", Answer: 5, Capabilities: []string{"completion", "tools", "vision"}}}
	inBubble(t, Config{Models: models}, func(t *testing.T, b *bubble) {
		greedyText := func(path, request string) string {
			t.Helper()
			text := b.answer(path, request)
			if text == "" {
				t.Errorf("%s: no text", path)
			}
			return text
		}
		t.Log("a conversation with a system message and an image")
		want := greedyText("/api/chat", `{"model":"m","options":{"temperature":0},"messages":[
			{"role":"system","content":"brief"},{"role":"user","content":"one"},{"role":"assistant","content":"two"},
			{"role":"user","content":"see","images":["`+pixel+`"]}]}`)
		for path, request := range map[string]string{
			"/v1/chat/completions": `{"model":"m","temperature":0,"messages":[
				{"role":"system","content":"brief"},{"role":"user","content":[{"type":"text","text":"one"}]},{"role":"assistant","content":"two"},
				{"role":"user","content":[{"type":"image_url","image_url":{"url":"data:image/png;base64,` + pixel + `"}},{"type":"text","text":"see"}]}]}`,
			"/v1/messages": `{"model":"m","temperature":0,"max_tokens":99,"stream":true,"system":[{"type":"text","text":"brief"}],"messages":[
				{"role":"user","content":"one"},{"role":"assistant","content":[{"type":"text","text":"two"}]},
				{"role":"user","content":[{"type":"image","source":{"type":"base64","data":"` + pixel + `"}},{"type":"text","text":"see"}]}]}`,
		} {
			got := greedyText(path, request)
			if path == "/v1/chat/completions" { // parts become messages of their own, which the template joins
				if Verify(got, 5) != nil {
					t.Errorf("%s: %q", path, got)
				}
				continue
			}
			if got != want {
				t.Errorf("%s: %q, want %q", path, got, want)
			}
		}

		t.Log("text only, in the dialect without images")
		want = greedyText("/api/chat", `{"model":"m","options":{"temperature":0},"messages":[
			{"role":"system","content":"brief"},{"role":"user","content":"one"},{"role":"assistant","content":"two"},{"role":"user","content":"three"}]}`)
		for path, request := range map[string]string{
			"/v1/responses": `{"model":"m","temperature":0,"stream":true,"instructions":"brief","input":[
				{"role":"user","content":"one"},{"type":"message","role":"assistant","content":[{"type":"output_text","text":"two"}]},
				{"role":"user","content":[{"type":"input_text","text":"three"}]}]}`,
			"/v1/chat/completions": `{"model":"m","temperature":0,"messages":[{"role":"system","content":"brief"},
				{"role":"user","content":"one"},{"role":"assistant","content":"two"},{"role":"user","content":[{"type":"text","text":"three"}]}]}`,
		} {
			if got := greedyText(path, request); got != want {
				t.Errorf("%s: %q, want %q", path, got, want)
			}
		}

		t.Log("a tool's result is answered in words")
		want = greedyText("/api/chat", `{"model":"m","options":{"temperature":0},"tools":`+weatherTool+`,"messages":[{"role":"user","content":"one"},
			{"role":"assistant","content":"","tool_calls":[{"function":{"name":"weather","arguments":{"city":"x"}}}]},{"role":"tool","content":"rain"}]}`)
		for path, request := range map[string]string{
			"/v1/chat/completions": `{"model":"m","temperature":0,"tools":` + weatherTool + `,"messages":[{"role":"user","content":"one"},
				{"role":"assistant","tool_calls":[{"id":"c","type":"function","function":{"name":"weather","arguments":"{\"city\":\"x\"}"}}]},
				{"role":"tool","tool_call_id":"c","content":"rain"}]}`,
			"/v1/messages": `{"model":"m","temperature":0,"max_tokens":99,"stream":true,
				"tools":[{"name":"weather","input_schema":{"type":"object","required":["city"],"properties":{"city":{"type":"string"}}}}],
				"messages":[{"role":"user","content":"one"},{"role":"assistant","content":[{"type":"tool_use","id":"c","name":"weather","input":{"city":"x"}}]},
				{"role":"user","content":[{"type":"tool_result","tool_use_id":"c","content":"rain"}]}]}`,
		} {
			if got := greedyText(path, request); got != want {
				t.Errorf("%s: %q, want %q", path, got, want)
			}
		}
	})
}

func TestBadContentIsRefused(t *testing.T) {
	inBubble(t, Config{Models: []Model{{Name: "m"}}}, func(t *testing.T, b *bubble) {
		chat := func(content string) string {
			return `{"model":"m","messages":[{"role":"user","content":` + content + `}]}`
		}
		for _, tt := range []struct{ path, request, want string }{
			{"/v1/chat/completions", chat(`[{"type":"text"}]`), "invalid message format"},
			{"/v1/chat/completions", chat(`["x"]`), "invalid message format"},
			{"/v1/chat/completions", chat(`[{"type":"image_url","image_url":"http://x/y.png"}]`), "invalid image input"},
			{"/v1/chat/completions", chat(`[{"type":"image_url","image_url":"data:image/png;base64,%"}]`), "invalid message format"},
			{"/v1/messages", strings.Replace(chat(`"x"`), "{", `{"max_tokens":0,`, 1), "max_tokens is required and must be positive"},
			{"/v1/messages", `{"model":"m","max_tokens":1}`, "messages is required"},
			{"/v1/messages", `{}`, "model is required"},
			{"/v1/responses", `{"model":"m","input":[{"type":"magic"}]}`, `input[0]: unknown input item type`},
			{"/v1/responses", `{"model":"m","input":[{"role":"user","content":5}]}`, `input[0]: content must be a string or array`},
			{"/api/chat", `{"model":"m","messages":[{"role":"user","content":"x","images":["%"]}]}`, "illegal base64 data"},
		} {
			if r := b.post(tt.path, tt.request); r.status != 400 || !strings.Contains(r.body, tt.want) {
				t.Errorf("%s %s: %d %s", tt.path, tt.request, r.status, r.body)
			}
		}
	})
}
