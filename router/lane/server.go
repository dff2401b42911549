package lane

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// Server answers plain requests itself and leaves every other connection to
// HTTP, with all bytes that came over it: connections with a request that is
// not plain, and over TLS those that did not ask for a [Trunk]. Both call
// HTTP's Handler, with HTTP's ConnContext and limits. Set HTTP up before Serve.
type Server struct {
	HTTP *http.Server
	// TLS, if set, is spoken by all connections.
	TLS *tls.Config

	mu      sync.Mutex
	conns   map[*serverConn]struct{}
	closing bool
	active  sync.WaitGroup // conversations
	rest    *handover
	started bool

	awake   atomic.Bool // sweeper is set
	sweeper *time.Timer
}

// Serve answers on l until Shutdown or Close, then returns
// [http.ErrServerClosed]; or until l fails, and then connections that are there
// are still served, until Shutdown or Close. It can be called once.
func (s *Server) Serve(l net.Listener) error {
	s.mu.Lock()
	if s.closing || s.started {
		s.mu.Unlock()
		return http.ErrServerClosed
	}
	s.started = true
	s.conns = make(map[*serverConn]struct{})
	s.sweeper = time.AfterFunc(time.Hour, s.sweep)
	s.sweeper.Stop()
	s.rest = &handover{Listener: l, conns: make(chan net.Conn), closed: make(chan struct{})}
	if s.TLS != nil {
		s.HTTP.TLSConfig = s.TLS // by it net/http sets HTTP/2 up
	}
	s.mu.Unlock()
	given := s.HTTP.ConnContext
	s.HTTP.ConnContext = func(ctx context.Context, c net.Conn) context.Context {
		if given == nil {
			return ctx
		}
		return given(ctx, original(c))
	}
	done := make(chan error, 1)
	go func() { done <- s.HTTP.Serve(s.rest) }()
	err := s.accept(l)
	if s.isClosing() {
		_ = s.rest.Close()
		<-done //nolint:errcheck // net.ErrClosed, or that it was closed
	}
	return err
}

func (s *Server) accept(l net.Listener) error {
	var pause time.Duration
	for {
		c, err := l.Accept()
		if err != nil {
			if s.isClosing() {
				return http.ErrServerClosed
			}
			// Out of descriptors, most of the time: some will be given back.
			if errno, ok := errors.AsType[syscall.Errno](err); ok && errno.Temporary() {
				pause = min(max(2*pause, 5*time.Millisecond), time.Second)
				wait := time.NewTimer(pause)
				<-wait.C
				continue
			}
			return err
		}
		pause = 0
		if !s.serve(s.newConn(c)) {
			_ = c.Close()
			return http.ErrServerClosed
		}
	}
}

// serve serves a connection in a goroutine of its own; false: no more.
func (s *Server) serve(x *serverConn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing {
		return false
	}
	s.conns[x] = struct{}{}
	s.active.Go(func() {
		defer s.forget(x)
		x.run()
	})
	return true
}

func (s *Server) isClosing() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closing
}

func (s *Server) forget(x *serverConn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, x)
}

// Shutdown takes no more connections and requests, lets the running ones end,
// and returns when they have; err != nil: ctx ended first.
func (s *Server) Shutdown(ctx context.Context) error {
	s.stop()
	s.mu.Lock()
	for x := range s.conns {
		x.closeIdle()
	}
	s.mu.Unlock()
	err := s.HTTP.Shutdown(ctx)
	done := make(chan struct{})
	go func() {
		s.active.Wait()
		close(done)
	}()
	select {
	case <-done:
		return err
	case <-ctx.Done():
		return errors.Join(err, ctx.Err())
	}
}

// Close ends everything at once.
func (s *Server) Close() error {
	s.stop()
	s.mu.Lock()
	for x := range s.conns {
		x.abort()
	}
	s.mu.Unlock()
	return s.HTTP.Close()
}

func (s *Server) stop() {
	s.mu.Lock()
	s.closing = true
	rest := s.rest
	s.mu.Unlock()
	if rest != nil {
		_ = rest.Close()
	}
}

// handover is the listener that the http.Server gets its connections from.
type handover struct {
	net.Listener
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
	err    error
}

func (h *handover) Accept() (net.Conn, error) {
	select {
	case c := <-h.conns:
		return c, nil
	case <-h.closed:
		return nil, net.ErrClosed
	}
}

// give hands c over; when nobody takes it any more it is closed.
func (h *handover) give(c net.Conn) {
	select {
	case h.conns <- c:
	case <-h.closed:
		_ = c.Close()
	}
}

// Close ends it, once, with the listener that it is in front of.
func (h *handover) Close() error {
	h.once.Do(func() {
		close(h.closed)
		if err := h.Listener.Close(); !errors.Is(err, net.ErrClosed) { // its owner may have closed it before
			h.err = err
		}
	})
	return h.err
}

// Trusting is a connection that judges the bytes that come over it, and need
// not while the lane reads them: plain requests have one reading only.
type Trusting interface {
	net.Conn
	// Trust is called before the first read.
	Trust()
	// Unread gives back what was read of messages that are not plain, for the
	// next reader, and ends the trust. The connection keeps p.
	Unread(p []byte)
}

// unread is c with what was read of it given back.
func unread(c net.Conn, read []byte) net.Conn {
	if t, ok := c.(Trusting); ok {
		t.Unread(read)
		return c
	}
	return &begun{Conn: c, read: read}
}

// begun is a connection of which bytes were read already.
type begun struct {
	net.Conn
	read []byte
}

func (b *begun) Read(p []byte) (int, error) {
	if len(b.read) > 0 {
		n := copy(p, b.read)
		if b.read = b.read[n:]; len(b.read) == 0 {
			b.read = nil
		}
		return n, nil
	}
	return b.Conn.Read(p)
}

// original is the connection as the listener gave it.
func original(c net.Conn) net.Conn {
	if b, ok := c.(*begun); ok {
		return b.Conn
	}
	return c
}
