package render

import (
	"strings"
	"text/template/parse"
	"unicode"
)

// Resume appends to a rendered prompt what the model has said so far, as the
// caller has it. Where that includes thinking, its tags, which no client sees,
// are put back. closing is the tag that ends the thinking when the text goes
// on inside of it, else "".
//
// The white space next to the tags is lost on the way to a client; what stands
// here is what thinking models usually write.
func (m *Model) Resume(prompt, text, thought string) (resumed, closing string, err error) {
	if err := m.Stable(); err != nil {
		return "", "", err
	}
	if thought == "" {
		return prompt + text, "", nil
	}
	open, shut, ok := m.tags(prompt)
	if !ok {
		return "", "", cannot("the tags of its thinking are not known")
	}
	var b strings.Builder
	b.WriteString(prompt)
	if !strings.HasSuffix(strings.TrimRightFunc(prompt, unicode.IsSpace), open) {
		b.WriteString(open + "\n")
	} else if strings.HasSuffix(prompt, open) {
		b.WriteByte('\n')
	}
	b.WriteString(thought)
	if text == "" {
		return b.String(), shut, nil
	}
	if last := thought[len(thought)-1]; last != '\n' && last != ' ' {
		b.WriteByte('\n')
	}
	b.WriteString(shut + "\n\n" + text)
	return b.String(), "", nil
}

// The tags of thinking models, but for gpt-oss.
const (
	openTag = "<think>"
	shutTag = "</think>"
)

// tags finds the tags around the model's thinking: those that its template
// writes around the thinking of earlier answers, else the usual ones, if
// anything of the model names them.
func (m *Model) tags(prompt string) (open, shut string, ok bool) {
	if t, err := ParseTemplate(m.Template); err == nil {
		if open, shut, ok = t.tags(); ok {
			return open, shut, true
		}
	}
	known := strings.Contains(m.Template, shutTag) || strings.Contains(prompt, openTag) ||
		strings.Contains(m.Parser, "think") || strings.HasPrefix(m.Parser, "qwen3")
	return openTag, shutTag, known
}

// tags looks for the list of nodes that prints .Thinking, and takes the texts
// at its ends, if they look like a pair of tags.
func (t *Template) tags() (open, shut string, ok bool) {
	walk(t.text, func(n parse.Node) {
		list, is := n.(*parse.ListNode)
		if !is || ok || len(list.Nodes) < 3 || !prints(list, "Thinking") {
			return
		}
		first, isText := list.Nodes[0].(*parse.TextNode)
		last, isToo := list.Nodes[len(list.Nodes)-1].(*parse.TextNode)
		if !isText || !isToo {
			return
		}
		open, shut = strings.TrimSpace(string(first.Text)), strings.TrimSpace(string(last.Text))
		// The closing one travels in a header.
		ok = len(open) > 2 && len(open) < 64 && open[0] == '<' && shut == "</"+open[1:] &&
			!strings.ContainsFunc(shut, func(r rune) bool { return r <= ' ' || r > '~' })
	})
	return open, shut, ok
}

// prints reports whether one of the list's own nodes prints the field.
func prints(l *parse.ListNode, field string) bool {
	for _, n := range l.Nodes {
		action, ok := n.(*parse.ActionNode)
		if !ok {
			continue
		}
		found := false
		walk(action, func(n parse.Node) {
			if f, ok := n.(*parse.FieldNode); ok && f.Ident[len(f.Ident)-1] == field {
				found = true
			}
		})
		if found {
			return true
		}
	}
	return false
}
