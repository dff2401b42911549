package render

import (
	"text/template"
	"text/template/parse"
)

// maxSteps bounds the passes of loops and the calls of parts in one execution:
// a template that ships with a model needs some for each message. Without a
// bound a part that calls itself twice would keep a processor busy for ever,
// and nothing can stop an execution from outside.
const maxSteps = 1 << 16

var errSteps = cannot("the template does not come to an end")

// tick is what guard puts in front of every loop's body and every part's; it
// prints nothing. It is not to be named by a template, and cannot: functions
// has no such name while a template is parsed.
const tick = "kageTick"

// guard makes t fail once it has taken maxSteps.
func guard(t *template.Template) error {
	steps := 0
	count := template.FuncMap{tick: func() (string, error) {
		if steps++; steps > maxSteps {
			return "", errSteps
		}
		return "", nil
	}}
	step, err := template.New("").Funcs(count).Parse("{{ " + tick + " }}")
	if err != nil {
		return cannot(err.Error())
	}
	first := step.Root.Nodes[0]
	t.Funcs(count)
	for _, part := range t.Templates() {
		if part.Tree == nil || part.Root == nil {
			continue
		}
		walk(part.Root, func(n parse.Node) {
			if loop, ok := n.(*parse.RangeNode); ok {
				loop.List.Nodes = append([]parse.Node{first}, loop.List.Nodes...)
			}
		})
		part.Root.Nodes = append([]parse.Node{first}, part.Root.Nodes...)
	}
	return nil
}
