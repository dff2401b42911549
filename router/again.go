package router

import (
	"context"
	"errors"
	"slices"
	"syscall"
	"time"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh"
)

// A node that could not be reached, or was lost without a word of its own, may
// live all the same: its link broke, its process was starved or began anew. As
// long as the mesh says that it lives, a request that has nobody else asks it
// again, after a pause that doubles, for againFor since the first such loss. By
// then membership knows whether it has died (suspicion takes some seconds), or
// something stands between it and this node that does not pass by itself.
//
// Where its kernel refused the connection the process is gone, not starved, and
// will be known to be within a second or two. A client that has nothing yet is
// told so in under a second (absentFor, enough for a process that begins anew at
// once); one that has a part of its answer is worth the whole wait.
const (
	againFor   = 10 * time.Second
	absentFor  = 700 * time.Millisecond
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

// wsaeconnrefused is Windows' ECONNREFUSED.
const wsaeconnrefused syscall.Errno = 10061

// absent reports whether the node's machine said that no process listens.
func (e *AttemptError) absent() bool {
	return e.Phase == PhaseDial && (errors.Is(e.Err, syscall.ECONNREFUSED) || errors.Is(e.Err, wsaeconnrefused))
}

// askAgain makes one more round possible when every candidate has been tried:
// it waits and takes back what speaks against those that were lost and live.
// false: there is none, or the patience with them is over. begun says that the
// client has a part of its answer.
func (r *Router) askAgain(ctx context.Context, f *flight, begun bool) bool {
	if f.spent >= maxSpent || !f.route.Class.Repeatable() {
		return false
	}
	now := time.Now()
	if f.alone.IsZero() {
		f.alone, f.pause = now, againFirst
	}
	patience := againFor
	switch {
	case r.liveAmong(f, func(t trial) bool { return t.lost && (begun || !t.absent) }):
	case r.liveAmong(f, func(t trial) bool { return t.lost }):
		patience = absentFor
	default:
		return false
	}
	left := patience - now.Sub(f.alone)
	if left <= 0 {
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

// liveAmong reports whether a node could serve f by the newest picture, had
// these trials not been made.
func (r *Router) liveAmong(f *flight, trials func(trial) bool) bool {
	left := slices.DeleteFunc(slices.Clone(f.tried), trials)
	_, ok := r.best(f, func(m *mesh.Member) bool { return f.failedAt(m, left) })
	return ok
}
