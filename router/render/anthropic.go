package render

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/wire"
)

// messages is the body of /v1/messages.
type messages struct {
	Model     string          `json:"model"`
	MaxTokens json.RawMessage `json:"max_tokens"`
	System    json.RawMessage `json:"system"`
	Messages  []struct {
		Role    string          `json:"role"`
		Content json.RawMessage `json:"content"`
	} `json:"messages"`
	Temperature json.RawMessage `json:"temperature"`
	TopP        json.RawMessage `json:"top_p"`
	TopK        json.RawMessage `json:"top_k"`
	Stop        json.RawMessage `json:"stop_sequences"`
	Thinking    *struct {
		Type string `json:"type"`
	} `json:"thinking"`
	Output *struct {
		Effort string `json:"effort"`
	} `json:"output_config"`
}

// readMessages translates as Ollama's own layer does: the texts of a message
// are one, and what the caller does not set is left to the model.
func readMessages(body []byte) (*Request, error) {
	var v messages
	if err := json.Unmarshal(body, &v); err != nil {
		return nil, fmt.Errorf("render: request: %w", err)
	}
	if v.Output != nil && v.Output.Effort != "" {
		return nil, cannot("an effort, which versions read differently")
	}
	q := &Request{Kind: wire.V1Messages, Model: v.Model, Chat: true, Options: map[string]json.RawMessage{}}
	for name, raw := range map[string]json.RawMessage{
		"num_predict": v.MaxTokens, "temperature": v.Temperature, "top_p": v.TopP, "top_k": v.TopK, "stop": v.Stop,
	} {
		if len(raw) > 0 && string(raw) != "null" && string(raw) != "[]" {
			q.Options[name] = raw
		}
	}
	if v.Thinking != nil {
		switch v.Thinking.Type {
		case "enabled":
			q.think = json.RawMessage("true")
		case "disabled":
			q.think = json.RawMessage("false")
		}
	}
	if len(v.System) > 0 && string(v.System) != "null" {
		m, err := ofBlocks("system", v.System)
		if err != nil {
			return nil, err
		}
		if m.Content != "" {
			q.Messages = append(q.Messages, m)
		}
	}
	for i := range v.Messages {
		m, err := ofBlocks(strings.ToLower(v.Messages[i].Role), v.Messages[i].Content)
		if err != nil {
			return nil, err
		}
		if m.Content != "" || m.Thinking != "" {
			q.Messages = append(q.Messages, m)
		}
	}
	return q, nil
}

// ofBlocks reads a content: a text, or blocks of text and thinking.
func ofBlocks(role string, content json.RawMessage) (Message, error) {
	m := Message{Role: role}
	if len(content) > 0 && content[0] == '"' {
		return m, json.Unmarshal(content, &m.Content)
	}
	var blocks []struct {
		Type     string `json:"type"`
		Text     string `json:"text"`
		Thinking string `json:"thinking"`
	}
	if json.Unmarshal(content, &blocks) != nil {
		return m, cannot("a message without content")
	}
	for _, b := range blocks {
		switch b.Type {
		case "text":
			m.Content += b.Text
		case "thinking":
			m.Thinking = b.Thinking
		default:
			return m, cannot("a message part of type " + b.Type)
		}
	}
	return m, nil
}
