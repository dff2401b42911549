package router

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh"
)

// A node that could not be reached, or was lost without a word of its own, may
// live all the same: its link broke, its process was starved or began anew. As
// long as the mesh says that it lives, a request that has nobody else asks it
// again, after a pause that doubles, for againFor since the first such loss. By
// then membership knows whether it has died (suspicion takes some seconds), or
// something stands between it and this node that does not pass by itself.
const (
	againFor   = 10 * time.Second
	againFirst = 100 * time.Millisecond
	againMost  = time.Second
)

// lost reports whether the failure leaves open that the node, asked again,
// would answer: nothing came from it, or it said that it was interrupted. What
// its Ollama answered stands, and so does a full queue.
func (e *AttemptError) lost() bool {
	switch {
	case errors.Is(e.Err, ErrStatus):
		return e.lostWork()
	case errors.Is(e.Err, ErrRefused):
		return e.Refusal != RefusedSaturated && e.Refusal != RefusedCannot
	case errors.Is(e.Err, ErrDiffers):
		return false
	}
	return true
}

// askAgain makes one more round possible when every candidate has been tried:
// it waits and takes back what speaks against those that were lost and live.
// false: there is none, or the patience with them is over.
func (r *Router) askAgain(ctx context.Context, f *flight) bool {
	if f.spent >= maxSpent || !f.route.Class.Repeatable() {
		return false
	}
	now := time.Now()
	if f.alone.IsZero() {
		f.alone, f.pause = now, againFirst
	}
	left := againFor - now.Sub(f.alone)
	if left <= 0 || !r.liveLost(f) {
		return false
	}
	pause := time.NewTimer(min(f.pause, left))
	defer pause.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-pause.C:
	}
	f.pause = min(2*f.pause, againMost)
	f.tried = slices.DeleteFunc(f.tried, func(t trial) bool { return t.lost })
	return true
}

// liveLost reports whether a node that was lost could serve f by the newest
// picture, had it not been tried.
func (r *Router) liveLost(f *flight) bool {
	left := slices.DeleteFunc(slices.Clone(f.tried), func(t trial) bool { return t.lost })
	_, ok := r.best(f, func(m *mesh.Member) bool { return f.failedAt(m, left) })
	return ok
}
