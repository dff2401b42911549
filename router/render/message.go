package render

import (
	"encoding/json"
	"strings"
)

// Message is one message of a conversation, with the fields that templates
// know.
type Message struct {
	Role      string     `json:"role"`
	Content   string     `json:"content"`
	Thinking  string     `json:"thinking,omitempty"`
	Images    [][]byte   `json:"images,omitempty"`
	ToolCalls []ToolCall `json:"tool_calls,omitempty"`
	ToolName  string     `json:"tool_name,omitempty"`
}

// UnmarshalJSON reads a message of Ollama's dialect; roles are in lower case
// from then on.
func (m *Message) UnmarshalJSON(b []byte) error {
	type plain Message
	var p plain
	if err := json.Unmarshal(b, &p); err != nil {
		return err
	}
	*m = Message(p)
	m.Role = strings.ToLower(m.Role)
	return nil
}

// ToolCall is a call that the model asked for in an earlier turn.
type ToolCall struct {
	Function Function `json:"function"`
}

// Function is what a ToolCall calls.
type Function struct {
	Index     int       `json:"index,omitempty"`
	Name      string    `json:"name"`
	Arguments Arguments `json:"arguments"`
}

// Arguments print themselves as JSON, as templates expect.
type Arguments map[string]any

func (a Arguments) String() string {
	b, _ := json.Marshal(map[string]any(a))
	return string(b)
}

// thinking is the think field of a request.
type thinking struct {
	set   bool
	on    bool
	level string // low, medium, high, where the caller gave one
}

// readThink reads a think value: a bool or a level; anything else is not set.
func readThink(raw json.RawMessage) thinking {
	var t thinking
	switch {
	case len(raw) == 0 || string(raw) == "null":
	case json.Unmarshal(raw, &t.on) == nil:
		t.set = true
	case json.Unmarshal(raw, &t.level) == nil:
		t.set, t.on = true, t.level != ""
	}
	return t
}

// withoutThoughts drops the thinking blocks that a client left in the earlier
// answers of a conversation, as Ollama does for the families that it did not
// use to parse: up to the last user message.
func withoutThoughts(messages []Message) {
	last := -1
	for i := range messages {
		if messages[i].Role == "user" {
			last = i
		}
	}
	for i := range max(last, 0) {
		m := &messages[i]
		if m.Role != "assistant" {
			continue
		}
		text := strings.TrimLeft(m.Content, " \t\r\n")
		rest, opened := strings.CutPrefix(text, "<think>")
		if strings.HasPrefix("<think>", text) {
			m.Content = "" // nothing, or the beginning of a tag
			continue
		}
		if !opened {
			continue
		}
		_, rest, _ = strings.Cut(rest, "</think>")
		m.Content = strings.TrimLeft(rest, " \t\r\n")
	}
}
