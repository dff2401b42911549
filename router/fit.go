package router

import (
	"maps"
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
// are gone must not stay for ever. Reads are of a map that does not change, a
// fifth of what [sync.Map] takes; new entries wait beside it until there are
// enough of them for a copy.
type memo struct {
	settled atomic.Pointer[map[*mesh.Model]*fit]

	mu    sync.Mutex
	fresh map[*mesh.Model]*fit
	seen  int // reads of fresh
}

const maxMemo = 16 << 10

func (c *memo) of(m *mesh.Member, model *mesh.Model) *fit {
	if all := c.settled.Load(); all != nil {
		if k := (*all)[model]; k != nil {
			return k
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	k := c.fresh[model]
	if k == nil {
		f := fitOf(m, model, 0)
		k = &f
		if c.fresh == nil {
			c.fresh = make(map[*mesh.Model]*fit)
		}
		c.fresh[model] = k
	}
	if c.seen++; c.seen > len(c.fresh) {
		c.settle()
	}
	return k
}

// settle copies what is new. mu is held.
func (c *memo) settle() {
	all := make(map[*mesh.Model]*fit)
	if old := c.settled.Load(); old != nil && len(*old)+len(c.fresh) <= maxMemo {
		maps.Copy(all, *old)
	}
	maps.Copy(all, c.fresh)
	c.settled.Store(&all)
	c.fresh, c.seen = nil, 0
}
