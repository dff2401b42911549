package router

import (
	"context"
	"io"
	"math"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/lane"
)

// watchdog cancels a context with a cause when nothing fed it for a while. It
// may be used from several goroutines. Feeding it is a clock reading; a timer
// looks now and then.
//
// What would feed it needs this process to run. So the time that this process
// was kept from running, by a stop or by others on its processors, counts for
// nobody's silence: what a look is late by is taken off the hunger.
type watchdog struct {
	cancel  context.CancelCauseFunc
	cause   error
	doubt   func()
	timer   *time.Timer
	started time.Time
	limit   atomic.Int64 // a time.Duration
	fed     atomic.Int64 // since started
	due     atomic.Int64 // the next look, since started
	asked   atomic.Int64 // the last doubt, since started
	stopped atomic.Bool
}

// lookEvery is how often a watchdog looks that has to doubt, at least: what is
// shorter than that and over before a look goes unseen. One with a long patience
// that asks nobody looks a few times while it lasts, as nothing hangs on half a
// second of it, and hundreds of streams have one each.
const lookEvery = 500 * time.Millisecond

// newWatchdog starts one; doubt is called in a goroutine after each quietFor
// without food; nil: nobody asks.
func newWatchdog(cancel context.CancelCauseFunc, cause error, limit time.Duration, doubt func()) *watchdog {
	w := &watchdog{cancel: cancel, cause: cause, doubt: doubt, started: time.Now()}
	w.timer = time.AfterFunc(math.MaxInt64, w.look) // it may look before AfterFunc returns
	w.allow(limit)
	return w
}

// allow changes the limit and starts it anew.
func (w *watchdog) allow(limit time.Duration) {
	w.limit.Store(int64(limit))
	w.feed()
	w.again(0)
}

// again sets the next look, after so long without food.
func (w *watchdog) again(hungry time.Duration) {
	if w.stopped.Load() {
		return
	}
	after := nextLook(time.Duration(w.limit.Load()), hungry, w.doubt != nil)
	w.due.Store(int64(time.Since(w.started) + after))
	w.timer.Reset(after)
}

// nextLook is when to look again after so long without food.
func nextLook(limit, hungry time.Duration, doubts bool) time.Duration {
	every := lookEvery
	if !doubts {
		every = max(every, limit/16)
	}
	return max(min(limit-hungry, every), 0)
}

func (w *watchdog) look() {
	runtime.Gosched() // those that were ready before go first: one may bring food
	if w.stopped.Load() {
		return
	}
	fed, now := time.Duration(w.fed.Load()), time.Since(w.started)
	from := pardon(fed, time.Duration(w.due.Load()), now)
	w.fed.CompareAndSwap(int64(fed), int64(from)) // or it was fed just now
	hungry := now - from
	switch {
	case hungry >= time.Duration(w.limit.Load()):
		w.cancel(w.cause)
		return
	case w.doubt != nil && min(hungry, now-time.Duration(w.asked.Load())) >= quietFor:
		w.asked.Store(int64(now))
		w.doubt() // in the timer's goroutine
	}
	w.again(time.Since(w.started) - time.Duration(w.fed.Load()))
}

// pardon is from when hunger counts at a look that was due at due and is now:
// since it was fed, but for what the look is late by.
func pardon(fed, due, now time.Duration) time.Duration {
	return min(fed+max(now-due, 0), now)
}

func (w *watchdog) feed() { w.fed.Store(int64(time.Since(w.started))) }

func (w *watchdog) stop() {
	w.stopped.Store(true)
	w.timer.Stop()
}

// watchedReader feeds its watchdog with every byte that comes, and turns read
// errors into their cause.
type watchedReader struct {
	io.Reader
	client, ctx context.Context
	dog         *watchdog
}

func (r *watchedReader) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	return n, r.saw(err)
}

// Flow implements [lane.Flower].
func (r *watchedReader) Flow(take func(p []byte, err error) (more bool)) {
	lane.Flow(r.Reader, func(p []byte, err error) bool { return take(p, r.saw(err)) })
}

// saw notes that something came, and turns an error into its cause.
func (r *watchedReader) saw(err error) error {
	if err == nil {
		r.dog.feed()
		return nil
	}
	r.dog.stop()
	if err != io.EOF { //nolint:errorlint // io.Reader's contract is the bare value
		err = cause(r.client, r.ctx, err)
	}
	return err
}
