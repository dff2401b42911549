package main

import (
	"io"
	"sync"
	"time"
)

// lines gathers the lines of a log for a moment, so that a node that answers
// thousands of requests a second does not write to its log as often. What was
// written last may be lost when the process is killed within linesFor.
type lines struct {
	to io.Writer

	mu    sync.Mutex
	buf   []byte
	timer *time.Timer // nil: none runs
}

const (
	linesFor = 100 * time.Millisecond
	maxLines = 32 << 10 // bytes that wait
)

// Write implements io.Writer. It never fails: there is nobody to tell.
func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.buf = append(l.buf, p...)
	switch {
	case len(l.buf) >= maxLines:
		l.put()
	case l.timer == nil:
		l.timer = time.AfterFunc(linesFor, l.flush)
	}
	return len(p), nil
}

// flush writes what waits.
func (l *lines) flush() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.put()
}

// put writes what waits. mu is held.
func (l *lines) put() {
	if l.timer != nil {
		l.timer.Stop()
		l.timer = nil
	}
	if len(l.buf) > 0 {
		_, _ = l.to.Write(l.buf)
		l.buf = l.buf[:0]
	}
}
