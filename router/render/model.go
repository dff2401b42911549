package render

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
)

// Model is what /api/show says of a model, as far as prompts depend on it.
type Model struct {
	Template   string
	System     string
	Messages   []Message // put before every conversation
	Renderer   string    // name of a renderer inside Ollama, in place of the template
	Parser     string    // name of a parser inside Ollama, for what the model says
	Family     string
	parameters map[string]string
}

// ParseModel reads an answer of /api/show.
func ParseModel(answer []byte) (*Model, error) {
	var a struct {
		Template   string    `json:"template"`
		System     string    `json:"system"`
		Messages   []Message `json:"messages"`
		Parameters string    `json:"parameters"`
		Renderer   string    `json:"renderer"`
		Parser     string    `json:"parser"`
		Details    struct {
			Family string `json:"family"`
		} `json:"details"`
	}
	if err := json.Unmarshal(answer, &a); err != nil {
		return nil, fmt.Errorf("render: answer of /api/show: %w", err)
	}
	return &Model{
		Template: a.Template, System: a.System, Messages: a.Messages, Renderer: a.Renderer, Parser: a.Parser,
		Family: a.Details.Family, parameters: parseParameters(a.Parameters),
	}, nil
}

// parseParameters reads the lines of /api/show's parameters: a name, blanks, a
// value. Of several stops one is enough: only whether they are set matters.
func parseParameters(text string) map[string]string {
	out := map[string]string{}
	for line := range strings.Lines(text) {
		name, value, ok := strings.Cut(strings.TrimSpace(line), " ")
		if ok {
			out[name] = strings.TrimSpace(value)
		}
	}
	return out
}

// parameter is one of the model's own parameters, "" when it is not set.
func (m *Model) parameter(name string) string { return m.parameters[name] }

// Stable reports, by nil, whether text can simply be appended to a prompt of
// the model. It cannot for the channels of gpt-oss, whose marks a client never
// sees.
func (m *Model) Stable() error {
	if m.Parser == "harmony" || m.Family == "gptoss" || m.Family == "gpt-oss" || strings.Contains(m.Template, "<|channel|>") {
		return cannot("the model writes in channels whose marks are not known")
	}
	return nil
}

// defaultContext is Ollama's num_ctx where nobody sets another.
const defaultContext = 4096

// bytesPerToken is a low estimate of a token's length: only a conversation
// that surely fits the context is rendered, because of one that does not
// Ollama leaves out the oldest messages, and how many cannot be known here.
const bytesPerToken = 3

// Prompt renders q as Ollama before 0.11.5 does.
func (m *Model) Prompt(q *Request) (string, error) {
	if q.Raw {
		return q.Prompt, nil
	}
	if m.Renderer != "" {
		return "", cannot("the prompt is rendered by code inside Ollama")
	}
	if err := m.Stable(); err != nil {
		return "", err
	}
	text := m.Template
	if q.Template != "" {
		text = q.Template
	}
	t, err := ParseTemplate(text)
	if err != nil {
		return "", err
	}
	prompt, err := t.render(m.conversation(q), nil, readThink(q.think))
	if err != nil {
		return "", err
	}
	if context := m.context(q); q.Chat && len(q.Messages) > 1 && len(prompt)/bytesPerToken > context {
		return "", cannot("the conversation may be longer than the context of " + strconv.Itoa(context) + " tokens")
	}
	return prompt, nil
}

// conversation puts the model's own system text and messages before those of
// the request.
func (m *Model) conversation(q *Request) []Message {
	var out []Message
	if !q.Chat {
		system := q.System
		if system == "" {
			system = m.System
		}
		if system != "" {
			out = append(out, Message{Role: "system", Content: system})
		}
		out = append(out, m.Messages...)
		return append(out, Message{Role: "user", Content: q.Prompt})
	}
	if m.System != "" && (len(q.Messages) == 0 || q.Messages[0].Role != "system") {
		out = append(out, Message{Role: "system", Content: m.System})
	}
	out = append(out, m.Messages...)
	out = append(out, q.Messages...)
	if m.Family == "qwen3" || nameOf(q.Model) == "deepseek-r1" {
		withoutThoughts(out)
	}
	return out
}

// context is the num_ctx that holds for q.
func (m *Model) context(q *Request) int {
	raw := q.Options["num_ctx"]
	if len(raw) == 0 {
		raw = json.RawMessage(m.parameter("num_ctx"))
	}
	var f float64
	if len(raw) > 0 && json.Unmarshal(raw, &f) == nil && f >= 1 && f < 1<<40 {
		return int(f)
	}
	return defaultContext
}
