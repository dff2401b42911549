package render

import (
	"slices"
	"text/template"
	"text/template/parse"
)

// cutTemplate is a template of the old style for the turn that is to be
// answered: everything after the place of the answer is taken away, because
// the model itself writes on from there.
func cutTemplate(t *template.Template) (*template.Template, error) {
	if len(t.Templates()) > 1 {
		return nil, cannot("an old-style template with parts")
	}
	c := cutter{}
	root := t.Root.CopyList()
	c.list(root)
	if c.odd {
		return nil, cannot("the answer's place in the template is not plain")
	}
	// A clone has t's functions, the guard's among them.
	out, err := t.Clone()
	if err == nil {
		out, err = out.AddParseTree("", &parse.Tree{Root: root})
	}
	if err != nil {
		return nil, cannot(err.Error())
	}
	return out, nil
}

// cutter takes away what follows the first .Response, in the order of the
// text and not of execution: the condition around it does not matter.
type cutter struct {
	cut bool // it has been passed
	odd bool // it stands where cutting is not simple
}

func (c *cutter) list(l *parse.ListNode) {
	for i, n := range l.Nodes {
		c.node(n)
		if c.cut {
			l.Nodes = l.Nodes[:i+1]
			return
		}
	}
}

func (c *cutter) node(n parse.Node) {
	branch := func(b *parse.BranchNode) {
		c.list(b.List)
		switch {
		case b.ElseList == nil:
		case c.cut: // Ollama fails on such a template
			c.odd = true
		default:
			c.list(b.ElseList)
		}
	}
	switch n := n.(type) {
	case *parse.ActionNode:
		c.action(n)
	case *parse.IfNode:
		branch(&n.BranchNode)
	case *parse.WithNode:
		branch(&n.BranchNode)
	case *parse.RangeNode:
		branch(&n.BranchNode)
	}
}

func (c *cutter) action(n *parse.ActionNode) {
	for i, cmd := range n.Pipe.Cmds {
		for j, arg := range cmd.Args {
			f, ok := arg.(*parse.FieldNode)
			if !ok || !slices.Contains(f.Ident, "Response") {
				continue
			}
			c.cut = true
			if i < len(n.Pipe.Cmds)-1 || j < len(cmd.Args)-1 {
				c.odd = true
			}
			return
		}
	}
}
