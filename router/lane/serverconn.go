package lane

import (
	"bytes"
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"sync/atomic"
	"time"
)

// serverConn is one client's connection. One goroutine owns it; while a
// handler runs long, a second one waits for the client to leave.
type serverConn struct {
	s     *Server
	conn  net.Conn        // as accepted, or a strand
	ctx   context.Context //nolint:containedctx // base of all its requests
	addr  string
	state *tls.ConnectionState

	buf   []byte // what was read, from
	from  int
	out   []byte
	phase atomic.Int32
	trunk atomic.Pointer[trunk] // that it is
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
	x := &serverConn{s: s, conn: c, addr: c.RemoteAddr().String(), header: make(http.Header, 8)}
	if t, ok := c.(Trusting); ok {
		t.Trust()
	}
	return x
}

func (x *serverConn) closeIdle() {
	if t := x.trunk.Load(); t != nil {
		t.drain()
		return
	}
	if x.phase.CompareAndSwap(idle, ended) {
		_ = x.conn.Close()
	}
}

func (x *serverConn) abort() {
	x.phase.Store(ended)
	_ = x.conn.Close()
}

// run serves the connection until it ends or is handed over.
func (x *serverConn) run() {
	if x.s.TLS != nil && x.state == nil { // with a state it is a strand
		x.shake()
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
				_ = x.conn.Close() // over a trunk come plain requests only
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

// shake does the TLS handshake, and serves or hands over what it leads to.
func (x *serverConn) shake() {
	t := tls.Server(x.conn, x.s.TLS)
	ctx, cancel := context.WithTimeout(context.Background(), x.headTimeout())
	err := t.HandshakeContext(ctx)
	cancel()
	if err != nil {
		_ = x.conn.Close()
		return
	}
	if state := t.ConnectionState(); state.NegotiatedProtocol == Trunk {
		x.state = &state
		x.carry(t)
		return
	}
	x.phase.Store(ended)
	x.s.rest.give(t)
}

// carry serves what comes over the strands of a trunk, until that ends.
func (x *serverConn) carry(c net.Conn) {
	t := newTrunk(c, func(s *strand) {
		y := x.s.newConn(s)
		y.state = x.state
		if !x.s.serve(y) {
			_ = s.Close()
		}
	})
	x.trunk.Store(t)
	if x.s.isClosing() {
		t.drain()
	}
	t.run()
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
		// What comes byte by byte is no client of ours. Other ends of lines, and
		// whoever means them, would have us wait for an end that never comes.
		if len(have) > plainHead || tried && len(have) < 16 || strangeEnds(have) {
			return nil, nil //nolint:nilnil // as above
		}
		if err := x.fill(time.Until(deadline)); err != nil {
			return nil, err
		}
	}
}

// strangeEnds reports whether a line of b ends in another way than CR LF.
func strangeEnds(b []byte) bool { return bytes.Count(b, []byte{'\n'}) != bytes.Count(b, crlf) }

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
