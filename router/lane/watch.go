package lane

import (
	"context"
	"errors"
	"net"
	"sync"
	"time"
)

// watch waits for the client to leave while a handler runs. It begins after a
// moment: most small answers are ready by then, and need no watch.
type watch struct {
	mu     sync.Mutex
	cancel context.CancelCauseFunc // nil: not armed
	since  time.Time               // that it is armed
	done   chan struct{}           // of the look that runs; nil: none does
	gone   bool                    // the client left, or the connection broke
}

// watchAfter is how long a request runs unwatched, at least; sweepEvery is how
// often the server looks for those that have.
const (
	watchAfter = 20 * time.Millisecond
	sweepEvery = 10 * time.Millisecond
)

func (w *watch) arm(s *Server, cancel context.CancelCauseFunc) {
	w.mu.Lock()
	w.cancel, w.since = cancel, time.Now()
	w.mu.Unlock()
	s.wake()
}

// wake makes the server look after its unwatched requests. One timer does it
// for all: one of its own for each cost as much as reading the request.
func (s *Server) wake() {
	if !s.awake.Load() && s.awake.CompareAndSwap(false, true) {
		s.sweeper.Reset(sweepEvery)
	}
}

// sweep begins the watch of all requests that are due, and looks again while
// there are others.
func (s *Server) sweep() {
	s.awake.Store(false)
	now, young := time.Now(), false
	s.mu.Lock()
	for x := range s.conns {
		young = x.watchFrom(now) || young
	}
	s.mu.Unlock()
	if young {
		s.wake()
	}
}

// watchFrom begins the watch of the request that x serves, if it is due. young:
// it will be.
func (x *serverConn) watchFrom(now time.Time) (young bool) {
	w := &x.watch
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.cancel == nil || w.done != nil || x.from < len(x.buf) {
		return false // over, watched, or the next request is here: its client is, too
	}
	if now.Sub(w.since) < watchAfter {
		return true
	}
	w.done = make(chan struct{})
	if x.reading.want = (time.Time{}); x.reading.due() {
		_ = x.conn.SetReadDeadline(time.Time{})
	}
	go x.look(w.done, w.cancel)
	return false
}

// look reads until something comes: the next request's first bytes, which are
// kept, or the end.
func (x *serverConn) look(done chan struct{}, cancel context.CancelCauseFunc) {
	defer close(done)
	w := &x.watch
	var first [1]byte
	n, err := x.conn.Read(first[:])
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case n > 0:
		x.buf, x.from = append(x.buf[:0], first[:n]...), 0
	case w.cancel == nil && isTimeout(err): // disarmed
	default:
		w.gone = true
		cancel(nil)
	}
}

// disarm ends the watch and returns when nobody reads the connection any more.
func (w *watch) disarm(x *serverConn) {
	w.mu.Lock()
	w.cancel = nil
	done := w.done
	w.mu.Unlock()
	if done == nil {
		return
	}
	_ = x.conn.SetReadDeadline(time.Unix(1, 0))
	<-done
	_ = x.conn.SetReadDeadline(time.Time{})
	x.reading = deadline{}
	w.mu.Lock()
	w.done = nil
	w.mu.Unlock()
}

func isTimeout(err error) bool {
	t, ok := errors.AsType[net.Error](err)
	return ok && t.Timeout()
}
