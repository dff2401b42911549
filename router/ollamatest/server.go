package ollamatest

import (
	"context"
	"errors"
	"io"
	"log"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Causes with which a server's requests end.
var (
	errClosed = errors.New("ollamatest: server closed")
	errKilled = errors.New("ollamatest: server killed")
)

// Server is a fake Ollama. Make it with [New]; serve it with [Server.Serve],
// [Server.Listen] or any HTTP server around [Server.Handler].
type Server struct {
	cfg     Config // with defaults; read-only after New
	has     features
	stats   *recorder
	faults  *faults
	catalog *catalog
	sched   *scheduler
	device  device
	frost   frost

	randMu sync.Mutex
	rand   *rand.Rand

	life atomic.Pointer[life] // the present one; Close and Kill end it

	mu   sync.Mutex // guards what follows
	http *http.Server
	addr net.Addr
	open map[net.Conn]struct{}
	done chan struct{} // closed when the goroutine of Listen has ended
}

// life is the time between two deaths of a server.
type life struct {
	ctx    context.Context
	cancel context.CancelCauseFunc

	mu    sync.Mutex
	calls int           // requests being handled
	over  bool          // no more are let in
	idle  chan struct{} // closed when over and the last has left
}

func newLife() *life {
	ctx, cancel := context.WithCancelCause(context.Background())
	return &life{ctx: ctx, cancel: cancel, idle: make(chan struct{})}
}

// enter counts a request in, unless the life is over.
func (l *life) enter() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.over {
		l.calls++
	}
	return !l.over
}

func (l *life) leave() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.calls--; l.over && l.calls == 0 {
		close(l.idle)
	}
}

// end lets no more requests in and tells those inside to leave.
func (l *life) end(cause error) {
	l.mu.Lock()
	if !l.over && l.calls == 0 {
		close(l.idle)
	}
	l.over = true
	l.mu.Unlock()
	l.cancel(cause)
}

// New makes a server. It starts nothing. It panics if a model's name or
// template is invalid.
func New(c Config) *Server {
	c = c.withDefaults()
	stats := newRecorder()
	s := &Server{
		cfg:     c,
		has:     featuresOf(parseRelease(c.Version)),
		stats:   stats,
		faults:  newFaults(c.Seed, stats),
		catalog: newCatalog(c, time.Now()),
		rand:    rand.New(rand.NewPCG(c.Seed, 0x0a)),
		open:    map[net.Conn]struct{}{},
	}
	s.sched = newScheduler(c, stats, s.faults)
	s.life.Store(newLife())
	return s
}

// random returns the next random number of the server's seed.
func (s *Server) random() uint64 {
	s.randMu.Lock()
	defer s.randMu.Unlock()
	return s.rand.Uint64()
}

// Serve answers requests on l until Close or Kill, then returns nil. A server
// that was closed or killed lives again, with its installed models, an empty
// memory and its statistics and faults as they were.
func (s *Server) Serve(l net.Listener) error {
	srv := &http.Server{
		Handler:   s.Handler(),
		ConnState: s.track,
		ErrorLog:  log.New(io.Discard, "", 0),
	}
	s.mu.Lock()
	if s.life.Load().ctx.Err() != nil {
		s.life.Store(newLife())
	}
	s.http, s.addr = srv, l.Addr()
	s.mu.Unlock()
	if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// track keeps the set of open connections, for Kill.
func (s *Server) track(c net.Conn, state http.ConnState) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch state {
	case http.StateNew:
		s.open[c] = struct{}{}
	case http.StateClosed, http.StateHijacked:
		delete(s.open, c)
	}
}

// Listen serves on a TCP address, such as "127.0.0.1:0", in a goroutine that
// ends with Close or Kill.
func (s *Server) Listen(addr string) error {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	s.Start(l)
	return nil
}

// Start is [Server.Serve] in a goroutine that ends with Close or Kill.
func (s *Server) Start(l net.Listener) {
	done := make(chan struct{})
	s.mu.Lock()
	s.done, s.addr = done, l.Addr()
	s.mu.Unlock()
	ready := make(chan struct{})
	go func() {
		defer close(done)
		if err := s.Serve(&firstAccept{Listener: l, ready: ready}); err != nil {
			s.cfg.Logger.Error("serving ended", "err", err)
		}
	}()
	<-ready
}

// firstAccept tells when a listener is first asked for a connection: from then
// on Close and Kill reach it.
type firstAccept struct {
	net.Listener
	once  sync.Once
	ready chan struct{}
}

// Accept waits for the next connection.
func (l *firstAccept) Accept() (net.Conn, error) {
	l.once.Do(func() { close(l.ready) })
	return l.Listener.Accept()
}

// Restart serves again on the TCP address of the last Serve or Listen, after
// Close or Kill. It closes the server first if it still runs.
func (s *Server) Restart() error {
	s.Close()
	addr := s.Addr()
	if addr == nil {
		return errors.New("ollamatest: restart of a server that never listened")
	}
	return s.Listen(addr.String())
}

// Addr is the address of the last listener, nil before the first.
func (s *Server) Addr() net.Addr {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.addr
}

// URL is the base URL of the server, without a slash at the end.
func (s *Server) URL() string {
	if a := s.Addr(); a != nil {
		return "http://" + a.String()
	}
	return ""
}

// Close ends the server as SIGTERM does: the listener and all connections are
// closed at once, streams are cut. It returns when no request is left. Closing
// twice is harmless.
func (s *Server) Close() error {
	s.end(errClosed)
	return nil
}

// Kill ends the server as kill -9 does when the peer notices: every connection
// is reset, whatever was still to be sent is lost.
func (s *Server) Kill() {
	s.mu.Lock()
	conns := slices.Collect(maps.Keys(s.open))
	s.mu.Unlock()
	for _, c := range conns { // before the handlers can end their answers politely
		reset(c)
	}
	s.end(errKilled)
}

// end ends the present life.
func (s *Server) end(cause error) {
	life := s.life.Load()
	s.mu.Lock()
	srv, done := s.http, s.done
	s.http = nil
	s.mu.Unlock()
	life.end(cause)
	if srv != nil {
		srv.Close()
	}
	<-life.idle
	if done != nil {
		<-done
	}
	s.sched.reset()
	s.frost.thaw()
}

// reset closes a connection with RST, where there is such a thing.
func reset(c net.Conn) {
	if tcp, ok := c.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0) // fails only on a connection that is closed already
	}
	c.Close()
}

// Freeze stops the server as SIGSTOP does: connections are still accepted by
// the kernel, but no request is answered and no running answer goes on, until
// Thaw, Close or Kill. That a client has left is noticed after Thaw.
func (s *Server) Freeze() { s.frost.freeze() }

// Thaw ends Freeze.
func (s *Server) Thaw() { s.frost.thaw() }

// frost is the switch behind Freeze.
type frost struct {
	mu sync.Mutex
	ch atomic.Pointer[chan struct{}] // nil = not frozen; closed by thaw
}

func (f *frost) freeze() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.ch.Load() == nil {
		ch := make(chan struct{})
		f.ch.Store(&ch)
	}
}

func (f *frost) thaw() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if ch := f.ch.Swap(nil); ch != nil {
		close(*ch)
	}
}

// wait returns when the server is not frozen, or its life ends.
func (f *frost) wait(life *life) {
	for ch := f.ch.Load(); ch != nil; ch = f.ch.Load() {
		select {
		case <-*ch:
		case <-life.ctx.Done():
			return
		}
	}
}

// Install adds a model, or replaces the one of that name, as if it had been
// pulled. A loaded runner of it is not touched.
func (s *Server) Install(m Model) error { return s.catalog.install(m, time.Now()) }

// Remove deletes a model and reports whether there was one.
func (s *Server) Remove(name string) bool { return s.catalog.remove(name) }
