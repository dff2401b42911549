package guard

import (
	"errors"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/wire"
)

// memory bounds what request bodies hold together. Bodies stay there for the
// life of their request, so that it can be sent again to another node.
type memory struct {
	limit int64

	mu      sync.Mutex
	used    int64
	clients map[string]int64 // of it, by client
}

func newMemory(limit int64) *memory {
	return &memory{limit: limit, clients: make(map[string]int64)}
}

// take reserves n bytes more for a request. One client has no more than its
// share, as of places, but one request of each client is let through whatever
// its size, and so is one request alone.
func (m *memory) take(h *hold, n int64) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	mine := m.clients[h.client]
	others := len(m.clients)
	if mine == 0 {
		others++
	}
	switch {
	case m.used+n > m.limit && m.used > h.bytes:
		return false
	case mine+n > share(m.limit, others, h.zone) && mine > h.bytes:
		return false
	}
	m.used += n
	m.clients[h.client] = mine + n
	return true
}

func (m *memory) give(client string, n int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.used -= n
	if m.clients[client] -= n; m.clients[client] <= 0 {
		delete(m.clients, client)
	}
}

// small is how much of each body is not counted: the bound on requests bounds
// it, and so an ordinary prompt gets in whatever others hold.
const small = 64 << 10

// hold is what one request has reserved; it belongs to its goroutine.
type hold struct {
	memory *memory
	client string
	zone   Zone
	spool  string // directory for what is still coming
	size   int64  // bytes of the body so far
	bytes  int64  // of them reserved
}

func (h *hold) take(n int64) bool {
	h.size += n
	more := h.size - small - h.bytes
	if more <= 0 {
		return true
	}
	if !h.memory.take(h, more) {
		return false
	}
	h.bytes += more
	return true
}

// drop gives everything back.
func (h *hold) drop() {
	if h.bytes > 0 {
		h.memory.give(h.client, h.bytes)
	}
	h.size, h.bytes = 0, 0
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
	encoding := wire.Field(req.Header, "Content-Encoding")
	h, ok := req.Context().Value(holdKey{}).(*hold)
	if !ok {
		return wire.Decode(encoding, req.Body, limit)
	}
	if n := req.ContentLength; encoding == "" && n > 0 && n <= small {
		h.size += n
		body := make([]byte, n)
		if _, err := io.ReadFull(req.Body, body); err != nil {
			return nil, wire.ErrCorrupt(err)
		}
		return body, nil
	}
	s := &spool{hold: h}
	defer s.close()
	if werr := wire.DecodeTo(s, encoding, req.Body, limit); werr != nil {
		h.drop()
		if errors.Is(werr, errMemory) {
			return nil, wire.ErrBusy(retryFull, "too many large requests at once on this node")
		}
		return nil, werr
	}
	body, err := s.whole()
	if err != nil {
		h.drop()
		return nil, wire.ErrInternal(err)
	}
	return body, nil
}

// steady reads a request's body and ends the wait for a client that stopped
// sending: each piece must come within bodyIdle, and all of it faster than
// bodyRate after a first grace.
type steady struct {
	io.ReadCloser
	control *http.ResponseController // of the answer's writer
	started time.Time
	got     int64
	set     bool
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
	if s.control.SetReadDeadline(by) == nil {
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
		_ = s.control.SetReadDeadline(time.Time{})
	}
}

// writer gives up on a client that takes nothing for writeIdle: it would hold
// its place, and a GPU, for as long as it likes.
type writer struct {
	http.ResponseWriter
	control http.ResponseController // of the same
	armed   time.Time
	fresh   bool // a Write has just looked
}

const writeIdle = 60 * time.Second

// Unwrap lets http.ResponseController reach the connection.
func (w *writer) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w *writer) Write(p []byte) (int, error) {
	w.arm()
	w.fresh = true
	return w.ResponseWriter.Write(p)
}

// FlushError flushes under the same limit; http.ResponseController finds it.
func (w *writer) FlushError() error {
	if !w.fresh {
		w.arm()
	}
	w.fresh = false
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
