package router

import (
	"context"
	"errors"
	"sync"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/lane"
)

// Why work ends here though nothing is wrong with it.
var (
	// ErrDraining says that an owner takes its hands off an answer because it
	// is to be free. It goes on elsewhere, and nobody is to blame.
	ErrDraining = errors.New("router: owner drains")
	// ErrStopping ends what clients still have running when this node stops.
	ErrStopping = errors.New("router: this node is being stopped")
)

// HandOver gives what runs on the local Ollama to other nodes: at once what
// other nodes have sent, which look for another owner themselves, and what
// this node's own clients have, at the next piece of their answers, where
// another node can take it up honestly. The rest stays. Drain the gate first,
// or it fills again; off, work stays here again.
func (r *Router) HandOver(on bool) {
	r.handing.Store(on)
	if on {
		r.lent.end(ErrDraining)
	}
}

// Stop ends all that clients still have running here in an error of their
// dialect.
func (r *Router) Stop() { r.guests.end(ErrStopping) }

// movable reports whether an answer that this node's own Ollama writes is to
// be written by another node from here on.
func (o *relay) movable(a *answer) bool {
	if !o.r.handing.Load() || !a.member.Self || !o.committed || o.f.off {
		return false
	}
	if path, _ := plan(o.f.route.Kind, &o.f.peek, &o.f.story); path != Exact && path != Restart {
		return false
	}
	c, ok := o.r.pick(o.f)
	return ok && !c.Self
}

// leases are contexts that one word ends.
type leases struct {
	mu  sync.Mutex
	all map[*lease]struct{}
}

// lease is a context that can be ended early.
type lease struct {
	context.Context //nolint:containedctx // it is one
	end             context.CancelCauseFunc
	of              *leases
}

// take gives a request's context, or one derived from it, that end cancels. The
// caller drops it once, when the request is over.
func (l *leases) take(parent context.Context) *lease {
	own := &lease{Context: parent, of: l}
	var ok bool
	if own.end, ok = lane.End(parent); !ok {
		own.Context, own.end = context.WithCancelCause(parent)
	}
	l.mu.Lock()
	if l.all == nil {
		l.all = make(map[*lease]struct{})
	}
	l.all[own] = struct{}{}
	l.mu.Unlock()
	return own
}

func (own *lease) drop() {
	own.of.mu.Lock()
	delete(own.of.all, own)
	own.of.mu.Unlock()
	own.end(nil)
}

// end cancels all contexts that were taken and not dropped.
func (l *leases) end(cause error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for own := range l.all {
		own.end(cause)
	}
}
