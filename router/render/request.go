package render

import (
	"encoding/json"
	"fmt"
	"maps"
	"strings"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/wire"
)

// Request is a caller's request in Ollama's own terms, whatever its dialect,
// as far as prompt and generation depend on it.
type Request struct {
	Kind  wire.Kind // the route it came by
	Model string    // as the caller wrote it

	Chat     bool // a conversation; else a single prompt
	Messages []Message
	Prompt   string
	System   string // of a single prompt
	Template string // of a single prompt: in place of the model's
	Raw      bool   // the prompt is what the model gets

	// Options are Ollama's, by their names; JSON as the caller wrote it.
	Options map[string]json.RawMessage
	// Pass are further members that bear on generation and go on as they
	// came: keep_alive, shift, truncate.
	Pass map[string]json.RawMessage

	think json.RawMessage
}

// native is the body of /api/chat and /api/generate.
type native struct {
	Model     string                     `json:"model"`
	Messages  []Message                  `json:"messages"`
	Prompt    string                     `json:"prompt"`
	System    string                     `json:"system"`
	Template  string                     `json:"template"`
	Raw       bool                       `json:"raw"`
	Options   map[string]json.RawMessage `json:"options"`
	KeepAlive json.RawMessage            `json:"keep_alive"`
	Shift     json.RawMessage            `json:"shift"`
	Truncate  json.RawMessage            `json:"truncate"`
	Think     json.RawMessage            `json:"think"`
}

// Read reads the body of a request of a kind that can be continued: Generate,
// Chat, V1Chat, V1Completions or V1Messages. Members are bound as Ollama binds them.
func Read(kind wire.Kind, body []byte) (*Request, error) {
	switch kind {
	case wire.Generate, wire.Chat:
		var n native
		if err := json.Unmarshal(body, &n); err != nil {
			return nil, fmt.Errorf("render: request: %w", err)
		}
		return n.request(kind), nil
	case wire.V1Chat:
		return readV1Chat(body)
	case wire.V1Completions:
		return readV1Completion(body)
	case wire.V1Messages:
		return readMessages(body)
	}
	return nil, cannot("a request of kind " + kind.String())
}

func (n *native) request(kind wire.Kind) *Request {
	q := &Request{
		Kind: kind, Model: n.Model, Chat: kind == wire.Chat, Messages: n.Messages,
		Prompt: n.Prompt, System: n.System, Template: n.Template, Raw: n.Raw && kind == wire.Generate,
		Options: n.Options, think: n.Think, Pass: map[string]json.RawMessage{},
	}
	for name, raw := range map[string]json.RawMessage{
		"keep_alive": n.KeepAlive, "shift": n.Shift, "truncate": n.Truncate,
	} {
		if len(raw) > 0 && string(raw) != "null" {
			q.Pass[name] = raw
		}
	}
	return q
}

// Limit is the num_predict that holds for q on m: the request's, else the
// model's; ok is false when there is none. As in Ollama, 0 and less are none.
func (q *Request) Limit(m *Model) (n int, ok bool) {
	raw, set := q.Options["num_predict"]
	if !set || string(raw) == "null" {
		raw = json.RawMessage(m.parameter("num_predict"))
	}
	var f float64
	if len(raw) == 0 || json.Unmarshal(raw, &f) != nil || f <= 0 || f > 1<<40 {
		return 0, false
	}
	return int(f), true
}

// Sets reports whether the request or the model's own parameters set an
// option, so that no default holds.
func (q *Request) Sets(m *Model, option string) bool {
	raw, set := q.Options[option]
	return set && string(raw) != "null" || m.parameter(option) != ""
}

// Asks is the body, and the path for it, that makes an Ollama of 0.11.5 or
// newer tell the prompt that it would give to the model. An older one does not
// know the question and generates one token.
func (q *Request) Asks() (path string, body []byte, err error) {
	options := map[string]json.RawMessage{}
	maps.Copy(options, q.Options)
	options["num_predict"] = json.RawMessage("1")
	out := map[string]any{
		"model": q.Model, "options": options, "stream": false, "_debug_render_only": true,
	}
	for name, raw := range q.Pass {
		out[name] = raw
	}
	if len(q.think) > 0 {
		out["think"] = q.think
	}
	if q.Chat {
		path, out["messages"] = "/api/chat", q.Messages
	} else {
		path, out["prompt"] = "/api/generate", q.Prompt
		if q.System != "" {
			out["system"] = q.System
		}
		if q.Template != "" {
			out["template"] = q.Template
		}
	}
	body, err = json.Marshal(out)
	return path, body, err
}

// Told reads the prompt from the answer to [Request.Asks]; !ok when the server
// does not know the question.
func Told(answer []byte) (prompt string, ok bool) {
	var a struct {
		Info *struct {
			Rendered string `json:"rendered_template"`
			Images   int    `json:"image_count"`
		} `json:"_debug_info"`
	}
	if json.Unmarshal(answer, &a) != nil || a.Info == nil || a.Info.Rendered == "" || a.Info.Images > 0 {
		return "", false
	}
	return a.Info.Rendered, true
}

// Continue is the body for /api/generate that goes on after prompt, for at
// most remaining tokens (negative: as the options say). extra options hold
// where the request has none.
func (q *Request) Continue(prompt string, remaining int, extra map[string]float64) ([]byte, error) {
	options := make(map[string]any, len(q.Options)+2)
	for name, value := range extra {
		options[name] = value
	}
	for name, raw := range q.Options {
		options[name] = raw
	}
	if remaining >= 0 {
		options["num_predict"] = remaining
	}
	out := map[string]any{
		"model": q.Model, "prompt": prompt, "raw": true, "stream": true, "options": options,
	}
	for name, raw := range q.Pass {
		out[name] = raw
	}
	return json.Marshal(out)
}

// nameOf trims what is not part of a model's own name: registry, namespace and
// tag.
func nameOf(model string) string {
	if i := strings.LastIndexByte(model, '/'); i >= 0 {
		model = model[i+1:]
	}
	name, _, _ := strings.Cut(model, ":")
	return strings.ToLower(name)
}
