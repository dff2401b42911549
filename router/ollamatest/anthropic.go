package ollamatest

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
)

// anthropicRefusal is an error of /v1/messages.
func anthropicRefusal(status int, text string) (string, []byte) {
	kind := "api_error"
	switch status {
	case http.StatusBadRequest:
		kind = "invalid_request_error"
	case http.StatusUnauthorized:
		kind = "authentication_error"
	case http.StatusForbidden:
		kind = "permission_error"
	case http.StatusNotFound:
		kind = "not_found_error"
	case http.StatusTooManyRequests:
		kind = "rate_limit_error"
	case http.StatusServiceUnavailable, 529:
		kind = "overloaded_error"
	}
	return "application/json", []byte(`{"type":"error","error":{"type":"` + kind + `","message":` + quote(text) +
		`},"request_id":"` + anthropicID("req") + "\"}\n")
}

// anthropicID is an identifier in Anthropic's style.
func anthropicID(prefix string) string {
	var b [12]byte
	rand.Read(b[:])
	return prefix + "_" + hex.EncodeToString(b[:])
}

// anthropicRequest is the body of /v1/messages.
type anthropicRequest struct {
	Model         string           `json:"model"`
	MaxTokens     int              `json:"max_tokens"`
	Messages      []anthropicTurn  `json:"messages"`
	System        anthropicContent `json:"system"`
	Stream        bool             `json:"stream"`
	Temperature   *float64         `json:"temperature"`
	TopP          *float64         `json:"top_p"`
	TopK          *int             `json:"top_k"`
	StopSequences []string         `json:"stop_sequences"`
	Tools         []struct {
		Name        string   `json:"name"`
		Description string   `json:"description"`
		InputSchema rawValue `json:"input_schema"`
	} `json:"tools"`
	Thinking *struct {
		Type string `json:"type"`
	} `json:"thinking"`
}

type anthropicTurn struct {
	Role    string           `json:"role"`
	Content anthropicContent `json:"content"`
}

// anthropicContent is a text or a list of blocks.
type anthropicContent []anthropicBlock

// UnmarshalJSON reads b.
func (a *anthropicContent) UnmarshalJSON(b []byte) error {
	var text string
	if json.Unmarshal(b, &text) == nil {
		*a = anthropicContent{{Type: "text", Text: text}}
		return nil
	}
	return json.Unmarshal(b, (*[]anthropicBlock)(a))
}

// text joins the text blocks.
func (a anthropicContent) text() string {
	var b strings.Builder
	for _, block := range a {
		if block.Type == "text" {
			b.WriteString(block.Text)
		}
	}
	return b.String()
}

type anthropicBlock struct {
	Type     string           `json:"type"`
	Text     string           `json:"text"`
	Thinking string           `json:"thinking"`
	ID       string           `json:"id"`
	Name     string           `json:"name"`
	Input    rawValue         `json:"input"`
	Content  anthropicContent `json:"content"`
	Source   struct {
		Data string `json:"data"`
	} `json:"source"`
}

// messages translates one turn.
func (t anthropicTurn) messages() ([]Message, error) {
	m := Message{Role: strings.ToLower(t.Role), Content: t.Content.text()}
	var results []Message
	for _, b := range t.Content {
		switch b.Type {
		case "image":
			image, err := base64.StdEncoding.DecodeString(b.Source.Data)
			if err != nil {
				return nil, fmt.Errorf("invalid base64 image data: %w", err)
			}
			m.Images = append(m.Images, image)
		case "thinking":
			m.Thinking = b.Thinking
		case "tool_use":
			m.ToolCalls = append(m.ToolCalls, toolCall{ID: b.ID, Function: functionCall{Name: b.Name, Arguments: b.Input}})
		case "tool_result":
			results = append(results, Message{Role: "tool", Content: b.Content.text()})
		}
	}
	if m.Content == "" && m.Thinking == "" && len(m.Images)+len(m.ToolCalls) == 0 {
		return results, nil
	}
	return append(results, m), nil
}

// messages serves /v1/messages.
func (c *call) messages() {
	var req anthropicRequest
	err := c.decode(&req, "MessagesRequest")
	switch {
	case err != nil:
	case req.Model == "":
		err = errors.New("model is required")
	case req.MaxTokens <= 0:
		err = errors.New("max_tokens is required and must be positive")
	case len(req.Messages) == 0:
		err = errors.New("messages is required")
	}
	if err != nil {
		c.fail(http.StatusBadRequest, err.Error())
		return
	}
	chat := chatRequest{Model: req.Model, lenient: true, Options: map[string]any{"num_predict": req.MaxTokens}}
	if system := req.System.text(); system != "" {
		chat.Messages = append(chat.Messages, Message{Role: "system", Content: system})
	}
	for _, t := range req.Messages {
		msgs, err := t.messages()
		if err != nil {
			c.fail(http.StatusBadRequest, err.Error())
			return
		}
		chat.Messages = append(chat.Messages, msgs...)
	}
	for name, p := range map[string]*float64{"temperature": req.Temperature, "top_p": req.TopP} {
		if p != nil {
			chat.Options[name] = *p
		}
	}
	if req.TopK != nil {
		chat.Options["top_k"] = *req.TopK
	}
	if len(req.StopSequences) > 0 {
		chat.Options["stop"] = req.StopSequences
	}
	for _, t := range req.Tools {
		chat.Tools = append(chat.Tools, tool{Type: "function", Function: toolFunction{t.Name, t.Description, t.InputSchema}})
	}
	if req.Thinking != nil {
		chat.Think = &thinkValue{on: req.Thinking.Type == "enabled"}
	}
	prompt := 0 // Ollama's estimate for message_start: a quarter of the bytes
	for _, m := range chat.Messages {
		prompt += len(m.Role) + len(m.Content)
	}
	f := &anthropicFormat{id: anthropicID("msg"), model: quote(req.Model), estimate: max(prompt/4, 1)}
	if req.Stream {
		c.w.Header().Set("Cache-Control", "no-cache")
	}
	c.runChat(chat, f, req.Stream)
}
