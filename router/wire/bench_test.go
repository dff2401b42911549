package wire

import (
	"fmt"
	"strings"
	"testing"
)

func BenchmarkParse(b *testing.B) {
	history := make([]turn, 40)
	for i := range history {
		history[i] = turn{[]string{"user", "assistant"}[i%2], strings.Repeat("some words of a talk ", 40)}
	}
	image := strings.Repeat("iVBORw0KGgoAAAANSUhEUgAA", 1<<20/24)
	for _, bb := range []struct{ name, body string }{
		{"300B", chatBody("tiny", turn{"system", strings.Repeat("x", 100)}, turn{"user", strings.Repeat("y", 100)})},
		{"1KB", chatBody("tiny", turn{"user", strings.Repeat("y", 1000)})},
		{"32KB", chatBody("tiny", history...)},
		{"1MB image", `{"model":"tiny","messages":[{"role":"user","content":"what is this?","images":["` + image + `"]}]}`},
	} {
		b.Run(bb.name, func(b *testing.B) {
			body := []byte(bb.body)
			b.SetBytes(int64(len(body)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := Parse(Chat, body); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

var tokenFrames = []struct {
	kind Kind
	raw  string
}{
	{Generate, `{"model":"tiny","created_at":"2026-11-24T02:16:02.285932184Z","response":" kero","done":false}` + "\n"},
	{Chat, `{"model":"utf8","created_at":"2026-11-24T02:16:02.556826793Z","message":{"role":"assistant","content":" look"},"done":false}` + "\n"},
	{V1Chat, `data: {"id":"chatcmpl-175","object":"chat.completion.chunk","created":1795486563,"model":"tiny","system_fingerprint":"fp_ollama","choices":[{"index":0,"delta":{"role":"assistant","content":" kero"},"finish_reason":null}]}` + "\n\n"},
	{V1Messages, "event: content_block_delta\n" + `data: {"type":"content_block_delta","index":1,"delta":{"type":"text_delta","text":" one"}}` + "\n\n"},
	{V1Responses, "event: response.output_text.delta\n" + `data: {"content_index":0,"delta":" one","item_id":"msg_1","logprobs":[],"output_index":1,"sequence_number":6,"type":"response.output_text.delta"}` + "\n\n"},
}

// relayToken does what the relay does with the bytes of one token.
func relayToken(s *Scanner, tail *Tail, k Kind, raw, text []byte) []byte {
	s.Write(raw)
	for f, ok := s.Next(); ok; f, ok = s.Next() {
		c := f.Inspect(k)
		tail.Add(c)
		text = c.AppendText(text)
	}
	return text
}

func BenchmarkToken(b *testing.B) {
	for _, bb := range tokenFrames {
		b.Run(bb.kind.String(), func(b *testing.B) {
			s, tail, raw := NewScanner(bb.kind.Framing(), 0), NewTail(bb.kind), []byte(bb.raw)
			text := make([]byte, 0, 64)
			b.SetBytes(int64(len(raw)))
			b.ReportAllocs()
			for b.Loop() {
				text = relayToken(s, tail, bb.kind, raw, text[:0])
			}
			if len(text) == 0 {
				b.Fatal("no text")
			}
		})
	}
}

func TestTokensCostNoAllocation(t *testing.T) {
	for _, tt := range tokenFrames {
		t.Run(fmt.Sprint(tt.kind), func(t *testing.T) {
			s, tail, raw := NewScanner(tt.kind.Framing(), 0), NewTail(tt.kind), []byte(tt.raw)
			text := make([]byte, 0, 64)
			relayToken(s, tail, tt.kind, raw, text)
			if n := testing.AllocsPerRun(100, func() { relayToken(s, tail, tt.kind, raw, text[:0]) }); n != 0 {
				t.Errorf("%v allocations for a token", n)
			}
		})
	}
}
