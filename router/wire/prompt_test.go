package wire

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
)

func peek(t *testing.T, k Kind, body string) Peek {
	t.Helper()
	p, err := Parse(k, []byte(body))
	if err != nil {
		t.Fatalf("%v %.200s: %v", k, body, err)
	}
	return p
}

func TestPromptSize(t *testing.T) {
	tests := []struct {
		name   string
		kind   Kind
		body   string
		bytes  int
		tokens int
		images bool
	}{
		{"prompt", Generate, `{"model":"a","prompt":"12345678"}`, 8, 2 + 4, false},
		{"escapes count as what they stand for", Generate, `{"model":"a","prompt":"\u4e2d\u6587\n\ud83d\ude00"}`, 3 + 3 + 1 + 4, 3 + 4, false},
		{"system and suffix", Generate, `{"model":"a","system":"1234","prompt":"5678","suffix":"90"}`, 10, 3 + 4, false},
		{"image", Generate, `{"model":"a","prompt":"1234","images":["aaaa","bbbb"]}`, 4, 1 + 4 + 2*1024, true},
		{"chat", Chat, `{"model":"a","messages":[{"role":"system","content":"1234"},{"content":"5678","role":"user","images":["aaaa"]}]}`, 8, 2 + 8 + 1024, true},
		{"tool calls and thinking", Chat, `{"model":"a","messages":[{"role":"assistant","thinking":"1234","tool_calls":[{"a":1}]}]}`, 4 + 9, 4 + 4, false},
		{"tools", Chat, `{"model":"a","tools":[{"x":12}],"messages":[{"role":"user","content":"1234"}]}`, 4 + 10, 4 + 4, false},
		{"content parts", V1Chat, `{"model":"a","messages":[{"role":"user","content":[{"type":"text","text":"1234"},{"type":"image_url","image_url":{"url":"data:image/png;base64,AAAA"}}]}]}`, 4, 1 + 4 + 1024, true},
		{"completion", V1Completions, `{"model":"a","prompt":"12345"}`, 5, 2 + 4, false},
		{"embed", Embed, `{"model":"a","input":["1234","5678"]}`, 8, 2 + 8, false},
		{"embed one", V1Embeddings, `{"model":"a","input":"1234"}`, 4, 1 + 4, false},
		{"embeddings", Embeddings, `{"model":"a","prompt":"1234"}`, 4, 1 + 4, false},
		{"anthropic", V1Messages, `{"model":"a","system":[{"type":"text","text":"12"}],"messages":[{"role":"user","content":[{"type":"text","text":"34"},{"type":"image","source":{"type":"base64","data":"AAAA"}},{"type":"tool_result","content":[{"type":"text","text":"5678"}]}]}]}`, 8, 2 + 4 + 1024, true},
		{"anthropic tool use", V1Messages, `{"model":"a","messages":[{"role":"assistant","content":[{"type":"tool_use","id":"x","name":"y","input":{"a":1}}]}]}`, 7, 2 + 4, false},
		{"responses text", V1Responses, `{"model":"a","instructions":"12","input":"34"}`, 4, 1 + 4, false},
		{"responses items", V1Responses, `{"model":"a","input":[{"role":"user","content":[{"type":"input_text","text":"1234"},{"type":"input_image","image_url":"data:"}]},{"type":"function_call_output","output":"5678"},{"type":"function_call","arguments":"{}"}]}`, 10, 3 + 12 + 1024, true},
		{"the last prompt wins", Generate, `{"model":"a","prompt":"12345678","Prompt":"1234"}`, 4, 1 + 4, false},
		{"wrong types", Chat, `{"model":"a","messages":[5,null,"x",{"role":5,"content":6,"images":7}],"tools":{},"options":[]}`, 1, 1 + 16, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := peek(t, tt.kind, tt.body)
			if p.PromptBytes != tt.bytes || p.PromptTokens != tt.tokens || p.HasImages != tt.images {
				t.Errorf("got %d bytes %d tokens images %v, want %d %d %v",
					p.PromptBytes, p.PromptTokens, p.HasImages, tt.bytes, tt.tokens, tt.images)
			}
		})
	}
}

type turn struct{ role, content string }

func chatBody(model string, turns ...turn) string {
	var b strings.Builder
	for i, m := range turns {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, `{"role":%q,"content":%q}`, m.role, m.content)
	}
	return fmt.Sprintf(`{"model":%q,"messages":[%s]}`, model, b.String())
}

func TestPrefixesGrowWithTheConversation(t *testing.T) {
	system, one, two := turn{"system", "be brief"}, turn{"user", "hi"}, turn{"assistant", "hello"}
	first := peek(t, Chat, chatBody("m", system, one))
	second := peek(t, Chat, chatBody("m:latest", system, one, two, turn{"user", "and?"}))
	if len(first.Prefixes) != 2 || len(second.Prefixes) != 4 {
		t.Fatalf("%d and %d prefixes, want 2 and 4", len(first.Prefixes), len(second.Prefixes))
	}
	if !slices.Equal(first.Prefixes, second.Prefixes[:2]) || !slices.Equal(first.PrefixTokens, second.PrefixTokens[:2]) {
		t.Error("the longer conversation does not begin with the shorter one")
	}
	if first.PrefixKey != second.PrefixKey || first.PrefixKey != first.Prefixes[1] {
		t.Error("the key is not that of the first user message")
	}
	if !slices.IsSorted(second.PrefixTokens) || second.PrefixTokens[3] != second.PromptTokens {
		t.Errorf("tokens %v do not grow to %d", second.PrefixTokens, second.PromptTokens)
	}
}

func TestPrefixesDiffer(t *testing.T) {
	base := peek(t, Chat, chatBody("m", turn{"user", "hi"}))
	for name, body := range map[string]string{
		"model":   chatBody("n", turn{"user", "hi"}),
		"content": chatBody("m", turn{"user", "ho"}),
		"role":    chatBody("m", turn{"system", "hi"}),
		"image":   `{"model":"m","messages":[{"role":"user","content":"hi","images":["aa"]}]}`,
		"tools":   `{"model":"m","tools":[{}],"messages":[{"role":"user","content":"hi"}]}`,
	} {
		if other := peek(t, Chat, body); other.PrefixKey == base.PrefixKey || other.Prefixes[0] == base.Prefixes[0] {
			t.Errorf("another %s, but the same hash", name)
		}
	}
	for name, body := range map[string]string{
		"order of members": `{"messages":[{"content":"hi","role":"user"}],"stream":false,"model":"m"}`,
		"white space":      `{ "model" : "m" , "messages" : [ { "role" : "user" , "content" : "hi" } ] }`,
		"spelling":         `{"model":"registry.ollama.ai/library/M:latest","messages":[{"role":"user","content":"hi"}]}`,
		"options":          `{"model":"m","options":{"seed":1},"messages":[{"role":"user","content":"hi"}],"tools":[]}`,
	} {
		if other := peek(t, Chat, body); other.PrefixKey != base.PrefixKey {
			t.Errorf("only another %s, but another hash", name)
		}
	}
}

// The hashes are compared between nodes: they may not change by a release.
func TestPrefixesAreStable(t *testing.T) {
	p := peek(t, Chat, chatBody("m", turn{"system", "be brief"}, turn{"user", strings.Repeat("long ", 100)}))
	got := fmt.Sprintf("%016x %016x %016x", p.PrefixKey, p.Prefixes[0], p.Prefixes[1])
	const want = "b8be294b436f43d8 ff6d499e1ef53b32 b8be294b436f43d8"
	if got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestPrefixesAreBounded(t *testing.T) {
	var turns []turn
	for i := range 200 {
		turns = append(turns, turn{[]string{"user", "assistant"}[i%2], fmt.Sprint("message ", i)})
	}
	before := peek(t, Chat, chatBody("m", turns[:198]...))
	after := peek(t, Chat, chatBody("m", turns...))
	if len(before.Prefixes) > 64 || len(after.Prefixes) > 64 {
		t.Fatalf("%d, %d prefixes", len(before.Prefixes), len(after.Prefixes))
	}
	if !slices.IsSorted(after.PrefixTokens) {
		t.Errorf("not from short to long: %v", after.PrefixTokens)
	}
	whole := before.Prefixes[len(before.Prefixes)-1]
	if !slices.Contains(after.Prefixes, whole) {
		t.Error("two messages later the whole earlier conversation is not among the prefixes")
	}
	if after.Prefixes[0] != before.Prefixes[0] || after.PrefixKey != before.PrefixKey {
		t.Error("the beginning is not among the prefixes")
	}
	system := `{"model":"m","system":"s",` + strings.TrimPrefix(chatBody("m", turns...), `{"model":"m",`)
	if p := peek(t, V1Messages, system); len(p.Prefixes) != 64 {
		t.Errorf("%d prefixes with a system text, want 64", len(p.Prefixes))
	}
}

func TestPrefixesOfOnePrompt(t *testing.T) {
	text := strings.Repeat("0123456789abcde\n", 4096)
	body := func(kind Kind, prompt string) Peek {
		quoted, err := json.Marshal(prompt)
		if err != nil {
			t.Fatal(err)
		}
		return peek(t, kind, `{"model":"m","system":"s","prompt":`+string(quoted)+`}`)
	}
	short, long := body(Generate, text[:20000]), body(Generate, text)
	if short.PrefixKey != long.PrefixKey {
		t.Error("the beginning is the same, the key is not")
	}
	common := 0
	for i, h := range short.Prefixes {
		if slices.Contains(long.Prefixes, h) {
			common = short.PrefixTokens[i]
		}
	}
	if common*100 < short.PromptTokens*84 {
		t.Errorf("%d of %d common tokens found, want 84 %%", common, short.PromptTokens)
	}
	if len(long.Prefixes) > 64 || !slices.IsSorted(long.PrefixTokens) {
		t.Errorf("%d prefixes, tokens %v", len(long.Prefixes), long.PrefixTokens)
	}
	other := body(Generate, "x"+text[:20000])
	for _, h := range other.Prefixes[1:] {
		if slices.Contains(short.Prefixes, h) {
			t.Error("another beginning, but a common prefix")
		}
	}
	if p := body(V1Completions, "hi"); p.PrefixKey == 0 || len(p.Prefixes) != 1 {
		t.Errorf("%+v", p)
	}
	if p := peek(t, Generate, `{"model":"m"}`); p.PrefixKey != 0 || p.Prefixes != nil {
		t.Errorf("no prompt, but %+v", p)
	}
	if p := peek(t, Embed, `{"model":"m","input":["x"]}`); p.Prefixes != nil {
		t.Errorf("embeddings keep no KV cache, but %+v", p)
	}
}

func TestHashBytes(t *testing.T) {
	seen := map[uint64]string{}
	add := func(name string, p []byte, seed uint64) {
		h := hashBytes(seed, p)
		if other, ok := seen[h]; ok {
			t.Errorf("%s and %s have the hash %x", name, other, h)
		}
		seen[h] = name
	}
	for n := range 70 {
		p := make([]byte, n)
		add(fmt.Sprint("zeros ", n), p, 0)
		add(fmt.Sprint("zeros, seed ", n), p, 1)
		for i := range p {
			p[i] = 1
			add(fmt.Sprint("one at ", i, " of ", n), p, 0)
			p[i] = 0
		}
	}
}
