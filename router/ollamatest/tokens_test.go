package ollamatest

import (
	"testing"
)

func TestTokenNumbersGiveTheTextBack(t *testing.T) {
	for _, text := range []string{
		"", " ", "a", "hello world", "internationalisation of everything", " leading", "trailing ", "two  blanks",
		"<|user|>hi<|end|><|assistant|>", "<think> 1a2b-0 1a2b-1</think> ffff-0", " 1a2b-017", " 1a2b-", " 1A2b-3",
		"é 😀 日本語", "{\"a\": [1, 2]}\n", "\x00", " 1a2b-9999999999", " 1a2b-99999999999",
	} {
		ids := encodeTokens(nil, text)
		if got := decodeTokens(ids); got != text {
			t.Errorf("%q came back as %q", text, got)
		}
		if len(ids) != countTokens(text) {
			t.Errorf("%q: %d numbers, %d tokens", text, len(ids), countTokens(text))
		}
	}
}

func TestAnswerTokenIsOneToken(t *testing.T) {
	b := []byte("<|user|>hi<|end|><|assistant|>")
	before := countTokens(string(b))
	for i := range 2000 {
		b = appendAnswer(b, 0xab12, i)
	}
	if got := countTokens(string(b)) - before; got != 2000 {
		t.Errorf("2000 answer tokens count as %d", got)
	}
}

func TestDecodeIgnoresForeignNumbers(t *testing.T) {
	decodeTokens([]int64{-1, 0, 1, 1 << 62, markerBit | 500, answerBit | 1<<51, 7 << 48})
}

func FuzzTokens(f *testing.F) {
	f.Add("hello <|end|> 1a2b-3 1a2b-4x")
	f.Add(" 0000-0\xff\xfe")
	f.Fuzz(func(t *testing.T, text string) {
		ids := encodeTokens(nil, text)
		for _, id := range ids {
			if id < 0 || id >= 1<<53 {
				t.Fatalf("%q has token %d, which JavaScript cannot read", text, id)
			}
		}
		if got := decodeTokens(ids); got != text {
			t.Fatalf("%q came back as %q", text, got)
		}
	})
}
