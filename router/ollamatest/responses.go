package ollamatest

import (
	"encoding/json"
	"fmt"
	"strconv"
	"time"
)

// responsesRequest is the body of /v1/responses.
type responsesRequest struct {
	Model        string          `json:"model"`
	Input        json.RawMessage `json:"input"`
	Instructions string          `json:"instructions"`
	MaxTokens    *int            `json:"max_output_tokens"`
	Temperature  *float64        `json:"temperature"`
	TopP         *float64        `json:"top_p"`
	Stream       bool            `json:"stream"`
	Reasoning    struct {
		Effort string `json:"effort"`
	} `json:"reasoning"`
	Text *struct {
		Format *struct {
			Type   string          `json:"type"`
			Schema json.RawMessage `json:"schema"`
		} `json:"format"`
	} `json:"text"`
	Tools []struct {
		Type        string   `json:"type"`
		Name        string   `json:"name"`
		Description string   `json:"description"`
		Parameters  rawValue `json:"parameters"`
	} `json:"tools"`
}

// messages reads the input: a text or a list of items.
func (r responsesRequest) messages() ([]Message, error) {
	var out []Message
	if r.Instructions != "" {
		out = append(out, Message{Role: "system", Content: r.Instructions})
	}
	var text string
	if json.Unmarshal(r.Input, &text) == nil {
		return append(out, Message{Role: "user", Content: text}), nil
	}
	var items []struct {
		Type    string          `json:"type"`
		Role    string          `json:"role"`
		Content json.RawMessage `json:"content"`
		Output  string          `json:"output"`
	}
	if err := json.Unmarshal(r.Input, &items); err != nil {
		return nil, fmt.Errorf("input must be a string or array: %w", err)
	}
	for i, item := range items {
		switch {
		case item.Type == "message" || item.Type == "" && item.Role != "":
			content, err := responsesText(item.Content)
			if err != nil {
				return nil, fmt.Errorf("input[%d]: %w", i, err)
			}
			out = append(out, Message{Role: item.Role, Content: content})
		case item.Type == "function_call_output":
			out = append(out, Message{Role: "tool", Content: item.Output})
		case item.Type == "function_call", item.Type == "reasoning":
		default:
			return nil, fmt.Errorf("input[%d]: unknown input item type: %q", i, item.Type)
		}
	}
	return out, nil
}

// responsesText reads the content of an item: a text or a list of parts.
func responsesText(raw json.RawMessage) (string, error) {
	var text string
	if len(raw) == 0 || json.Unmarshal(raw, &text) == nil {
		return text, nil
	}
	var parts []struct {
		Type string `json:"type"`
		Text string `json:"text"`
	}
	if err := json.Unmarshal(raw, &parts); err != nil {
		return "", fmt.Errorf("content must be a string or array: %w", err)
	}
	for _, p := range parts {
		text += p.Text
	}
	return text, nil
}

// responses serves /v1/responses. No state is kept.
func (c *call) responses() {
	var req responsesRequest
	err := c.decode(&req, "ResponsesRequest")
	var messages []Message
	if err == nil {
		messages, err = req.messages()
	}
	if err != nil {
		c.reject(err)
		return
	}
	chat := chatRequest{Model: req.Model, Messages: messages, Options: map[string]any{"temperature": 1.0}}
	if req.Temperature != nil {
		chat.Options["temperature"] = *req.Temperature
	}
	if req.TopP != nil {
		chat.Options["top_p"] = *req.TopP
	}
	if req.MaxTokens != nil {
		chat.Options["num_predict"] = *req.MaxTokens
	}
	if req.Text != nil && req.Text.Format != nil && req.Text.Format.Type == "json_schema" {
		chat.Format = req.Text.Format.Schema
	}
	for _, t := range req.Tools {
		chat.Tools = append(chat.Tools, tool{t.Type, toolFunction{t.Name, t.Description, t.Parameters}})
	}
	if effort := req.Reasoning.Effort; effort != "" {
		chat.Think = &thinkValue{on: effort != "none"}
	}
	id := strconv.FormatUint(c.s.random()%999999, 10)
	f := &responsesFormat{id: "resp_" + id, model: req.Model, created: time.Now().Unix(), maxTokens: req.MaxTokens}
	f.item[content], f.item[thinking] = "msg_"+id, "rs_"+id
	if req.Stream {
		c.w.Header().Set("Cache-Control", "no-cache")
	}
	c.runChat(chat, f, req.Stream)
}
