package lane

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
	"time"
)

// serverConn is one client's connection. One goroutine owns it; while a
// handler runs long, a second one waits for the client to leave.
type serverConn struct {
	s     *Server
	raw   net.Conn        // as accepted: what others may close
	conn  net.Conn        // the same, or TLS over it; of the owner
	ctx   context.Context //nolint:containedctx // base of all its requests
	addr  string
	state *tls.ConnectionState

	buf   []byte // what was read, from
	from  int
	out   []byte
	phase atomic.Int32
	watch watch

	reading, writing deadline

	unread bool // the last answer is out, and its request's body is not read
	// Of one request after the other:
	plain  http.Request // as it was read
	header http.Header  // of the answer
}

// deadline is one of a connection's two. It is set when it is about to count:
// most requests are there in one piece, and wait for nothing.
type deadline struct{ want, is time.Time }

// slack is how much later than it is a deadline may have to be before it is
// set anew.
const slack = time.Second

// due reports whether the deadline has to be set to what is wanted.
func (d *deadline) due() bool {
	if d.want.Equal(d.is) || !d.is.IsZero() && d.want.After(d.is) && d.want.Sub(d.is) < slack {
		return false
	}
	d.is = d.want
	return true
}

// read reads from the connection by the deadline.
func (x *serverConn) read(p []byte) (int, error) {
	if x.reading.due() {
		if err := x.conn.SetReadDeadline(x.reading.is); err != nil {
			return 0, err
		}
	}
	return x.conn.Read(p)
}

// write writes to the connection by the deadline.
func (x *serverConn) write(p []byte) error {
	if x.writing.due() {
		if err := x.conn.SetWriteDeadline(x.writing.is); err != nil {
			return err
		}
	}
	_, err := x.conn.Write(p)
	return err
}

// Phases of a connection: Shutdown ends those between requests.
const (
	idle int32 = iota
	serving
	ended
)

func (s *Server) newConn(c net.Conn) *serverConn {
	x := &serverConn{s: s, raw: c, conn: c, addr: c.RemoteAddr().String(), header: make(http.Header, 8)}
	if t, ok := c.(Trusting); ok {
		t.Trust()
	}
	return x
}

func (x *serverConn) closeIdle() {
	if x.phase.CompareAndSwap(idle, ended) {
		_ = x.raw.Close()
	}
}

func (x *serverConn) abort() {
	x.phase.Store(ended)
	_ = x.raw.Close()
}

// run serves the connection until it ends or is handed over.
func (x *serverConn) run() {
	if x.s.TLS != nil && !x.shake() {
		return
	}
	ctx := context.WithValue(context.Background(), http.ServerContextKey, x.s.HTTP)
	ctx = context.WithValue(ctx, http.LocalAddrContextKey, x.conn.LocalAddr())
	if x.s.HTTP.ConnContext != nil {
		ctx = x.s.HTTP.ConnContext(ctx, x.conn)
	}
	x.ctx = ctx
	for {
		e, err := x.next()
		switch {
		case err != nil:
			_ = x.conn.Close()
			return
		case e == nil:
			if x.state != nil {
				_ = x.conn.Close() // it promised
				return
			}
			if x.phase.CompareAndSwap(serving, ended) && x.conn.SetDeadline(time.Time{}) == nil {
				x.s.rest.give(unread(x.conn, bytes.Clone(x.buf[x.from:])))
			}
			return
		}
		if !x.serve(e) {
			x.hangUp()
			return
		}
		if !x.phase.CompareAndSwap(serving, idle) || x.s.isClosing() {
			_ = x.conn.Close()
			return
		}
	}
}

// shake does the TLS handshake; false: the connection is no more, or not ours.
func (x *serverConn) shake() bool {
	t := tls.Server(x.conn, x.s.TLS)
	ctx, cancel := context.WithTimeout(context.Background(), x.headTimeout())
	err := t.HandshakeContext(ctx)
	cancel()
	if err != nil {
		_ = x.conn.Close()
		return false
	}
	state := t.ConnectionState()
	if state.NegotiatedProtocol != Protocol {
		x.phase.Store(ended)
		x.s.rest.give(t)
		return false
	}
	x.conn, x.state = t, &state
	return true
}

func (x *serverConn) headTimeout() time.Duration {
	if d := x.s.HTTP.ReadHeaderTimeout; d > 0 {
		return d
	}
	return 10 * time.Second
}

func (x *serverConn) idleTimeout() time.Duration {
	if d := x.s.HTTP.IdleTimeout; d > 0 {
		return d
	}
	return 2 * time.Minute
}

// next reads the head of the next request; nil without error: it is not plain,
// and nothing of it is taken.
func (x *serverConn) next() (*exchange, error) {
	if x.from == len(x.buf) {
		x.buf, x.from = x.buf[:0], 0
		if cap(x.buf) > 2*plainHead {
			x.buf = nil
		}
		if err := x.fill(x.idleTimeout()); err != nil {
			return nil, err
		}
	}
	if !x.phase.CompareAndSwap(idle, serving) {
		return nil, net.ErrClosed
	}
	deadline := time.Now().Add(x.headTimeout()) // for the whole head, however it trickles
	for tried := false; ; tried = true {
		have := x.buf[x.from:]
		if end := bytes.Index(have, []byte("\r\n\r\n")); end >= 0 {
			e := new(exchange)
			if !plain(&x.plain, &e.url, have[:end+4]) {
				return nil, nil //nolint:nilnil // says so
			}
			x.from += end + 4
			x.reading.want = time.Time{}
			return e, nil
		}
		// What comes byte by byte is no client of ours.
		if len(have) > plainHead || tried && len(have) < 16 {
			return nil, nil //nolint:nilnil // as above
		}
		if err := x.fill(time.Until(deadline)); err != nil {
			return nil, err
		}
	}
}

// fill reads what there is, and waits for it at most for a while.
func (x *serverConn) fill(within time.Duration) error {
	x.reading.want = time.Now().Add(within)
	if x.from > 0 {
		x.buf = append(x.buf[:0], x.buf[x.from:]...)
		x.from = 0
	}
	if cap(x.buf)-len(x.buf) < 512 {
		grown := make([]byte, len(x.buf), max(4<<10, 2*cap(x.buf)))
		copy(grown, x.buf)
		x.buf = grown
	}
	n, err := x.read(x.buf[len(x.buf):cap(x.buf)])
	x.buf = x.buf[:len(x.buf)+n]
	if n > 0 {
		return nil
	}
	return err
}

// lighten gives the buffer of a request that has been read back, while its
// answer goes out in parts: that may take long, and there are many of them.
func (x *serverConn) lighten() {
	x.watch.mu.Lock()
	defer x.watch.mu.Unlock()
	if x.from == len(x.buf) {
		x.buf, x.from = nil, 0
	}
}

// exchange is one request with its answer. It is the request's context, too.
type exchange struct {
	context.Context //nolint:containedctx // it is one
	end             context.CancelCauseFunc
	url             url.URL
	body            requestBody
	response        response
}

type endKey struct{}

// Value implements context.Context.
func (e *exchange) Value(key any) any {
	if key == (endKey{}) {
		return e.end
	}
	return e.Context.Value(key)
}

// End is what ends a request of this server, and cancels the context that it
// came with; !ok: ctx is none of it.
func End(ctx context.Context) (end context.CancelCauseFunc, ok bool) {
	end, ok = ctx.Value(endKey{}).(context.CancelCauseFunc)
	return end, ok
}

// serve answers one request; false: the connection is of no more use.
func (x *serverConn) serve(e *exchange) (keep bool) {
	req := &x.plain
	e.Context, e.end = context.WithCancelCause(x.ctx)
	defer e.end(nil)
	x.writing.want = time.Time{}
	req.RemoteAddr, req.TLS = x.addr, x.state
	b := &e.body
	*b = requestBody{x: x, left: req.ContentLength, cancel: e.end}
	if b.left > 0 {
		req.Body = b
	} else {
		req.Body = http.NoBody
		x.watch.arm(x.s, e.end)
	}
	w := &e.response
	*w = response{x: x, request: b, header: x.header, length: -1}
	defer func() {
		x.watch.disarm(x)
		// As in net/http a panic ends the connection only. Ours tell of theirs
		// themselves and then abort (see guard.Contain).
		if v := recover(); v != nil {
			keep = false
			if log := x.s.HTTP.ErrorLog; v != http.ErrAbortHandler && log != nil { //nolint:errorlint // net/http's contract is the bare value
				log.Printf("lane: a handler panicked: %T", v)
			}
		}
	}()
	x.s.HTTP.Handler.ServeHTTP(w, req.WithContext(e))
	x.watch.disarm(x)
	keep = w.finish() && !x.watch.gone
	x.unread = b.left > 0
	clear(x.header)
	return keep
}

// lingering is how long a client that is still sending may take to see its
// answer: as long as in net/http.
const lingering = 500 * time.Millisecond

// hangUp closes the connection. Closed with bytes unread it would be reset, and
// the client might lose an answer, "too large", that is on its way to it.
func (x *serverConn) hangUp() {
	if half, ok := x.conn.(interface{ CloseWrite() error }); ok && x.unread && half.CloseWrite() == nil {
		if x.conn.SetReadDeadline(time.Now().Add(lingering)) == nil {
			_, _ = io.Copy(io.Discard, x.conn)
		}
	}
	_ = x.conn.Close()
}

// requestBody is a request's body of known length. When it has been read, the
// connection is watched for the client's leaving.
type requestBody struct {
	x      *serverConn
	left   int64
	cancel context.CancelCauseFunc
}

func (b *requestBody) Read(p []byte) (int, error) {
	if b.left == 0 {
		return 0, io.EOF
	}
	n, err := b.take(p)
	switch {
	case b.left == 0:
		b.x.watch.arm(b.x.s, b.cancel)
		return n, io.EOF
	case err == io.EOF: //nolint:errorlint // io.Reader's contract is the bare value
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		b.cancel(nil)
	}
	return n, err
}

// take reads what is there of the rest.
func (b *requestBody) take(p []byte) (n int, err error) {
	if int64(len(p)) > b.left {
		p = p[:b.left]
	}
	if x := b.x; x.from < len(x.buf) {
		n = copy(p, x.buf[x.from:])
		x.from += n
	} else {
		n, err = x.read(p)
	}
	b.left -= int64(n)
	return n, err
}

// maxUnread is how much of a body that its handler does not want is read all
// the same, so that the connection can be used on: as much as in net/http.
const maxUnread = 256 << 10

// drain reads what the handler has left, before its answer says whether the
// connection stays; false: it cannot.
func (b *requestBody) drain() bool {
	if b.left == 0 {
		return true
	}
	if b.left > maxUnread {
		return false
	}
	b.x.reading.want = time.Now().Add(lingering)
	var p [4 << 10]byte
	for b.left > 0 {
		if _, err := b.take(p[:]); err != nil {
			return false
		}
	}
	b.x.reading.want = time.Time{}
	return true
}

func (b *requestBody) Close() error { return nil }

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
