package router

import (
	"sync"
	"sync/atomic"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh/hardware"
)

// fit is what a member's hardware makes of a model: whether it can hold it, and
// how fast it would be as long as nobody has measured it.
type fit struct {
	class   hardware.Class
	need    float64 // bytes in memory
	decode  float64 // tok/s, a first guess
	prefill float64 // prompt tok/s, a first guess
}

func fitOf(m *mesh.Member, model *mesh.Model, ctx int) fit {
	need := model.Need(ctx, m.Parallel())
	class, share := m.Card.Hardware.CouldRun(need)
	decode, prefill := hardware.Prior(m.Card.Hardware, model.Size, share)
	return fit{class, float64(need.Total()), decode, prefill}
}

// fits remembers fitOf for the default context. A Card and its models never
// change, so the model's address stands for both; a guess of a speed reads
// lists of devices and takes a microsecond, which 500 nodes per request cannot.
var fits memo

// memo is a map that forgets everything when it is full: entries of cards that
// are gone must not stay for ever.
type memo struct {
	entries sync.Map // *mesh.Model -> *fit
	n       atomic.Int64
}

const maxMemo = 16 << 10

func (c *memo) of(m *mesh.Member, model *mesh.Model) *fit {
	if f, ok := c.entries.Load(model); ok {
		return f.(*fit)
	}
	if c.n.Add(1) > maxMemo {
		c.entries.Clear()
		c.n.Store(1)
	}
	f := fitOf(m, model, 0)
	c.entries.Store(model, &f)
	return &f
}
