package wire

import (
	"encoding/json"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

var firstFrames = map[Kind]string{
	Generate:      `{"model":"tiny:1b","created_at":"2026-01-01T00:00:00Z","response":" a","done":false}` + "\n",
	Chat:          `{"model":"tiny:1b","created_at":"2026-01-01T00:00:00Z","message":{"role":"assistant","content":" a"},"done":false}` + "\n",
	V1Chat:        `data: {"id":"chatcmpl-12","object":"chat.completion.chunk","created":1700000000,"model":"tiny:1b","system_fingerprint":"fp_x","choices":[{"index":0,"delta":{"role":"assistant","content":" a"},"finish_reason":null}]}` + "\n\n",
	V1Messages:    "event: message_start\n" + `data: {"type":"message_start","message":{"id":"msg_12","type":"message","role":"assistant","model":"tiny:1b","content":[],"usage":{"input_tokens":1,"output_tokens":0}}}` + "\n\n",
	V1Completions: `data: {"id":"cmpl-12","object":"text_completion","created":1700000000,"choices":[{"text":" a","index":0,"finish_reason":null}],"model":"tiny:1b","system_fingerprint":"fp_x"}` + "\n\n",
}

// A composed stream reads like one that a server has written.
func TestComposedFramesAreReadBack(t *testing.T) {
	text := " \"x\" \\ \n\r\t\x01 <b>&</b> é 😀 \u2028"
	for kind, first := range firstFrames {
		for _, usage := range []bool{false, true} {
			c := NewComposer(kind, []byte(first), usage)
			var out []byte
			out = c.Note(out, "a note")
			out = c.Thinking(out, []byte("hm\n"))
			out = c.Text(out, []byte(text))
			out = c.End(out, Final{
				Reason: "length", Prompt: 11, Output: 22, Total: time.Second, Load: time.Millisecond,
				PromptEval: 3, Eval: 4, Continued: 1, Path: "exact",
			})
			s, tail := NewScanner(kind.Framing(), 0), NewTail(kind)
			_, _ = s.Write(out)
			var got, thinking string
			for f, ok := s.Next(); ok; f, ok = s.Next() {
				chunk := f.Inspect(kind)
				if chunk.Malformed || chunk.Error != "" || chunk.Swallowed {
					t.Errorf("%v: frame %q", kind, f.Raw)
				}
				tail.Add(chunk)
				got += chunk.Text()
				thinking += chunk.Thinking()
			}
			if rest, some := s.Rest(); some {
				t.Errorf("%v: %q is no frame", kind, rest.Raw)
			}
			wantThinking, reason := "hm\n", "length"
			if kind == V1Messages {
				reason = "max_tokens"
			}
			if kind == V1Completions || kind == V1Messages {
				wantThinking = "" // it has no place for it
			}
			if got != text || thinking != wantThinking || !tail.Ended() || tail.Reason() != reason {
				t.Errorf("%v: %q and %q, ended %v by %q", kind, got, thinking, tail.Ended(), tail.Reason())
			}
			if u := tail.Usage(); (usage || kind.Dialect() == Ollama) && (u.PromptTokens != 11 || u.OutputTokens != 22) {
				t.Errorf("%v: usage %+v", kind, u)
			} else if !usage && kind.Dialect() == OpenAI && !u.Zero() {
				t.Errorf("%v: usage without being asked: %+v", kind, u)
			}
			switch kind.Dialect() {
			case Anthropic:
				names := regexp.MustCompile(`event: (\w+)\ndata: \{"type":"(\w+)"`).FindAllStringSubmatch(string(out), -1)
				var order []string
				for _, n := range names {
					if order = append(order, n[1]); n[1] != n[2] {
						t.Errorf("event %s with data of %s", n[1], n[2])
					}
				}
				if want := "content_block_start content_block_delta content_block_stop message_delta message_stop"; strings.Join(order, " ") != want {
					t.Errorf("%v, want %s", order, want)
				}
			case OpenAI:
				frames := strings.Count(string(out), "data: {")
				for _, same := range []string{`-12"`, `"created":1700000000`, `"model":"tiny:1b"`, `"fp_x"`} {
					if n := strings.Count(string(out), same); n != frames {
						t.Errorf("%v: %s in %d of %d frames", kind, same, n, frames)
					}
				}
			default:
				if !strings.Contains(string(out), `"kage":{"continued":1,"path":"exact"}`) || !strings.Contains(string(out), `"total_duration":1000000000`) {
					t.Errorf("%v: last record of %q", kind, out)
				}
			}
		}
	}
}

func TestEndOfWhatWasToldAlready(t *testing.T) {
	c := NewComposer(V1Chat, []byte(firstFrames[V1Chat]), true)
	out := string(c.End(nil, Final{Told: true, Reason: "stop", Output: 3}))
	if strings.Contains(out, `"finish_reason"`) || !strings.Contains(out, `"usage"`) || !strings.HasSuffix(out, "data: [DONE]\n\n") {
		t.Errorf("%q", out)
	}
}

func TestRewrite(t *testing.T) {
	tests := []struct {
		name  string
		kind  Kind
		first string
		frame string
		want  string
	}{
		{
			"id and time", V1Chat, firstFrames[V1Chat],
			`data: {"id":"chatcmpl-99","created":1800000000,"model":"tiny:1b","choices":[{"delta":{"content":"id","tool_calls":[{"id":"call_1"}]}}]}` + "\n\n",
			`data: {"id":"chatcmpl-12","created":1700000000,"model":"tiny:1b","choices":[{"delta":{"content":"id","tool_calls":[{"id":"call_1"}]}}]}` + "\n\n",
		},
		{"spaces", V1Completions, firstFrames[V1Completions], "data: { \"created\" : 5 , \"id\" : \"x\" }\n\n", "data: { \"created\" : 1700000000 , \"id\" : \"cmpl-12\" }\n\n"},
		{"end mark", V1Chat, firstFrames[V1Chat], "data: [DONE]\n\n", "data: [DONE]\n\n"},
		{"no JSON", V1Chat, firstFrames[V1Chat], "data: {\"id\":\n\n", "data: {\"id\":\n\n"},
		{"nothing is known of the first", V1Chat, "", `data: {"id":"x"}` + "\n\n", `data: {"id":"x"}` + "\n\n"},
		{"Ollama's own", Generate, firstFrames[Generate], firstFrames[Generate], firstFrames[Generate]},
		{"its last record", Generate, firstFrames[Generate], `{"response":"","done":true,"eval_count":3}` + "\n", `{"response":"","done":true,"eval_count":3,"kage":{"continued":2,"path":"restart"}}` + "\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := NewScanner(tt.kind.Framing(), 0)
			_, _ = s.Write([]byte(tt.frame))
			f, _ := s.Next()
			chunk := f.Inspect(tt.kind)
			got := NewComposer(tt.kind, []byte(tt.first), false).Rewrite([]byte("> "), f, chunk.Done, 2, "restart")
			if string(got) != "> "+tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func TestShorten(t *testing.T) {
	for _, tt := range []struct {
		kind              Kind
		frame, rest, want string
	}{
		{V1Messages, `data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"text"}}`, "xt", `data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"xt"}}`},
		{V1Responses, `data: {"type":"response.output_text.delta","delta":"a\"b","logprobs":[]}`, "b", `data: {"type":"response.output_text.delta","delta":"b","logprobs":[]}`},
		{V1Responses, `data: {"type":"response.output_text.delta","delta":"logprobs","logprobs":[]}`, "s", `data: {"type":"response.output_text.delta","delta":"s","logprobs":[]}`},
	} {
		s := NewScanner(SSE, 0)
		_, _ = s.Write([]byte(tt.frame + "\n\n"))
		f, _ := s.Next()
		chunk := f.Inspect(tt.kind)
		if got := string(f.Shorten(nil, &chunk, []byte(tt.rest))); got != tt.want+"\n\n" {
			t.Errorf("got %q, want %q", got, tt.want)
		}
	}
}

// Any text and any first frame: frames that are read back as the text.
func FuzzComposer(f *testing.F) {
	for kind, first := range firstFrames {
		f.Add(uint8(kind), []byte(first), "some \"text\"\n")
	}
	f.Fuzz(func(t *testing.T, k uint8, first []byte, text string) {
		kind := Kind(k)
		if !Composes(kind) || !utf8.ValidString(text) || text == "" {
			t.Skip()
		}
		c := NewComposer(kind, first, true)
		out := c.End(c.Text(nil, []byte(text)), Final{Reason: "stop"})
		s, tail := NewScanner(kind.Framing(), 0), NewTail(kind)
		_, _ = s.Write(out)
		got := ""
		for fr, ok := s.Next(); ok; fr, ok = s.Next() {
			chunk := fr.Inspect(kind)
			if chunk.Malformed {
				t.Fatalf("frame %q", fr.Raw)
			}
			tail.Add(chunk)
			got += chunk.Text()
			if payload := data(fr.Raw, kind.Framing()); string(payload) != "[DONE]" && !json.Valid(payload) {
				t.Fatalf("no JSON: %q", payload)
			}
			c.Rewrite(nil, fr, chunk.Done, 1, "restart")
			fr.Shorten(nil, &chunk, []byte("x"))
		}
		if got != text || !tail.Ended() {
			t.Errorf("%q came back as %q, ended %v", text, got, tail.Ended())
		}
	})
}

// A text of the Messages API goes on in the block that is open, in a new one
// after the last was closed, and what was told already is not told again.
func TestMessagesGoOnWhereTheyStand(t *testing.T) {
	for _, tt := range []struct {
		name  string
		seen  string
		final Final
		want  []string
		not   string
	}{
		{
			"in an open block", `{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}`,
			Final{Reason: "stop"},
			[]string{`"content_block_delta","index":0`, `"content_block_stop","index":0`, `"stop_reason":"end_turn"`},
			"content_block_start",
		},
		{
			"after a closed block", `{"type":"content_block_stop","index":0}`,
			Final{Reason: "stop"},
			[]string{`"content_block_start","index":1`, `"content_block_delta","index":1`, `"content_block_stop","index":1`},
			`"index":0`,
		},
		{
			"with the reason told", `{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}`,
			Final{Told: true},
			[]string{"message_stop"},
			"message_delta",
		},
	} {
		var b Blocks
		s := NewScanner(SSE, 0)
		_, _ = s.Write([]byte("data: " + tt.seen + "\n\n"))
		f, _ := s.Next()
		chunk := f.Inspect(V1Messages)
		b.Add(&chunk)
		c := NewComposer(V1Messages, nil, false).On(&b)
		out := string(c.End(c.Text(nil, []byte("x")), tt.final))
		for _, want := range tt.want {
			if !strings.Contains(out, want) {
				t.Errorf("%s: no %s in %s", tt.name, want, out)
			}
		}
		if strings.Contains(out, tt.not) {
			t.Errorf("%s: %s in %s", tt.name, tt.not, out)
		}
		if b.Open {
			t.Errorf("%s: a block is left open", tt.name)
		}
	}
}
