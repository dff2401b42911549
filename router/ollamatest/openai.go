package ollamatest

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
)

// openAIRefusal is an error of the routes under /v1. Before 0.30 every error
// that did not arise in reading the request was an api_error.
func (s *Server) openAIRefusal(status int, text string) (string, []byte) {
	kind := "api_error"
	switch {
	case !s.has.modern:
	case status == http.StatusBadRequest:
		kind = "invalid_request_error"
	case status == http.StatusNotFound:
		kind = "not_found_error"
	}
	return "application/json", append(openAIError(kind, text), '\n')
}

func openAIError(kind, text string) []byte {
	return []byte(`{"error":{"message":` + quote(text) + `,"type":"` + kind + `","param":null,"code":null}}`)
}

// reject answers a request that cannot be read.
func (c *call) reject(err error) {
	c.w.Header().Set("Content-Type", "application/json; charset=utf-8")
	c.w.WriteHeader(http.StatusBadRequest)
	c.w.Write(openAIError("invalid_request_error", err.Error()))
}

// openAIChatRequest is the body of /v1/chat/completions.
type openAIChatRequest struct {
	Model          string          `json:"model"`
	Messages       []openAIMessage `json:"messages"`
	Stream         bool            `json:"stream"`
	StreamOptions  streamOptions   `json:"stream_options"`
	ResponseFormat *responseFormat `json:"response_format"`
	Tools          []tool          `json:"tools"`
	Reasoning      *struct {
		Effort *string `json:"effort"`
	} `json:"reasoning"`
	ReasoningEffort *string `json:"reasoning_effort"`
	openAISampling
}

type streamOptions struct {
	IncludeUsage bool `json:"include_usage"`
}

type responseFormat struct {
	Type       string `json:"type"`
	JSONSchema *struct {
		Schema json.RawMessage `json:"schema"`
	} `json:"json_schema"`
}

// openAISampling are the fields that become options.
type openAISampling struct {
	MaxTokens        *int     `json:"max_tokens"`
	Seed             *int     `json:"seed"`
	Stop             any      `json:"stop"`
	Temperature      *float64 `json:"temperature"`
	TopP             *float64 `json:"top_p"`
	FrequencyPenalty *float64 `json:"frequency_penalty"`
	PresencePenalty  *float64 `json:"presence_penalty"`
}

// options translates the fields; temperature and top_p default to 1 here.
func (o openAISampling) options() map[string]any {
	m := map[string]any{"temperature": 1.0, "top_p": 1.0}
	for name, p := range map[string]*float64{
		"temperature": o.Temperature, "top_p": o.TopP,
		"frequency_penalty": o.FrequencyPenalty, "presence_penalty": o.PresencePenalty,
	} {
		if p != nil {
			m[name] = *p
		}
	}
	for name, p := range map[string]*int{"num_predict": o.MaxTokens, "seed": o.Seed} {
		if p != nil {
			m[name] = *p
		}
	}
	switch stop := o.Stop.(type) {
	case string:
		m["stop"] = []string{stop}
	case []any:
		list := []string{}
		for _, s := range stop {
			if s, ok := s.(string); ok {
				list = append(list, s)
			}
		}
		m["stop"] = list
	}
	return m
}

// openAIMessage is a message whose content is a text or a list of parts.
type openAIMessage struct {
	Role      string `json:"role"`
	Content   any    `json:"content"`
	Reasoning string `json:"reasoning"`
	ToolCalls []struct {
		ID       string `json:"id"`
		Function struct {
			Name      string `json:"name"`
			Arguments string `json:"arguments"`
		} `json:"function"`
	} `json:"tool_calls"`
}

// messages translates m.
func (m openAIMessage) messages() ([]Message, error) {
	var calls []toolCall
	for _, tc := range m.ToolCalls {
		if !json.Valid([]byte(tc.Function.Arguments)) {
			return nil, errors.New("invalid tool call arguments")
		}
		calls = append(calls, toolCall{ID: tc.ID, Function: functionCall{
			Name: tc.Function.Name, Arguments: rawValue(tc.Function.Arguments),
		}})
	}
	switch v := m.Content.(type) {
	case string:
		return []Message{{Role: m.Role, Content: v, Thinking: m.Reasoning, ToolCalls: calls}}, nil
	case []any:
		var out []Message
		for _, part := range v {
			msg, err := openAIPart(m.Role, part)
			if err != nil {
				return nil, err
			}
			out = append(out, msg)
		}
		if n := len(out); n > 0 {
			out[n-1].ToolCalls, out[n-1].Thinking = calls, m.Reasoning
		}
		return out, nil
	}
	if m.ToolCalls == nil {
		return nil, fmt.Errorf("invalid message content type: %T", m.Content)
	}
	return []Message{{Role: m.Role, Thinking: m.Reasoning, ToolCalls: calls}}, nil
}

// openAIPart translates one part of a content list.
func openAIPart(role string, part any) (Message, error) {
	bad := errors.New("invalid message format")
	fields, _ := part.(map[string]any)
	switch fields["type"] {
	case "text":
		text, ok := fields["text"].(string)
		if !ok {
			return Message{}, bad
		}
		return Message{Role: role, Content: text}, nil
	case "image_url":
		url, _ := fields["image_url"].(string)
		if m, ok := fields["image_url"].(map[string]any); ok {
			url, _ = m["url"].(string)
		}
		_, data, ok := strings.Cut(url, ";base64,")
		if !ok || !strings.HasPrefix(url, "data:image/") {
			return Message{}, errors.New("invalid image input")
		}
		image, err := base64.StdEncoding.DecodeString(data)
		if err != nil {
			return Message{}, bad
		}
		return Message{Role: role, Images: [][]byte{image}}, nil
	}
	return Message{}, bad
}

// openAIChat serves /v1/chat/completions.
func (c *call) openAIChat() {
	var req openAIChatRequest
	if err := c.decode(&req, "ChatCompletionRequest"); err != nil {
		c.reject(err)
		return
	}
	if len(req.Messages) == 0 {
		c.reject(errors.New("[] is too short - 'messages'"))
		return
	}
	chat := chatRequest{Model: req.Model, Tools: req.Tools, Options: req.options()}
	for _, m := range req.Messages {
		msgs, err := m.messages()
		if err != nil {
			c.reject(err)
			return
		}
		chat.Messages = append(chat.Messages, msgs...)
	}
	if f := req.ResponseFormat; f != nil {
		switch strings.ToLower(strings.TrimSpace(f.Type)) {
		case "json_object":
			chat.Format = json.RawMessage(`"json"`)
		case "json_schema":
			if f.JSONSchema != nil {
				chat.Format = f.JSONSchema.Schema
			}
		}
	}
	effort := req.ReasoningEffort
	if req.Reasoning != nil && req.Reasoning.Effort != nil {
		effort = req.Reasoning.Effort
	}
	if effort != nil {
		chat.Think = &thinkValue{on: *effort != "none", level: *effort}
		if *effort == "none" {
			chat.Think.level = ""
		}
	}
	f := &openAIChatFormat{openAIFormat: c.s.newOpenAI("chatcmpl-", req.Model, req.StreamOptions.IncludeUsage)}
	c.runChat(chat, f, req.Stream)
}

// openAICompletion serves /v1/completions, which applies the model's template.
func (c *call) openAICompletion() {
	var req struct {
		Model         string        `json:"model"`
		Prompt        string        `json:"prompt"`
		Suffix        string        `json:"suffix"`
		Stream        bool          `json:"stream"`
		StreamOptions streamOptions `json:"stream_options"`
		openAISampling
	}
	if err := c.decode(&req, "CompletionRequest"); err != nil {
		c.reject(err)
		return
	}
	f := &openAITextFormat{c.s.newOpenAI("cmpl-", req.Model, req.StreamOptions.IncludeUsage)}
	c.runGenerate(generateRequest{
		Model: req.Model, Prompt: req.Prompt, Suffix: req.Suffix, Options: req.options(),
	}, f, req.Stream)
}
