package router

import (
	"fmt"
	"slices"
	"strings"
)

// merge makes one progress of several nodes' pulls of one model, in Ollama's
// own form: a layer's total and completed bytes are summed over the nodes, and
// a status is told when the last node that still works has reached it. The
// member "nodes" says how far each is; Ollama's clients pass over it.
type merge struct {
	nodes []nodeProgress
	told  []string // statuses
}

// nodeProgress is one node's part.
type nodeProgress struct {
	Node      string `json:"node"`
	Status    string `json:"status,omitempty"`
	Completed int64  `json:"completed,omitempty"` // bytes of the layer in question
	Total     int64  `json:"total,omitempty"`
	Error     string `json:"error,omitempty"`

	reached []string        // statuses, in their order
	layers  map[string]step // by digest
	done    bool
}

// mergedStep is a line of merged progress.
type mergedStep struct {
	step
	Nodes []nodeProgress `json:"nodes"`
}

func newMerge(names []string) *merge {
	m := &merge{nodes: make([]nodeProgress, len(names))}
	for i, n := range names {
		m.nodes[i] = nodeProgress{Node: n, layers: make(map[string]step)}
	}
	return m
}

// add takes node i's next step and returns the lines to tell, if any.
func (m *merge) add(i int, s step) []mergedStep {
	n := &m.nodes[i]
	n.Status = s.Status
	switch {
	case s.Error != "":
		n.Error, n.done = s.Error, true
		return m.statuses() // it holds nobody up any more
	case s.Digest != "":
		n.layers[s.Digest] = s
		return []mergedStep{m.layer(s)}
	case s.Status == "success":
		n.done = true
		return m.statuses()
	}
	if !slices.Contains(n.reached, s.Status) {
		n.reached = append(n.reached, s.Status)
	}
	return m.statuses()
}

// layer sums a layer up. Every node will have it in the end, so the total is
// known from the first word on and a bar made for it stays right.
func (m *merge) layer(s step) mergedStep {
	out := mergedStep{step: step{Status: s.Status, Digest: s.Digest, Total: s.Total * int64(len(m.nodes))}}
	for i := range m.nodes {
		l := m.nodes[i].layers[s.Digest]
		out.Completed += l.Completed
		one := m.nodes[i]
		one.Completed, one.Total = l.Completed, s.Total
		out.Nodes = append(out.Nodes, one)
	}
	return out
}

// statuses tells each status that all nodes which have not failed have passed.
func (m *merge) statuses() []mergedStep {
	var out []mergedStep
	for i := range m.nodes {
		for _, s := range m.nodes[i].reached {
			if slices.Contains(m.told, s) || !m.all(s) {
				continue
			}
			m.told = append(m.told, s)
			out = append(out, mergedStep{step: step{Status: s}, Nodes: slices.Clone(m.nodes)})
		}
	}
	return out
}

func (m *merge) all(status string) bool {
	for i := range m.nodes {
		if n := &m.nodes[i]; !n.done && !slices.Contains(n.reached, status) {
			return false
		}
	}
	return true
}

// end is the last line: success when all have succeeded.
func (m *merge) end() mergedStep {
	var done, failed []string
	for i := range m.nodes {
		if n := &m.nodes[i]; n.Error != "" {
			failed = append(failed, fmt.Sprintf("%s: %s", n.Node, n.Error))
		} else {
			done = append(done, n.Node)
		}
	}
	if len(failed) == 0 {
		return mergedStep{step: step{Status: "success"}, Nodes: m.nodes}
	}
	text := strings.Join(failed, "; ")
	if len(done) > 0 {
		text += " (done on " + strings.Join(done, ", ") + ")"
	}
	return mergedStep{step: step{Error: text}, Nodes: m.nodes}
}
