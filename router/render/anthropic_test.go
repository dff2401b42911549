package render

import (
	"errors"
	"testing"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/wire"
)

func TestReadMessages(t *testing.T) {
	q, err := Read(wire.V1Messages, []byte(`{"model":"m","max_tokens":7,"stop_sequences":["X"],"top_k":3,"thinking":{"type":"disabled"},
		"system":[{"type":"text","text":"be "},{"type":"text","text":"brief"}],
		"messages":[{"role":"User","content":"hi"},{"role":"assistant","content":[{"type":"thinking","thinking":"hm"},{"type":"text","text":"yes"}]},
			{"role":"user","content":[{"type":"text","text":"a"},{"type":"text","text":"b"}]},{"role":"user","content":""}]}`))
	if err != nil {
		t.Fatal(err)
	}
	want := []Message{
		{Role: "system", Content: "be brief"},
		{Role: "user", Content: "hi"},
		{Role: "assistant", Content: "yes", Thinking: "hm"},
		{Role: "user", Content: "ab"},
	}
	if len(q.Messages) != len(want) {
		t.Fatalf("%+v", q.Messages)
	}
	for i, m := range q.Messages {
		if m.Role != want[i].Role || m.Content != want[i].Content || m.Thinking != want[i].Thinking {
			t.Errorf("message %d: %+v, want %+v", i, m, want[i])
		}
	}
	if n, ok := q.Limit(&Model{}); !ok || n != 7 || !q.Chat || string(q.think) != "false" ||
		string(q.Options["stop"]) != `["X"]` || string(q.Options["top_k"]) != "3" || q.Options["temperature"] != nil {
		t.Errorf("%+v", q)
	}
	for _, body := range []string{
		`{"model":"m","messages":[{"role":"user","content":[{"type":"image","source":{}}]}]}`,
		`{"model":"m","messages":[{"role":"user","content":[{"type":"tool_result","tool_use_id":"x","content":"y"}]}]}`,
		`{"model":"m","messages":[{"role":"user","content":5}]}`,
		`{"model":"m","output_config":{"effort":"high"},"messages":[]}`,
	} {
		if _, err := Read(wire.V1Messages, []byte(body)); !errors.Is(err, ErrCannot) {
			t.Errorf("%s: %v", body, err)
		}
	}
}
