package backend

import (
	"cmp"
	"time"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh"
)

// Entry is one request in an [Admission]. Its fields belong to the Admission
// until it has been decided.
type Entry struct {
	Work
	runner    string
	want      int    // context, tokens per slot; 0 unknown
	footprint uint64 // bytes that its model takes when loaded; 0 unknown
	patience  time.Duration

	seq, tag uint64
	arrived  time.Time

	// Set when it starts.
	started time.Time
	cold    bool // its start loads the model
	area    float64
	busy    float64
	chunks  int       // tokens of its answer, or pieces where those are not known
	pieces  int       // that have come
	first   time.Time // when the first piece came

	refused *Refused
	done    bool // ended, refused or given up

	// The gate's: fate is closed when it is decided, news (1 deep) tells of a
	// changed queue.
	fate chan struct{}
	news chan struct{}
}

// Refused is why the entry will never start; nil if it may or did.
func (e *Entry) Refused() *Refused { return e.refused }

// Running reports whether the entry holds a slot.
func (e *Entry) Running() bool { return !e.started.IsZero() && !e.done }

// Cold reports whether the entry's start made Ollama load its model.
func (e *Entry) Cold() bool { return e.cold }

func (e *Entry) refuse(reason error, after time.Duration) {
	e.done = true
	e.refused = &Refused{Reason: reason, RetryAfter: max(after, 0)}
}

// byTurn is the order of the line: interactive before batch; within a class
// the clients in turn; within a client first come, first served.
func byTurn(a, b *Entry) int {
	return cmp.Or(cmp.Compare(a.class(), b.class()), cmp.Compare(a.tag, b.tag), cmp.Compare(a.seq, b.seq))
}

func (e *Entry) class() int {
	if e.Batch {
		return 1
	}
	return 0
}

// wanted is the context that Ollama would load the model with, 0 unknown:
// asked for, else the model's own, capped to what it was trained with.
func wanted(w Work, m *mesh.Model) int {
	want := w.Context
	if m == nil {
		return want
	}
	if want == 0 {
		want = m.NumCtx
	}
	if m.ContextLength > 0 {
		want = min(want, m.ContextLength)
	}
	return want
}
