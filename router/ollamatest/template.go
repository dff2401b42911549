package ollamatest

import (
	"encoding/json"
	"fmt"
	"strings"
	"text/template"
)

// Message is one message of a conversation, as in /api/chat.
type Message struct {
	Role      string     `json:"role"`
	Content   string     `json:"content"`
	Thinking  string     `json:"thinking,omitempty"`
	Images    [][]byte   `json:"images,omitempty"`
	ToolCalls []toolCall `json:"tool_calls,omitempty"`
	ToolName  string     `json:"tool_name,omitempty"`
}

// toolCall is a call that the model asks for.
type toolCall struct {
	ID       string       `json:"id,omitempty"`
	Function functionCall `json:"function"`
}

type functionCall struct {
	Index     *int     `json:"index,omitempty"`
	Name      string   `json:"name"`
	Arguments rawValue `json:"arguments"`
}

// tool is a function on offer.
type tool struct {
	Type     string       `json:"type"`
	Function toolFunction `json:"function"`
}

type toolFunction struct {
	Name        string   `json:"name"`
	Description string   `json:"description,omitempty"`
	Parameters  rawValue `json:"parameters"`
}

// String is how a template prints a tool.
func (t tool) String() string {
	b, _ := json.Marshal(t)
	return string(b)
}

// rawValue is JSON that is passed on as it came; it prints as JSON.
type rawValue json.RawMessage

func (v rawValue) String() string { return string(v) }

// MarshalJSON returns v itself, null when empty.
func (v rawValue) MarshalJSON() ([]byte, error) { return json.RawMessage(v).MarshalJSON() }

// UnmarshalJSON keeps a copy of b.
func (v *rawValue) UnmarshalJSON(b []byte) error {
	*v = append((*v)[:0], b...)
	return nil
}

// defaultTemplate is a Go template that offers what the model is capable of.
// It is what /api/show reports, so a client can render it by itself.
func defaultTemplate(m Model) string {
	var b strings.Builder
	if m.can("insert") {
		b.WriteString(`{{ if .Suffix }}<|prefix|>{{ .Prompt }}<|suffix|>{{ .Suffix }}<|middle|>{{ else }}`)
	}
	if m.can("tools") {
		b.WriteString(`{{- if .Tools }}<|system|>Tools: {{ range .Tools }}{{ . }}{{ end }}<|end|>{{ end }}`)
	}
	b.WriteString(`{{- range $i, $_ := .Messages }}<|{{ .Role }}|>`)
	if m.can("thinking") {
		b.WriteString(`{{ if .Thinking }}<think>{{ .Thinking }}</think>{{ end }}`)
	}
	if m.can("tools") {
		b.WriteString(`{{ range .ToolCalls }}{"name":"{{ .Function.Name }}","parameters":{{ .Function.Arguments }}}{{ end }}`)
	}
	b.WriteString(`{{ .Content }}`)
	noThink := ""
	if m.can("thinking") {
		noThink = `{{ if and $.IsThinkSet (not $.Think) }}<think></think>{{ end }}`
	}
	if m.OpenTurn {
		b.WriteString(`{{ $last := eq (len (slice $.Messages $i)) 1 }}` +
			`{{ if not (and $last (eq .Role "assistant")) }}<|end|>{{ end }}` +
			`{{ if and $last (ne .Role "assistant") }}<|assistant|>` + noThink + `{{ end }}{{ end }}`)
	} else {
		b.WriteString(`<|end|>{{ end }}<|assistant|>` + noThink)
	}
	if m.can("insert") {
		b.WriteString(`{{ end }}`)
	}
	return b.String()
}

// promptTemplate is a parsed template with Ollama's rules for executing it.
type promptTemplate struct {
	t        *template.Template
	messages bool // it ranges over .Messages; otherwise it is in the old .Prompt/.Response style
}

func parseTemplate(text string) (*promptTemplate, error) {
	p := &promptTemplate{messages: strings.Contains(text, ".Messages")}
	if !p.messages && !strings.Contains(text, ".Response") {
		text += "{{ .Response }}"
	}
	t, err := template.New("").Option("missingkey=zero").Funcs(template.FuncMap{
		"json": func(v any) string { b, _ := json.Marshal(v); return string(b) },
	}).Parse(text)
	p.t = t
	return p, err
}

// turn is what a template is executed with.
type turn struct {
	messages       []Message
	tools          []tool
	prompt, suffix string
	think, isSet   bool
}

// cut marks the end of .Response in an old-style template: what follows it
// belongs after the answer.
const cut = "\x00cut\x00"

func (p *promptTemplate) render(v turn) (string, error) {
	var b strings.Builder
	values := map[string]any{
		"System": "", "Prompt": "", "Response": "", "Think": v.think, "ThinkLevel": "", "IsThinkSet": v.isSet,
	}
	if v.suffix != "" {
		values["Prompt"], values["Suffix"] = v.prompt, v.suffix
		err := p.t.Execute(&b, values)
		return b.String(), err
	}
	system, messages := collate(v.messages)
	if p.messages {
		values["System"], values["Messages"], values["Tools"] = system, messages, v.tools
		err := p.t.Execute(&b, values)
		return b.String(), err
	}
	flush := func() error {
		err := p.t.Execute(&b, values)
		values["System"], values["Prompt"], values["Response"] = "", "", ""
		return err
	}
	for _, m := range messages {
		var err error
		switch m.Role {
		case "system":
			if values["Prompt"] != "" || values["Response"] != "" {
				err = flush()
			}
			values["System"] = m.Content
		case "user":
			if values["Response"] != "" {
				err = flush()
			}
			values["Prompt"] = m.Content
		case "assistant":
			values["Response"] = m.Content
		}
		if err != nil {
			return "", err
		}
	}
	values["Response"] = fmt.Sprint(values["Response"], cut)
	err := flush()
	text, _, _ := strings.Cut(b.String(), cut)
	return text, err
}

// collate joins neighbours of the same role, except tool results, and collects
// the system messages.
func collate(in []Message) (system string, out []Message) {
	var all []string
	for _, m := range in {
		if m.Role == "system" {
			all = append(all, m.Content)
		}
		if n := len(out); n > 0 && out[n-1].Role == m.Role && m.Role != "tool" {
			out[n-1].Content += "\n\n" + m.Content
			continue
		}
		out = append(out, m)
	}
	return strings.Join(all, "\n\n"), out
}

// renderChat renders a conversation for a model, with its system message and
// a marker for each image. It returns the number of images.
func renderChat(e *entry, v turn) (string, int, error) {
	msgs := make([]Message, 0, len(v.messages)+1)
	if e.System != "" && (len(v.messages) == 0 || v.messages[0].Role != "system") {
		msgs = append(msgs, Message{Role: "system", Content: e.System})
	}
	images := 0
	for _, m := range v.messages {
		var marks strings.Builder
		for range m.Images {
			fmt.Fprintf(&marks, "[img-%d]", images)
			images++
		}
		m.Content = marks.String() + m.Content
		msgs = append(msgs, m)
	}
	v.messages = msgs
	text, err := e.template.render(v)
	return text, images, err
}

// Render returns the prompt that the named model sees for a conversation.
func (s *Server) Render(model string, messages ...Message) (string, error) {
	e, err := s.catalog.find(model)
	if err != nil {
		return "", err
	}
	think := e.can("thinking") && s.has.modern
	text, _, err := renderChat(e, turn{messages: messages, think: think, isSet: think})
	return text, err
}
