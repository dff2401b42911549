package ollamatest

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"testing"
)

var formatModels = []Model{
	{Name: "m", Answer: 3},
	{Name: "thinker", Answer: 3, ThinkTokens: 2, Capabilities: []string{"completion", "thinking"}},
	{Name: "caller", Answer: 3, Capabilities: []string{"completion", "tools"}},
	{Name: "fim", Answer: 3, Capabilities: []string{"completion", "insert"}},
	{Name: "wide", Answer: 10, TokensPerChunk: 3},
	{Name: "la", Loop: true},
	{Name: "vec", Embedding: true, Dimensions: 4},
}

var volatile = regexp.MustCompile(`"\d{4}-\d\d-\d\dT[0-9:.]+Z"|"created":\d+|"created_at":\d+|(chatcmpl|cmpl|resp|msg|rs|req|fc_call|call)[-_][0-9a-z]+|_duration":\d+|\b[0-9a-f]{4}-(\d+)`)

// settled is a body with the volatile parts made equal.
func settled(s string) string {
	return volatile.ReplaceAllStringFunc(s, func(m string) string {
		switch {
		case strings.HasPrefix(m, `"created`):
			return m[:strings.IndexByte(m, ':')] + ":0"
		case strings.HasPrefix(m, "_duration"):
			return `_duration":1`
		case m[0] == '"':
			return `"T"`
		case len(m) > 4 && m[4] == '-' && isHex(m[:4]):
			return "x-" + m[5:]
		}
		return m[:strings.IndexAny(m, "-_")+1] + "N"
	})
}

const weatherTool = `[{"type":"function","function":{"name":"weather","parameters":{"type":"object","required":["city"],"properties":{"city":{"type":"string"}}}}}]`

// The exact shapes, as recorded from Ollama 0.11.4 and as known of 0.33.
func TestShapes(t *testing.T) {
	hi := `"messages":[{"role":"user","content":"hi"}]`
	for _, tt := range []struct {
		name, version, path, body, contentType string
		want                                   []string
	}{
		{
			"generate stream", "0.11.4", "/api/generate", `{"model":"m","prompt":"hi","raw":true}`, "application/x-ndjson",
			[]string{
				`{"model":"m","created_at":"T","response":" x-0","done":false}`,
				`{"model":"m","created_at":"T","response":" x-1","done":false}`,
				`{"model":"m","created_at":"T","response":" x-2","done":false}`,
				`{"model":"m","created_at":"T","response":"","done":true,"done_reason":"stop","total_duration":1,"load_duration":1,"prompt_eval_count":1,"prompt_eval_duration":1,"eval_count":4,"eval_duration":1}`,
			},
		},
		{
			"generate whole", "0.11.4", "/api/generate", `{"model":"m","prompt":"hi","raw":true,"stream":false}`, "application/json; charset=utf-8",
			[]string{`{"model":"m","created_at":"T","response":" x-0 x-1 x-2","done":true,"done_reason":"stop","total_duration":1,"load_duration":1,"prompt_eval_count":1,"prompt_eval_duration":1,"eval_count":4,"eval_duration":1}`},
		},
		{
			"generate load", "0.11.4", "/api/generate", `{"model":"m"}`, "application/json; charset=utf-8",
			[]string{`{"model":"m","created_at":"T","response":"","done":true,"done_reason":"load"}`},
		},
		{
			"chat stream", "0.33.0", "/api/chat", `{"model":"m:latest",` + hi + `,"options":{"num_predict":1}}`, "application/x-ndjson",
			[]string{
				`{"model":"m:latest","created_at":"T","message":{"role":"assistant","content":" x-0"},"done":false}`,
				`{"model":"m:latest","created_at":"T","message":{"role":"assistant","content":""},"done_reason":"length","done":true,"total_duration":1,"load_duration":1,"prompt_eval_count":4,"prompt_eval_duration":1,"eval_count":1,"eval_duration":1}`,
			},
		},
		{
			"chat thinking", "0.11.4", "/api/chat", `{"model":"thinker","think":true,` + hi + `,"options":{"num_predict":5}}`, "application/x-ndjson",
			[]string{
				`{"model":"thinker","created_at":"T","message":{"role":"assistant","content":"","thinking":"x-0"},"done":false}`,
				`{"model":"thinker","created_at":"T","message":{"role":"assistant","content":"","thinking":" x-1"},"done":false}`,
				`{"model":"thinker","created_at":"T","message":{"role":"assistant","content":"x-0"},"done":false}`,
				`{"model":"thinker","created_at":"T","message":{"role":"assistant","content":""},"done_reason":"length","done":true,"total_duration":1,"load_duration":1,"prompt_eval_count":4,"prompt_eval_duration":1,"eval_count":5,"eval_duration":1}`,
			},
		},
		{
			"chat tool", "0.11.4", "/api/chat", `{"model":"caller","tools":` + weatherTool + `,` + hi + `,"stream":false}`, "application/json; charset=utf-8",
			[]string{`{"model":"caller","created_at":"T","message":{"role":"assistant","content":"","tool_calls":[{"function":{"name":"weather","arguments":{"city":" x-0"}}}]},"done_reason":"stop","done":true,"total_duration":1,"load_duration":1,"prompt_eval_count":82,"prompt_eval_duration":1,"eval_count":26,"eval_duration":1}`},
		},
		{
			"chat tool, newer", "0.33.0", "/api/chat", `{"model":"caller","tools":` + weatherTool + `,` + hi + `}`, "application/x-ndjson",
			[]string{
				`{"model":"caller","created_at":"T","message":{"role":"assistant","content":"","tool_calls":[{"id":"call_N","function":{"index":0,"name":"weather","arguments":{"city":" x-0"}}}]},"done":false}`,
				`{"model":"caller","created_at":"T","message":{"role":"assistant","content":""},"done_reason":"stop","done":true,"total_duration":1,"load_duration":1,"prompt_eval_count":82,"prompt_eval_duration":1,"eval_count":26,"eval_duration":1}`,
			},
		},
		{
			"openai chat stream, older", "0.11.4", "/v1/chat/completions", `{"model":"m",` + hi + `,"stream":true,"max_tokens":1,"stream_options":{"include_usage":true}}`, "text/event-stream",
			[]string{
				`{"id":"chatcmpl-N","object":"chat.completion.chunk","created":0,"model":"m","system_fingerprint":"fp_ollama","choices":[{"index":0,"delta":{"role":"assistant","content":" x-0"},"finish_reason":null}]}`,
				`{"id":"chatcmpl-N","object":"chat.completion.chunk","created":0,"model":"m","system_fingerprint":"fp_ollama","choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":"length"}]}`,
				`{"id":"chatcmpl-N","object":"chat.completion.chunk","created":0,"model":"m","system_fingerprint":"fp_ollama","choices":[],"usage":{"prompt_tokens":4,"completion_tokens":1,"total_tokens":5}}`,
				`[DONE]`,
			},
		},
		{
			"openai chat stream, newer", "0.33.0", "/v1/chat/completions", `{"model":"m",` + hi + `,"stream":true,"max_tokens":2}`, "text/event-stream",
			[]string{
				`{"id":"chatcmpl-N","object":"chat.completion.chunk","created":0,"model":"m","system_fingerprint":"fp_ollama","choices":[{"index":0,"delta":{"role":"assistant","content":" x-0"},"finish_reason":null}]}`,
				`{"id":"chatcmpl-N","object":"chat.completion.chunk","created":0,"model":"m","system_fingerprint":"fp_ollama","choices":[{"index":0,"delta":{"content":" x-1"},"finish_reason":null}]}`,
				`{"id":"chatcmpl-N","object":"chat.completion.chunk","created":0,"model":"m","system_fingerprint":"fp_ollama","choices":[{"index":0,"delta":{},"finish_reason":"length"}]}`,
				`[DONE]`,
			},
		},
		{
			"openai chat whole", "0.11.4", "/v1/chat/completions", `{"model":"m",` + hi + `,"max_tokens":2}`, "application/json",
			[]string{`{"id":"chatcmpl-N","object":"chat.completion","created":0,"model":"m","system_fingerprint":"fp_ollama","choices":[{"index":0,"message":{"role":"assistant","content":" x-0 x-1"},"finish_reason":"length"}],"usage":{"prompt_tokens":4,"completion_tokens":2,"total_tokens":6}}`},
		},
		{
			"openai chat tool", "0.11.4", "/v1/chat/completions", `{"model":"caller",` + hi + `,"stream":true,"tools":` + weatherTool + `}`, "text/event-stream",
			[]string{
				`{"id":"chatcmpl-N","object":"chat.completion.chunk","created":0,"model":"caller","system_fingerprint":"fp_ollama","choices":[{"index":0,"delta":{"role":"assistant","content":"","tool_calls":[{"id":"call_N","index":0,"type":"function","function":{"name":"weather","arguments":"{\"city\":\" x-0\"}"}}]},"finish_reason":null}]}`,
				`{"id":"chatcmpl-N","object":"chat.completion.chunk","created":0,"model":"caller","system_fingerprint":"fp_ollama","choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":"tool_calls"}]}`,
				`[DONE]`,
			},
		},
		{
			"openai completion stream", "0.11.4", "/v1/completions", `{"model":"m","prompt":"hi","stream":true,"max_tokens":1,"stream_options":{"include_usage":true}}`, "text/event-stream",
			[]string{
				`{"id":"cmpl-N","object":"text_completion","created":0,"choices":[{"text":" x-0","index":0,"finish_reason":null}],"model":"m","system_fingerprint":"fp_ollama","usage":{"prompt_tokens":0,"completion_tokens":0,"total_tokens":0}}`,
				`{"id":"cmpl-N","object":"text_completion","created":0,"choices":[{"text":"","index":0,"finish_reason":"length"}],"model":"m","system_fingerprint":"fp_ollama","usage":{"prompt_tokens":0,"completion_tokens":0,"total_tokens":0}}`,
				`{"id":"cmpl-N","object":"text_completion","created":0,"choices":[],"model":"m","system_fingerprint":"fp_ollama","usage":{"prompt_tokens":4,"completion_tokens":1,"total_tokens":5}}`,
				`[DONE]`,
			},
		},
		{
			"anthropic stream", "0.33.0", "/v1/messages", `{"model":"thinker",` + hi + `,"stream":true,"max_tokens":5}`, "text/event-stream",
			[]string{
				`{"type":"message_start","message":{"id":"msg_N","type":"message","role":"assistant","model":"thinker","content":[],"usage":{"input_tokens":1,"output_tokens":0}}}`,
				`{"type":"content_block_start","index":0,"content_block":{"type":"thinking","thinking":""}}`,
				`{"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":"x-0"}}`,
				`{"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":" x-1"}}`,
				`{"type":"content_block_stop","index":0}`,
				`{"type":"content_block_start","index":1,"content_block":{"type":"text","text":""}}`,
				`{"type":"content_block_delta","index":1,"delta":{"type":"text_delta","text":"x-0"}}`,
				`{"type":"content_block_stop","index":1}`,
				`{"type":"message_delta","delta":{"stop_reason":"max_tokens"},"usage":{"input_tokens":4,"output_tokens":5}}`,
				`{"type":"message_stop"}`,
			},
		},
		{
			"anthropic whole", "0.33.0", "/v1/messages", `{"model":"m",` + hi + `,"max_tokens":9}`, "application/json",
			[]string{`{"id":"msg_N","type":"message","role":"assistant","model":"m","content":[{"text":" x-0 x-1 x-2","type":"text"}],"stop_reason":"end_turn","usage":{"input_tokens":4,"output_tokens":4}}`},
		},
		{
			"anthropic tool", "0.33.0", "/v1/messages", `{"model":"caller",` + hi + `,"stream":true,"max_tokens":99,"tools":[{"name":"weather","input_schema":{"type":"object","properties":{"day":{"type":"integer"}}}}]}`, "text/event-stream",
			[]string{
				`{"type":"message_start","message":{"id":"msg_N","type":"message","role":"assistant","model":"caller","content":[],"usage":{"input_tokens":1,"output_tokens":0}}}`,
				`{"type":"content_block_start","index":0,"content_block":{"type":"tool_use","id":"call_N","name":"weather","input":{}}}`,
				`{"type":"content_block_delta","index":0,"delta":{"type":"input_json_delta","partial_json":"{\"day\":0}"}}`,
				`{"type":"content_block_stop","index":0}`,
				`{"type":"message_delta","delta":{"stop_reason":"tool_use"},"usage":{"input_tokens":72,"output_tokens":24}}`,
				`{"type":"message_stop"}`,
			},
		},
		{
			"embed", "0.33.0", "/api/embed", `{"model":"vec","input":[]}`, "application/json; charset=utf-8",
			[]string{`{"model":"vec","embeddings":[]}`},
		},
		{
			"runaway guard, whole", "0.11.4", "/api/generate", `{"model":"la","prompt":"x","stream":false}`, "application/json; charset=utf-8",
			[]string{`{"model":"la","created_at":"T","response":"` + strings.Repeat(" la", 31) + `","done":false}`},
		},
		{
			"runaway guard, openai", "0.11.4", "/v1/chat/completions", `{"model":"la",` + hi + `}`, "application/json",
			[]string{`{"id":"chatcmpl-N","object":"chat.completion","created":0,"model":"la","system_fingerprint":"fp_ollama","choices":[{"index":0,"message":{"role":"assistant","content":"` + strings.Repeat(" la", 31) + `"},"finish_reason":null}],"usage":{"prompt_tokens":0,"completion_tokens":0,"total_tokens":0}}`},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inBubble(t, Config{Version: tt.version, Models: formatModels}, func(t *testing.T, b *bubble) {
				r := b.post(tt.path, tt.body)
				if r.status != 200 || r.err != nil {
					t.Fatalf("status %d, %v: %s", r.status, r.err, r.body)
				}
				if got := r.header.Get("Content-Type"); got != tt.contentType {
					t.Errorf("Content-Type %q, want %q", got, tt.contentType)
				}
				for i := range max(len(r.lines), len(tt.want)) {
					got, want := "nothing", "nothing"
					if i < len(r.lines) {
						got = settled(r.lines[i])
					}
					if i < len(tt.want) {
						want = tt.want[i]
					}
					if got != want {
						t.Errorf("line %d:\ngot  %s\nwant %s", i, got, want)
					}
					if i < len(r.lines) && got != "[DONE]" && !json.Valid([]byte(r.lines[i])) {
						t.Errorf("line %d is no JSON", i)
					}
				}
			})
		})
	}
}

func TestResponsesDialect(t *testing.T) {
	inBubble(t, Config{Models: formatModels}, func(t *testing.T, b *bubble) {
		request := func(stream bool, more string) string {
			return fmt.Sprintf(`{"model":"thinker","input":"hi","temperature":0,"stream":%v%s}`, stream, more)
		}
		r := b.post("/v1/responses", request(true, ""))
		if err := Verify(r.text(), 3); err != nil {
			t.Error(err)
		}
		var types []string
		for i, line := range r.lines {
			var event struct {
				Type     string
				Sequence int `json:"sequence_number"`
			}
			decodeLine(t, line, &event)
			if event.Sequence != i {
				t.Errorf("event %d has number %d", i, event.Sequence)
			}
			types = append(types, strings.TrimPrefix(event.Type, "response."))
		}
		want := "created in_progress output_item.added reasoning_summary_text.delta reasoning_summary_text.delta " +
			"reasoning_summary_text.done output_item.done output_item.added content_part.added output_text.delta " +
			"output_text.delta output_text.delta output_text.done content_part.done output_item.done completed"
		if got := strings.Join(types, " "); got != want {
			t.Errorf("events %s\nwant   %s", got, want)
		}
		type output struct {
			Output []struct {
				Type    string
				Content []struct{ Text string }
			}
			Usage struct {
				Out int `json:"output_tokens"`
			}
		}
		var streamed struct{ Response output }
		decodeLine(t, r.lines[len(r.lines)-1], &streamed)
		var whole output
		decodeLine(t, b.post("/v1/responses", request(false, "")).body, &whole)
		for _, o := range []output{streamed.Response, whole} {
			if len(o.Output) != 2 || o.Output[1].Content[0].Text != r.text() || o.Usage.Out != 8 {
				t.Errorf("output %+v", o)
			}
		}
		tools := `,"model":"caller","tools":[{"type":"function","name":"f","parameters":{"type":"object","properties":{"a":{"type":"boolean"}}}}]`
		r = b.post("/v1/responses", request(true, tools))
		if !strings.Contains(r.body, `"arguments":"{\"a\":true}"`) || !strings.Contains(r.body, "function_call_arguments.done") {
			t.Errorf("tool call: %s", r.body)
		}
	})
}

func TestRunawayGuardEndsTheStreamWithoutALastRecord(t *testing.T) {
	inBubble(t, Config{Models: formatModels}, func(t *testing.T, b *bubble) {
		r := b.post("/api/generate", `{"model":"la","prompt":"x"}`)
		if r.err != nil || r.status != 200 || len(r.lines) != 31 || r.last().Done {
			t.Errorf("status %d, %d lines, done %v, err %v", r.status, len(r.lines), r.last().Done, r.err)
		}
		r = b.post("/v1/chat/completions", body("model", "la", "messages", user("x"), "stream", true))
		if len(r.lines) != 31 || strings.Contains(r.body, "[DONE]") {
			t.Errorf("openai: %d lines", len(r.lines))
		}
		// A limit before the guard is respected.
		r = b.post("/api/generate", `{"model":"la","prompt":"x","options":{"num_predict":20}}`)
		if len(r.lines) != 21 || r.last().DoneReason != "length" {
			t.Errorf("limited: %d lines, %s", len(r.lines), r.last().DoneReason)
		}
	})
}

func TestLengthOfAnswers(t *testing.T) {
	for _, tt := range []struct {
		name     string
		model    Model
		predict  any // nil = not set
		tokens   int
		evaluate int
		reason   string
	}{
		{"default", Model{}, nil, 64, 65, "stop"},
		{"default with a limit", Model{}, 100, 100, 100, "length"},
		{"natural end", Model{Answer: 5}, nil, 5, 6, "stop"},
		{"natural end before the limit", Model{Answer: 5}, 9, 5, 6, "stop"},
		{"limit before the natural end", Model{Answer: 5}, 3, 3, 3, "length"},
		{"0 is unlimited", Model{Answer: 5}, 0, 5, 6, "stop"},
		{"endless, bounded by ten contexts", Model{Answer: -1, ContextLength: 4}, -1, 40, 40, "length"},
		{"limit baked into the model", Model{Options: map[string]any{"num_predict": 7}}, nil, 7, 7, "length"},
		{"several tokens a chunk", Model{Answer: 10, TokensPerChunk: 3}, 8, 2, 8, "length"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.model.Name = "m"
			inBubble(t, Config{Models: []Model{tt.model}}, func(t *testing.T, b *bubble) {
				options := map[string]any{"temperature": 0}
				if tt.predict != nil {
					options["num_predict"] = tt.predict
				}
				r := b.post("/api/generate", body("model", "m", "prompt", "hi", "options", options))
				if err := Verify(r.text(), tt.tokens); err != nil {
					t.Error(err)
				}
				if end := r.last(); end.EvalCount != tt.evaluate || end.DoneReason != tt.reason {
					t.Errorf("eval_count %d, done_reason %s; want %d, %s", end.EvalCount, end.DoneReason, tt.evaluate, tt.reason)
				}
			})
		})
	}
}

func TestThinkDefaults(t *testing.T) {
	for _, tt := range []struct {
		version, think string
		thinking       int
		tags           bool // in the content
	}{
		{"0.9.6", "", 0, true},
		{"0.9.6", `,"think":true`, 2, false},
		{"0.9.6", `,"think":false`, 0, false},
		{"0.33.0", "", 2, false},
		{"0.33.0", `,"think":false`, 0, false},
		{"0.33.0", `,"think":"high"`, 2, false},
	} {
		t.Run(tt.version+tt.think, func(t *testing.T) {
			inBubble(t, Config{Version: tt.version, Models: formatModels}, func(t *testing.T, b *bubble) {
				r := b.post("/api/chat", `{"model":"thinker","messages":[{"role":"user","content":"hi"}]`+tt.think+`}`)
				if a, _ := Parse(r.thinking()); a.Tokens != tt.thinking {
					t.Errorf("thinking %q", r.thinking())
				}
				if got := strings.Contains(r.text(), "<think>"); got != tt.tags {
					t.Errorf("content %q", r.text())
				}
				if !tt.tags {
					if err := Verify(r.text(), 3); err != nil {
						t.Error(err)
					}
				}
			})
		})
	}
}

func TestJSONFormat(t *testing.T) {
	inBubble(t, Config{Models: []Model{{Name: "m"}}}, func(t *testing.T, b *bubble) {
		schema := map[string]any{
			"type": "object", "required": []string{"name", "age", "tags", "kind"},
			"properties": map[string]any{
				"name": map[string]any{"type": "string"}, "age": map[string]any{"type": "integer"},
				"tags": map[string]any{"type": "array"}, "kind": map[string]any{"enum": []string{"a", "b"}},
				"extra": map[string]any{"type": "object", "properties": map[string]any{"x": map[string]any{"type": "null"}}},
			},
		}
		for _, format := range []any{"json", schema} {
			r := b.post("/api/chat", body("model", "m", "messages", user("hi"), "format", format, "options", greedy))
			var v map[string]any
			decodeLine(t, r.text(), &v)
			if len(r.lines) < 6 {
				t.Errorf("only %d chunks", len(r.lines))
			}
			// The grammar restarts at its root.
			again := b.answer("/api/generate", body("model", "m", "raw", true, "prompt", "x"+r.text()[:10], "format", format, "options", greedy))
			decodeLine(t, again, &v)
			if json.Valid([]byte(r.text()[:10] + again)) {
				t.Error("a continuation completed the first object")
			}
		}
	})
}

func TestStopSequences(t *testing.T) {
	inBubble(t, Config{Models: []Model{{Name: "m", Answer: 12}}}, func(t *testing.T, b *bubble) {
		ask := func(stop ...string) reply {
			return b.post("/api/generate", body("model", "m", "prompt", "hi", "options", map[string]any{"temperature": 0, "stop": append([]string{"never"}, stop...)}))
		}
		whole := ask().text()
		for _, stop := range []string{"-3", "-3 ", whole[10:20], "-11", "zz"} {
			r := ask(stop)
			want, _, found := strings.Cut(whole, stop)
			if r.text() != want {
				t.Errorf("stop %q: %q, want %q", stop, r.text(), want)
			}
			if reason := r.last().DoneReason; reason != "stop" {
				t.Errorf("stop %q (found %v): reason %s", stop, found, reason)
			}
		}
	})
}

func TestFillInTheMiddle(t *testing.T) {
	inBubble(t, Config{Models: formatModels}, func(t *testing.T, b *bubble) {
		r := b.post("/api/generate", `{"model":"fim","prompt":"a","suffix":"b","_debug_render_only":true}`)
		if want := `<|prefix|>a<|suffix|>b<|middle|>`; !strings.Contains(r.body, strings.Trim(quote(want), `"`)) {
			t.Errorf("got %s", r.body)
		}
	})
}

func TestLogprobsGiveTheExactTokens(t *testing.T) {
	inBubble(t, Config{Models: formatModels}, func(t *testing.T, b *bubble) {
		r := b.post("/api/chat", body("model", "thinker", "messages", user("hi"), "logprobs", true, "options", greedy))
		var text strings.Builder
		for _, line := range r.lines[:len(r.lines)-1] {
			var raw struct{ Logprobs []struct{ Token string } }
			decodeLine(t, line, &raw)
			text.WriteString(raw.Logprobs[0].Token)
		}
		// Two tokens of thought, three of content, each with its blank.
		if got := countTokens(text.String()); got != 5 || text.String()[0] != ' ' {
			t.Errorf("%d tokens: %q", got, text.String())
		}
	})
}

func TestEmbeddings(t *testing.T) {
	inBubble(t, Config{Models: formatModels}, func(t *testing.T, b *bubble) {
		var embed struct {
			Embeddings [][]float64
			Count      int `json:"prompt_eval_count"`
		}
		decodeLine(t, b.post("/api/embed", `{"model":"vec","input":["one","two two"]}`).body, &embed)
		if len(embed.Embeddings) != 2 || len(embed.Embeddings[0]) != 4 || embed.Count != 3 {
			t.Fatalf("got %+v", embed)
		}
		var norm float64
		for _, x := range embed.Embeddings[0] {
			norm += x * x
		}
		if norm < 0.999 || norm > 1.001 {
			t.Errorf("length² %v", norm)
		}
		var single struct{ Embedding []float64 }
		decodeLine(t, b.post("/api/embeddings", `{"model":"vec","prompt":"one"}`).body, &single)
		var openAI struct {
			Data []struct{ Embedding []float64 }
		}
		decodeLine(t, b.post("/v1/embeddings", `{"model":"vec","input":"one"}`).body, &openAI)
		if fmt.Sprint(single.Embedding) != fmt.Sprint(embed.Embeddings[0]) || fmt.Sprint(openAI.Data[0].Embedding) != fmt.Sprint(embed.Embeddings[0]) {
			t.Error("the three routes differ")
		}
		if r := b.post("/v1/embeddings", `{"model":"vec","input":"one","encoding_format":"base64"}`); !strings.Contains(r.body, `"embedding":"`) {
			t.Errorf("base64: %s", r.body)
		}
		decodeLine(t, b.post("/api/embed", `{"model":"vec","input":"one","dimensions":2}`).body, &embed)
		if len(embed.Embeddings[0]) != 2 {
			t.Errorf("dimensions ignored: %v", embed.Embeddings)
		}
	})
}
