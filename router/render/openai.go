package render

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/wire"
)

// v1Sampling are the members of OpenAI's requests that become options.
type v1Sampling struct {
	MaxTokens     json.RawMessage `json:"max_tokens"`
	MaxCompletion json.RawMessage `json:"max_completion_tokens"`
	Seed          json.RawMessage `json:"seed"`
	Temperature   json.RawMessage `json:"temperature"`
	TopP          json.RawMessage `json:"top_p"`
	Frequency     json.RawMessage `json:"frequency_penalty"`
	Presence      json.RawMessage `json:"presence_penalty"`
	Stop          json.RawMessage `json:"stop"`
}

// options translates as Ollama's own OpenAI layer does: temperature and top_p
// are 1 where the caller does not say, whatever the model's parameters are.
func (s *v1Sampling) options() map[string]json.RawMessage {
	one := json.RawMessage("1")
	out := map[string]json.RawMessage{"temperature": one, "top_p": one}
	set := func(name string, raw json.RawMessage) {
		if len(raw) > 0 && string(raw) != "null" {
			out[name] = raw
		}
	}
	set("num_predict", s.MaxCompletion)
	set("num_predict", s.MaxTokens)
	set("seed", s.Seed)
	set("temperature", s.Temperature)
	set("top_p", s.TopP)
	set("frequency_penalty", s.Frequency)
	set("presence_penalty", s.Presence)
	if list := stops(s.Stop); len(list) > 0 {
		raw, err := json.Marshal(list)
		if err == nil {
			out["stop"] = raw
		}
	}
	return out
}

// stops reads one stop sequence or a list of them.
func stops(raw json.RawMessage) []string {
	var one string
	if json.Unmarshal(raw, &one) == nil && one != "" {
		return []string{one}
	}
	var some []any
	if json.Unmarshal(raw, &some) != nil {
		return nil
	}
	var list []string
	for _, s := range some {
		if s, ok := s.(string); ok {
			list = append(list, s)
		}
	}
	return list
}

// v1Chat is the body of /v1/chat/completions.
type v1Chat struct {
	Model     string      `json:"model"`
	Messages  []v1Message `json:"messages"`
	Reasoning *struct {
		Effort json.RawMessage `json:"effort"`
	} `json:"reasoning"`
	Effort json.RawMessage `json:"reasoning_effort"`
	v1Sampling
}

type v1Message struct {
	Role       string          `json:"role"`
	Content    json.RawMessage `json:"content"`
	Reasoning  string          `json:"reasoning"`
	Name       string          `json:"name"`
	ToolCallID string          `json:"tool_call_id"`
	ToolCalls  []struct {
		ID       string `json:"id"`
		Function struct {
			Name      string `json:"name"`
			Arguments string `json:"arguments"`
		} `json:"function"`
	} `json:"tool_calls"`
}

func readV1Chat(body []byte) (*Request, error) {
	var v v1Chat
	if err := json.Unmarshal(body, &v); err != nil {
		return nil, fmt.Errorf("render: request: %w", err)
	}
	q := &Request{Kind: wire.V1Chat, Model: v.Model, Chat: true, Options: v.options()}
	effort := v.Effort
	if v.Reasoning != nil && len(v.Reasoning.Effort) > 0 {
		effort = v.Reasoning.Effort
	}
	switch string(effort) {
	case "", "null", `""`:
	case `"none"`:
		q.think = json.RawMessage("false")
	default:
		q.think = effort
	}
	for i := range v.Messages {
		messages, err := v.translate(&v.Messages[i])
		if err != nil {
			return nil, err
		}
		q.Messages = append(q.Messages, messages...)
	}
	return q, nil
}

// translate makes Ollama's messages of one of OpenAI's: a content of several
// parts becomes several messages.
func (v *v1Chat) translate(m *v1Message) ([]Message, error) {
	base := Message{Role: strings.ToLower(m.Role)}
	var calls []ToolCall
	for _, c := range m.ToolCalls {
		call := ToolCall{Function: Function{Name: c.Function.Name}}
		if err := json.Unmarshal([]byte(c.Function.Arguments), &call.Function.Arguments); err != nil {
			return nil, cannot("arguments of a tool call are no JSON")
		}
		calls = append(calls, call)
	}
	var text string
	if json.Unmarshal(m.Content, &text) == nil && len(m.Content) > 0 && m.Content[0] == '"' {
		base.Content, base.Thinking, base.ToolCalls, base.ToolName = text, m.Reasoning, calls, v.toolName(m)
		return []Message{base}, nil
	}
	var parts []struct {
		Type string  `json:"type"`
		Text *string `json:"text"`
	}
	if len(m.Content) > 0 && m.Content[0] == '[' && json.Unmarshal(m.Content, &parts) == nil {
		var out []Message
		for _, p := range parts {
			if p.Type != "text" || p.Text == nil {
				return nil, cannot("a message part of type " + p.Type)
			}
			part := base
			part.Content = *p.Text
			out = append(out, part)
		}
		if n := len(out); n > 0 && len(calls) > 0 {
			out[n-1].ToolCalls, out[n-1].Thinking, out[n-1].ToolName = calls, m.Reasoning, v.toolName(m)
		}
		return out, nil
	}
	if len(calls) == 0 {
		return nil, cannot("a message without content")
	}
	base.Thinking, base.ToolCalls = m.Reasoning, calls
	return []Message{base}, nil
}

// toolName is the tool whose result m is: by name, or by the id of the call.
func (v *v1Chat) toolName(m *v1Message) string {
	if !strings.EqualFold(m.Role, "tool") {
		return ""
	}
	if m.Name != "" || m.ToolCallID == "" {
		return m.Name
	}
	for _, v0 := range slices.Backward(v.Messages) {
		for _, c := range v0.ToolCalls {
			if c.ID == m.ToolCallID {
				return c.Function.Name
			}
		}
	}
	return ""
}

func readV1Completion(body []byte) (*Request, error) {
	var v struct {
		Model  string `json:"model"`
		Prompt string `json:"prompt"`
		v1Sampling
	}
	if err := json.Unmarshal(body, &v); err != nil {
		return nil, fmt.Errorf("render: request: %w", err)
	}
	q := &Request{Kind: wire.V1Completions, Model: v.Model, Prompt: v.Prompt, Options: v.options()}
	if string(v.TopP) == "0" { // here 0 is not told from unset
		q.Options["top_p"] = json.RawMessage("1")
	}
	return q, nil
}
