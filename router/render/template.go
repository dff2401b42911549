package render

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"text/template"
	"text/template/parse"
	"time"
)

// ErrCannot says that a prompt cannot be rendered, or not so that it is
// certainly the same as Ollama's own.
var ErrCannot = errors.New("render: cannot render the prompt")

func cannot(why string) error { return fmt.Errorf("%w: %s", ErrCannot, why) }

// maxPrompt bounds a rendered prompt in bytes: the largest request body with
// room for what a template adds.
const maxPrompt = 128 << 20

// Template is a model's prompt template in Go's template language, with
// Ollama's rules for executing it. It is good for one execution.
type Template struct {
	text     *parse.ListNode    // as parsed
	whole    *template.Template // guarded
	last     *template.Template // of the old style: cut after .Response
	messages bool               // it ranges over .Messages; else the old style with .Prompt and .Response
}

// functions are those that templates may call, as of Ollama 0.11. A template
// that calls another does not parse here, and thus is not rendered wrongly.
var functions = template.FuncMap{
	"json": func(v any) string {
		b, _ := json.Marshal(v)
		return string(b)
	},
	"currentDate":      func(...string) string { return time.Now().Format(time.DateOnly) },
	"toTypeScriptType": func(any) string { return "any" },
}

// ParseTemplate reads a template as /api/show gives it.
func ParseTemplate(text string) (*Template, error) {
	t, err := parseText(text)
	if err != nil {
		return nil, err
	}
	names := mentioned(t)
	messages := names["messages"]
	if !messages && !names["response"] {
		// Without a place for the answer it comes at the end.
		if t, err = parseText(text + "{{ .Response }}"); err != nil {
			return nil, err
		}
	}
	out := &Template{text: t.Root.CopyList(), whole: t, messages: messages}
	if err := guard(t); err != nil {
		return nil, err
	}
	if !messages {
		if out.last, err = cutTemplate(t); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func parseText(text string) (*template.Template, error) {
	t, err := template.New("").Option("missingkey=zero").Funcs(functions).Parse(text)
	if err != nil {
		return nil, cannot("the template is not a Go template: " + err.Error())
	}
	if t.Tree == nil || t.Root == nil || strings.TrimSpace(text) == "" {
		return nil, cannot("the template is empty")
	}
	return t, nil
}

// values is what a template is executed with. Names that a template asks for
// and Ollama does not set must be missing here, too.
type values map[string]any

// render executes the template for a conversation.
func (t *Template) render(messages []Message, tools []any, think thinking) (string, error) {
	system, merged := collate(messages)
	var out limited
	base := func() values {
		return values{"Response": "", "Think": think.on, "ThinkLevel": think.level, "IsThinkSet": think.set}
	}
	if t.messages {
		v := base()
		v["System"], v["Messages"], v["Tools"] = system, merged, tools
		return out.done(t.whole.Execute(&out, v))
	}
	return out.done(t.renderTurns(&out, merged, base))
}

// renderTurns executes a template of the old style once for each turn.
func (t *Template) renderTurns(out *limited, messages []*Message, base func() values) error {
	var system, prompt, response string
	flush := func(t *template.Template) error {
		v := base()
		v["System"], v["Prompt"], v["Response"] = system, prompt, response
		system, prompt, response = "", "", ""
		return t.Execute(out, v)
	}
	for _, m := range messages {
		var err error
		switch m.Role {
		case "system":
			if prompt != "" || response != "" {
				err = flush(t.whole)
			}
			system = m.Content
		case "user":
			if response != "" {
				err = flush(t.whole)
			}
			prompt = m.Content
		case "assistant":
			response = m.Content
		}
		if err != nil {
			return err
		}
	}
	return flush(t.last)
}

// collate joins neighbours of one role, but for tool results, and collects the
// system messages.
func collate(in []Message) (system string, out []*Message) {
	var all []string
	for i := range in {
		m := in[i]
		if m.Role == "system" {
			all = append(all, m.Content)
		}
		if n := len(out); n > 0 && out[n-1].Role == m.Role && m.Role != "tool" {
			out[n-1].Content += "\n\n" + m.Content
			continue
		}
		out = append(out, &m)
	}
	return strings.Join(all, "\n\n"), out
}

// limited collects a prompt up to maxPrompt.
type limited struct{ strings.Builder }

var errTooLong = cannot("the prompt is too long")

func (l *limited) Write(p []byte) (int, error) {
	if l.Len()+len(p) > maxPrompt {
		return 0, errTooLong
	}
	return l.Builder.Write(p)
}

func (l *limited) done(err error) (string, error) {
	if err != nil {
		return "", cannot("executing the template: " + err.Error())
	}
	return l.String(), nil
}

// mentioned lists the fields that a template names anywhere, in lower case.
func mentioned(t *template.Template) map[string]bool {
	names := make(map[string]bool)
	for _, part := range t.Templates() {
		if part.Tree == nil || part.Root == nil {
			continue
		}
		walk(part.Root, func(n parse.Node) {
			var idents []string
			switch n := n.(type) {
			case *parse.FieldNode:
				idents = n.Ident
			case *parse.VariableNode:
				idents = n.Ident
			}
			for _, name := range idents {
				names[strings.ToLower(name)] = true
			}
		})
	}
	return names
}

// walk visits every node under n, front to back.
func walk(n parse.Node, visit func(parse.Node)) {
	visit(n)
	branch := func(b *parse.BranchNode) {
		walk(b.Pipe, visit)
		walk(b.List, visit)
		if b.ElseList != nil {
			walk(b.ElseList, visit)
		}
	}
	switch n := n.(type) {
	case *parse.ListNode:
		for _, child := range n.Nodes {
			walk(child, visit)
		}
	case *parse.ActionNode:
		walk(n.Pipe, visit)
	case *parse.TemplateNode:
		if n.Pipe != nil {
			walk(n.Pipe, visit)
		}
	case *parse.IfNode:
		branch(&n.BranchNode)
	case *parse.WithNode:
		branch(&n.BranchNode)
	case *parse.RangeNode:
		branch(&n.BranchNode)
	case *parse.PipeNode:
		for _, c := range n.Cmds {
			for _, arg := range c.Args {
				walk(arg, visit)
			}
		}
	}
}
