package guard

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/wire"
)

// memory bounds what request bodies hold together. Bodies stay in memory for
// the life of their request, so that it can be sent again to another node.
type memory struct {
	limit int64

	mu   sync.Mutex
	used int64
}

// take reserves n bytes for a request that has mine already. One request is
// always let through when nothing else is held, whatever its size.
func (m *memory) take(mine, n int64) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.used+n > m.limit && m.used > mine {
		return false
	}
	m.used += n
	return true
}

func (m *memory) give(n int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.used -= n
}

// hold is what one request has reserved; it belongs to its goroutine.
type hold struct {
	memory *memory
	bytes  int64
}

func (h *hold) take(n int64) bool {
	if !h.memory.take(h.bytes, n) {
		return false
	}
	h.bytes += n
	return true
}

// settle brings the reservation to n bytes or less.
func (h *hold) settle(n int64) {
	if n < h.bytes {
		h.memory.give(h.bytes - n)
		h.bytes = n
	}
}

type holdKey struct{}

// errMemory means that request bodies hold all memory that they may.
var errMemory = errors.New("guard: request bodies hold all memory that they may")

// ReadBody reads and decodes a request's body, at most limit bytes of it, and
// reserves memory for it until the request ends. Without a guard in front of
// the request it only reads.
func ReadBody(req *http.Request, limit int64) ([]byte, *wire.Error) {
	if req.ContentLength > limit {
		return nil, wire.ErrTooLarge(limit)
	}
	encoding := req.Header.Get("Content-Encoding")
	h, ok := req.Context().Value(holdKey{}).(*hold)
	if !ok {
		return wire.Decode(encoding, req.Body, limit)
	}
	var body []byte
	var werr *wire.Error
	switch strings.ToLower(strings.TrimSpace(encoding)) {
	case "", "identity":
		body, werr = wire.Decode("", &counted{req.Body, h}, limit)
	default:
		// What comes out is known only afterwards: reserve the most it may be.
		if !h.take(limit) {
			return nil, busy()
		}
		body, werr = wire.Decode(encoding, req.Body, limit)
	}
	if werr != nil {
		h.settle(0)
		if errors.Is(werr, errMemory) {
			return nil, busy()
		}
		return nil, werr
	}
	h.settle(int64(len(body)))
	return body, nil
}

func busy() *wire.Error {
	return wire.ErrBusy(retryFull, "too many large requests at once on this node")
}

// counted reserves memory for what is read through it.
type counted struct {
	r io.Reader
	h *hold
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	if n > 0 && !c.h.take(int64(n)) {
		return n, errMemory
	}
	return n, err
}

// steady reads a request's body and ends the wait for a client that stopped
// sending: each piece must come within bodyIdle, and all of it faster than
// bodyRate after a first grace.
type steady struct {
	io.ReadCloser
	deadline func(time.Time) error
	started  time.Time
	got      int64
	set      bool
}

const (
	bodyIdle = 30 * time.Second
	bodyRate = 8 << 10 // bytes per second: a 2G phone
)

func (s *steady) Read(p []byte) (int, error) {
	now := time.Now()
	if s.started.IsZero() {
		s.started = now
	}
	by := now.Add(bodyIdle)
	if least := s.started.Add(2*bodyIdle + time.Duration(s.got/bodyRate)*time.Second); least.Before(by) {
		by = least
	}
	if s.deadline(by) == nil {
		s.set = true
	}
	n, err := s.ReadCloser.Read(p)
	s.got += int64(n)
	if err != nil {
		s.clear() // from here on the connection waits for the client to leave
	}
	return n, err
}

func (s *steady) clear() {
	if s.set {
		s.set = false
		_ = s.deadline(time.Time{})
	}
}

// writer gives up on a client that takes nothing for writeIdle: it would hold
// its place, and a GPU, for as long as it likes.
type writer struct {
	http.ResponseWriter
	control *http.ResponseController
	armed   time.Time
}

const writeIdle = 60 * time.Second

// Unwrap lets http.ResponseController reach the connection.
func (w *writer) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w *writer) Write(p []byte) (int, error) {
	w.arm()
	return w.ResponseWriter.Write(p)
}

// FlushError flushes under the same limit; http.ResponseController finds it.
func (w *writer) FlushError() error {
	w.arm()
	return w.control.Flush()
}

// arm moves the deadline, at most once a second: a token is no reason for a
// timer.
func (w *writer) arm() {
	if now := time.Now(); now.Sub(w.armed) > time.Second {
		w.armed = now
		_ = w.control.SetWriteDeadline(now.Add(writeIdle)) // a recorder has none
	}
}

func withHold(ctx context.Context, h *hold) context.Context {
	return context.WithValue(ctx, holdKey{}, h)
}
