package router

import (
	"errors"
	"maps"
	"sync"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh"
)

// ContinuedKey is one way in which answers broke off and went on.
type ContinuedKey struct {
	Cause string // cut, silent, reset, gone, error or drained: how the owner was lost
	Path  string // exact, restart, finish or refuse; off where it is not wanted
}

// Continued counts what became of broken answers since the router was made.
type Continued struct {
	Breaks map[ContinuedKey]uint64 // every break of an answer that a client had begun to read
	Whole  uint64                  // answers that were whole in the end all the same
	Lost   uint64                  // answers that ended in an error
}

// continued counts, for Router.Continued.
type continued struct {
	mu    sync.Mutex
	count Continued
}

func (c *continued) broke(cause string, path string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.count.Breaks == nil {
		c.count.Breaks = map[ContinuedKey]uint64{}
	}
	c.count.Breaks[ContinuedKey{cause, path}]++
}

func (c *continued) ended(whole bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if whole {
		c.count.Whole++
	} else {
		c.count.Lost++
	}
}

// Continued is what became of broken answers so far; the caller owns it.
func (r *Router) Continued() Continued {
	r.continued.mu.Lock()
	defer r.continued.mu.Unlock()
	out := r.continued.count
	out.Breaks = make(map[ContinuedKey]uint64, len(r.continued.count.Breaks))
	maps.Copy(out.Breaks, r.continued.count.Breaks)
	return out
}

// lossOf names how an owner was lost, in a word of a small set.
func lossOf(e *AttemptError) string {
	switch {
	case errors.Is(e.Err, ErrDraining):
		return "drained"
	case errors.Is(e.Err, ErrCut):
		return "cut"
	case errors.Is(e.Err, ErrSilent):
		return "silent"
	case errors.Is(e.Err, mesh.ErrMemberFailed), errors.Is(e.Err, mesh.ErrMemberLeft):
		return "gone"
	case errors.Is(e.Err, ErrStatus):
		return "error"
	}
	return "reset"
}
