package backend

import (
	"context"
	"errors"
	"sync/atomic"
	"time"
)

// ErrFrozen ends the wait for a server that answers nothing at all any more.
var ErrFrozen = errors.New("backend: ollama answers nothing any more")

// frozenAfter is how long a server must have counted as down before those who
// wait for it give up. A dead one breaks their connections itself; one that is
// stopped or hangs does not. That is on top of the time-outs that make it count
// as down, and the questions meanwhile are for its version, which Ollama answers
// without a lock and without its runners: one that is only busy answers.
const frozenAfter = 10 * time.Second

// life is a context that ends when the server has been silent for too long. A
// new one begins when it is back.
type life struct {
	now atomic.Pointer[lifetime]
}

type lifetime struct {
	context.Context //nolint:containedctx // it is the server's lifetime
	end             context.CancelCauseFunc
}

func (l *life) begin() {
	ctx, end := context.WithCancelCause(context.Background())
	l.now.Store(&lifetime{ctx, end})
}

// saw follows the server: wait is for how long its state may stay as it is
// before the life is over; 0: for ever.
func (l *life) saw(s *State, now time.Time) (wait time.Duration) {
	switch {
	case s.Up && l.now.Load().Err() != nil:
		l.begin()
	case !s.Up && l.now.Load().Err() == nil:
		if wait = frozenAfter - now.Sub(s.Since); wait <= 0 {
			l.now.Load().end(ErrFrozen)
			return 0
		}
	}
	return wait
}

// Life ends, with the cause ErrFrozen, when the local Ollama has answered
// nothing for so long that what waits for its answer should wait elsewhere. A
// stream that flows is better evidence than this.
func (b *Backend) Life() context.Context { return b.life.now.Load().Context }
