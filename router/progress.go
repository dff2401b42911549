package router

import (
	"bytes"
	"cmp"
	"encoding/json"
	"slices"
	"sync"
)

// step is one line of Ollama's progress. Other members are passed on as they
// came where one node's lines are passed on.
type step struct {
	Status    string `json:"status,omitempty"`
	Digest    string `json:"digest,omitempty"`
	Total     int64  `json:"total,omitempty"`
	Completed int64  `json:"completed,omitempty"`
	Error     string `json:"error,omitempty"`
}

func parseStep(line []byte) (s step, ok bool) {
	return s, json.Unmarshal(line, &s) == nil && (s.Status != "" || s.Error != "")
}

// name tells steps apart: a layer by its digest, else the status.
func (s step) name() string {
	if s.Digest != "" {
		return s.Digest
	}
	return s.Status
}

func (s step) line() []byte {
	b, err := json.Marshal(s)
	if err != nil {
		return []byte("{}\n") // cannot happen: plain values only
	}
	return append(b, '\n')
}

// progress is the story of one running pull, for any number of readers that
// come at any time: each gets every step once in its newest form and then what
// changes. A slow reader misses forms in between, never a step.
type progress struct {
	mu      sync.Mutex
	steps   []told
	seq     uint64
	changed chan struct{} // closed with the next change
	ended   bool
}

// told is a step in its newest form.
type told struct {
	name string
	seq  uint64
	line []byte
}

func newProgress() *progress { return &progress{changed: make(chan struct{})} }

// tell adds a line; it is copied.
func (p *progress) tell(name string, line []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.seq++
	t := told{name: name, seq: p.seq, line: bytes.Clone(line)}
	if i := slices.IndexFunc(p.steps, func(t told) bool { return t.name == name }); i >= 0 {
		p.steps[i] = t
	} else {
		p.steps = append(p.steps, t)
	}
	p.wake()
}

// end says that no more is told.
func (p *progress) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ended = true
	p.wake()
}

func (p *progress) wake() {
	close(p.changed)
	p.changed = make(chan struct{})
}

// since returns what was told after seq, in the order of telling, and what is
// closed when there is more.
func (p *progress) since(seq uint64) (lines [][]byte, last uint64, ended bool, more <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	var news []told
	for _, t := range p.steps {
		if t.seq > seq {
			news = append(news, t)
		}
	}
	slices.SortFunc(news, func(a, b told) int { return cmp.Compare(a.seq, b.seq) })
	for _, t := range news {
		lines = append(lines, t.line)
	}
	return lines, p.seq, p.ended, p.changed
}
