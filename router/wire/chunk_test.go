package wire

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// goldens lists the recorded streams and bodies: 0.11 as a real Ollama 0.11.4
// sent them, 0.33 written after the source of that version.
func goldens(t testing.TB) []string {
	t.Helper()
	names, err := filepath.Glob("testdata/0.*/*")
	if err != nil || len(names) < 20 {
		t.Fatalf("%d golden files, %v", len(names), err)
	}
	return names
}

// streamed is what a Tail and the collected text say of a whole stream.
type streamed struct {
	text, thinking, role    string
	ended, finished, tools  bool
	runaway                 bool
	reason, err             string
	chunks, bad, swallowed  int
	prompt, output          int
	load, eval, fill, total time.Duration
}

func stream(t *testing.T, name string, k Kind, chunk int) (got streamed) {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	tail := NewTail(k)
	var text, thinking []byte
	for _, f := range feed(NewScanner(k.Framing(), 0), raw, chunk) {
		c := f.Inspect(k)
		if c.Text() != string(c.AppendText(nil)) || c.Thinking() != string(c.AppendThinking(nil)) {
			t.Errorf("Text and AppendText differ in %s", f.Raw)
		}
		text, thinking = c.AppendText(text), c.AppendThinking(thinking)
		if c.Role != "" {
			got.role = c.Role
		}
		if c.Swallowed {
			got.swallowed++
		}
		tail.Add(c)
	}
	u := tail.Usage()
	got.text, got.thinking = string(text), string(thinking)
	got.ended, got.finished, got.tools, got.runaway = tail.Ended(), tail.Finished(), tail.ToolCalls(), tail.Runaway()
	got.reason, got.err, got.chunks, got.bad = tail.Reason(), tail.Err(), tail.Chunks(), tail.Malformed()
	got.prompt, got.output = u.PromptTokens, u.OutputTokens
	got.load, got.eval, got.fill, got.total = u.LoadDuration, u.EvalDuration, u.PromptDuration, u.Total
	return got
}

func TestStreams(t *testing.T) {
	la := strings.Repeat(" la", 31)
	tests := []struct {
		file string
		kind Kind
		want streamed
	}{
		{"0.11/generate.ndjson", Generate, streamed{text: " kero medu reruro hoku", ended: true, finished: true, reason: "length", chunks: 4, prompt: 6, output: 4, total: 259479488, load: 256606646, fill: 1021231, eval: 1069117}},
		{"0.11/generate.json", Generate, streamed{text: " kero medu reruro hoku", ended: true, finished: true, reason: "length", chunks: 1, prompt: 6, output: 4, total: 2303380, load: 804588, fill: 469514, eval: 730675}},
		{"0.11/load.json", Generate, streamed{ended: true, finished: true, reason: "load"}},
		{"0.11/error.json", Generate, streamed{err: "invalid JSON schema in format"}},
		{"0.11/chat.ndjson", Chat, streamed{text: " look😀 café", role: "assistant", ended: true, finished: true, reason: "length", chunks: 4, prompt: 6, output: 8, total: 262023528, load: 258669718, fill: 951123, eval: 1925982}},
		{"0.11/chat-think.ndjson", Chat, streamed{text: "answer wufeda nadu", thinking: "let me ponder", role: "assistant", ended: true, finished: true, reason: "length", chunks: 6, prompt: 6, output: 8, total: 259593781, load: 256235183, fill: 929529, eval: 1655525}},
		{"0.11/chat-tool.ndjson", Chat, streamed{role: "assistant", tools: true, ended: true, finished: true, reason: "stop", prompt: 168, output: 4, total: 275212086, load: 259344709, fill: 13457064, eval: 1597356}},
		{"0.11/loop.ndjson", Generate, streamed{text: la, chunks: 31, runaway: true}},
		{"0.11/v1loop.sse", V1Chat, streamed{text: la, role: "assistant", chunks: 31, runaway: true}},
		{"0.11/v1chat.sse", V1Chat, streamed{text: " kero medu reruro hoku", role: "assistant", ended: true, finished: true, reason: "length", chunks: 4, prompt: 6, output: 4}},
		{"0.11/v1tool.sse", V1Chat, streamed{role: "assistant", tools: true, ended: true, finished: true, reason: "tool_calls"}},
		{"0.11/v1completions.sse", V1Completions, streamed{text: " kero medu reruro hoku", ended: true, finished: true, reason: "length", chunks: 4}},

		{"0.33/generate.ndjson", Generate, streamed{text: " kero \"medu\"\n", ended: true, finished: true, reason: "stop", chunks: 2, prompt: 6, output: 3, total: 25947948, load: 2566066, fill: 1021231, eval: 1069117}},
		{"0.33/chat-think-tool.ndjson", Chat, streamed{thinking: "let me 😀", role: "assistant", tools: true, ended: true, finished: true, reason: "stop", chunks: 2, prompt: 168, output: 9, total: 300, load: 100, fill: 50, eval: 150}},
		{"0.33/chat-died.ndjson", Chat, streamed{text: " one two", role: "assistant", chunks: 2, err: "an error was encountered while running the model: unexpected EOF"}},
		{"0.33/pull.ndjson", Pull, streamed{ended: true, finished: true, reason: "success"}},
		{"0.33/pull-failed.ndjson", Pull, streamed{err: `pull model manifest: Get "https://registry.invalid/v2/": dial tcp: no such host`}},
		{"0.33/v1chat.sse", V1Chat, streamed{text: " kero medu", thinking: "hm", role: "assistant", ended: true, finished: true, reason: "stop", chunks: 3, prompt: 6, output: 3}},
		{"0.33/v1chat-died.sse", V1Chat, streamed{text: " one", role: "assistant", chunks: 1, swallowed: 1}},
		{"0.33/v1messages.sse", V1Messages, streamed{text: " one two", thinking: "hm", role: "assistant", tools: true, ended: true, finished: true, reason: "tool_use", chunks: 3, prompt: 31, output: 12}},
		{"0.33/v1responses.sse", V1Responses, streamed{text: " one two", thinking: "hm", ended: true, finished: true, reason: "completed", chunks: 3, prompt: 11, output: 4}},
		{"0.33/v1responses-tool.sse", V1Responses, streamed{tools: true}},
	}
	for _, tt := range tests {
		t.Run(tt.file, func(t *testing.T) {
			for _, chunk := range []int{0, 1, 13} {
				if got := stream(t, tt.file, tt.kind, chunk); got != tt.want {
					t.Errorf("by %d bytes\ngot  %+v\nwant %+v", chunk, got, tt.want)
				}
			}
		})
	}
}

func TestInspect(t *testing.T) {
	tests := []struct {
		name, raw string
		kind      Kind
		want      string // text|thinking|done|reason|error|flags
	}{
		{"escapes", `{"response":"a\n\"\u00e9\ud83d\ude00"}` + "\n", Generate, "a\n\"é😀||false|||"},
		{"any order", `{"done_reason":"stop","done":true,"message":{"content":"x","role":"assistant"}}` + "\n", Chat, "x||true|stop||"},
		{"unknown members", `{"x":{"response":"no"},"response":"yes","y":[1,2,{"done":true}]}` + "\n", Generate, "yes||false|||"},
		{"blank", "\n", Generate, "||false|||E"},
		{"comment", ": ping\n\n", V1Chat, "||false|||E"},
		{"event without data", "event: ping\n\n", V1Messages, "||false|||E"},
		{"no JSON", "oops\n", Chat, "||false|||M"},
		{"cut JSON", `{"response":"a"`, Generate, "||false|||M"},
		{"two values", `{"response":"a"}{"done":true}` + "\n", Generate, "||false|||M"},
		{"array", "[1]\n", Generate, "||false|||M"},
		{"wrong types", `{"response":5,"message":"x","done":"true","done_reason":7,"error":null,"eval_count":"x"}` + "\n", Generate, "||false|||"},
		{"[DONE]", "data: [DONE]\n\n", V1Chat, "||true|||"},
		{"[DONE] with CR LF, no blank", "data:[DONE]\r\n\r\n", V1Completions, "||true|||"},
		{"[DONE] is no mark of Ollama's own", "[DONE]\n", Chat, "||false|||M"},
		{"data in two lines", "data: {\"choices\":[{\"delta\":\ndata: {\"content\":\"x\"}}]}\n\n", V1Chat, "x||false|||"},
		{"null delta", `data: {"choices":[{"delta":{"content":null,"role":"assistant"},"finish_reason":null}],"usage":null}` + "\n\n", V1Chat, "||false|||"},
		{"v1 error", `data: {"error":{"message":"no \"x\"","type":"api_error"}}` + "\n\n", V1Chat, "||false||no \"x\"|"},
		{"error without words", `data: {"error":{}}` + "\n\n", V1Chat, "||false||unknown error|"},
		{"empty model", `data: {"model":"","choices":[]}` + "\n\n", V1Chat, "||false|||S"},
		{"message_stop", "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n", V1Messages, "||true|||"},
		{"messages error", "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"busy\"}}\n\n", V1Messages, "||false||busy|"},
		{"whole message", `{"type":"message","role":"assistant","content":[{"type":"thinking","thinking":"hm"},{"type":"text","text":"hi"}],"stop_reason":"end_turn","usage":{"input_tokens":1,"output_tokens":2}}`, V1Messages, "hi|hm|false|end_turn||"},
		{"response failed", "data: {\"type\":\"response.failed\",\"response\":{\"status\":\"failed\",\"error\":{\"code\":\"x\",\"message\":\"broke\"}}}\n\n", V1Responses, "||false|failed|broke|"},
		{"response incomplete", "data: {\"type\":\"response.incomplete\",\"response\":{\"status\":\"incomplete\"}}\n\n", V1Responses, "||true|incomplete||"},
		{"response error event", "event: error\ndata: {\"code\":null,\"message\":\"broke\",\"type\":\"error\"}\n\n", V1Responses, "||false||broke|"},
		{"text done repeats nothing", "data: {\"type\":\"response.output_text.done\",\"text\":\"all\"}\n\n", V1Responses, "||false|||"},
		{"tool arguments are no text", "data: {\"type\":\"response.function_call_arguments.delta\",\"delta\":\"{}\"}\n\n", V1Responses, "||false|||T"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			framing := tt.kind.Framing()
			if strings.HasPrefix(tt.raw, "{") {
				framing = NDJSON
			}
			c := Frame{Raw: []byte(tt.raw), Framing: framing}.Inspect(tt.kind)
			flags := ""
			for flag, on := range map[string]bool{"E": c.Empty, "M": c.Malformed, "S": c.Swallowed, "T": c.ToolCalls} {
				if on {
					flags += flag
				}
			}
			done := "false"
			if c.Done {
				done = "true"
			}
			got := strings.Join([]string{c.Text(), c.Thinking(), done, c.DoneReason, c.Error, flags}, "|")
			if got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func TestBodyUsage(t *testing.T) {
	tests := []struct {
		file string
		kind Kind
		want Usage
		ok   bool
	}{
		{"0.11/generate.json", Generate, Usage{PromptTokens: 6, OutputTokens: 4, Total: 2303380, LoadDuration: 804588, PromptDuration: 469514, EvalDuration: 730675}, true},
		{"0.11/embed.json", Embed, Usage{PromptTokens: 2, Total: 1783393, LoadDuration: 784782}, true},
		{"0.11/v1chat.json", V1Chat, Usage{PromptTokens: 6, OutputTokens: 4}, true},
		{"0.11/v1embed.json", V1Embeddings, Usage{PromptTokens: 2}, true},
		{"0.11/load.json", Generate, Usage{}, false},
		{"0.11/error.json", Generate, Usage{}, false},
		{"0.11/generate.ndjson", Generate, Usage{}, false}, // more than one value
	}
	for _, tt := range tests {
		t.Run(tt.file, func(t *testing.T) {
			body, err := os.ReadFile(filepath.Join("testdata", tt.file))
			if err != nil {
				t.Fatal(err)
			}
			if u, ok := BodyUsage(tt.kind, body); u != tt.want && tt.ok || ok != tt.ok {
				t.Errorf("got %+v %v, want %+v %v", u, ok, tt.want, tt.ok)
			}
		})
	}
	for body, want := range map[string]Usage{
		`{"object":"response","status":"completed","usage":{"input_tokens":3,"output_tokens":4}}`: {PromptTokens: 3, OutputTokens: 4},
	} {
		if u, ok := BodyUsage(V1Responses, []byte(body)); u != want || !ok {
			t.Errorf("%s: %+v %v", body, u, ok)
		}
	}
	if _, ok := BodyUsage(Chat, []byte(`{"eval_count":99999999999999999999999}`)); ok {
		t.Error("a count beyond int64 is no count")
	}
}

func TestRunaway(t *testing.T) {
	add := func(tail *Tail, text string, n int) {
		quoted, err := json.Marshal(text)
		if err != nil {
			t.Fatal(err)
		}
		for range n {
			tail.Add(Frame{Raw: []byte(`{"response":` + string(quoted) + `}` + "\n")}.Inspect(Generate))
		}
	}
	tests := []struct {
		name string
		feed func(*Tail)
		want bool
	}{
		{"31 equal", func(t *Tail) { add(t, " la", 31) }, true},
		{"30 equal", func(t *Tail) { add(t, " la", 30) }, false},
		{"31 equal after others", func(t *Tail) { add(t, "x", 3); add(t, " la", 31) }, true},
		{"white space around does not count", func(t *Tail) { add(t, " la", 15); add(t, "la\n", 16) }, true},
		{"30 blank from the start", func(t *Tail) { add(t, "\n", 30) }, true},
		{"29 blank", func(t *Tail) { add(t, "\n", 29) }, false},
		{"another at the end", func(t *Tail) { add(t, " la", 40); add(t, "x", 1) }, false},
		{"long chunks are not compared", func(t *Tail) { add(t, strings.Repeat("x", 300), 40) }, false},
		{"ended", func(t *Tail) {
			add(t, " la", 31)
			t.Add(Chunk{Done: true})
		}, false},
		{"error", func(t *Tail) {
			add(t, " la", 31)
			t.Add(Chunk{Error: "x"})
		}, false},
		{"empty chunks between", func(t *Tail) {
			add(t, " la", 15)
			t.Add(Chunk{Empty: true})
			add(t, "", 1)
			add(t, " la", 16)
		}, true},
		{"nothing", func(*Tail) {}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tail := NewTail(Generate)
			tt.feed(tail)
			if got := tail.Runaway(); got != tt.want {
				t.Errorf("got %v, want %v", got, tt.want)
			}
		})
	}
	tail := NewTail(Pull)
	for range 40 {
		tail.Add(Chunk{text: []byte("x")})
	}
	if tail.Runaway() {
		t.Error("a pull has no tokens")
	}
}

// FuzzInspect compares the reading of lines with encoding/json.
func FuzzInspect(f *testing.F) {
	f.Add([]byte(`{"model":"m","response":" a\u00e9","done":false,"eval_count":5}`))
	f.Add([]byte(`{"message":{"role":"assistant","content":"x","thinking":"y"},"done":true,"done_reason":"stop"}`))
	f.Add([]byte(`{"error":"x"}`))
	f.Fuzz(func(t *testing.T, line []byte) {
		c := inspect(Generate, line)
		var v map[string]any
		err := json.Unmarshal(line, &v)
		if c.Empty || v == nil && err == nil {
			return
		}
		if c.Malformed != (err != nil) {
			t.Fatalf("%q: malformed %v, encoding/json says %v", line, c.Malformed, err)
		}
		if err != nil {
			return
		}
		if _, ok := v["message"]; !ok {
			text, _ := v["response"].(string)
			if c.Text() != text {
				t.Fatalf("%q: text %q, want %q", line, c.Text(), text)
			}
		}
		if _, ok := v["status"]; !ok {
			if done, _ := v["done"].(bool); c.Done != done {
				t.Fatalf("%q: done %v, want %v", line, c.Done, done)
			}
		}
	})
}
