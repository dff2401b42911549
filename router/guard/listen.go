package guard

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// listener bounds connections per client address and in all. A new connection
// over the bound takes the place of the one that has been idle for the longest
// time; only when all of them carry requests is it turned away. So whoever
// opens ten thousand connections and says nothing harms only itself.
type listener struct {
	net.Listener
	total, perAddr int
	tls            *tls.Config // nil: plain HTTP

	mu    sync.Mutex
	conns map[*conn]struct{}
	count map[netip.Addr]int
}

// hereFactor is how many times more connections programs on this machine may
// have: they share one address.
const hereFactor = 4

func (l *listener) bound(addr netip.Addr) int {
	if addr.IsLoopback() {
		return min(l.total, l.perAddr*hereFactor)
	}
	return l.perAddr
}

// Accept implements net.Listener.
func (l *listener) Accept() (net.Conn, error) {
	for {
		raw, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if c := l.admit(raw); c != nil {
			return c, nil
		}
		_ = raw.SetWriteDeadline(time.Now().Add(time.Second))
		_, _ = io.WriteString(raw, crowded)
		_ = raw.Close()
	}
}

const crowded = "HTTP/1.1 429 Too Many Requests\r\nRetry-After: 2\r\nConnection: close\r\n" +
	"Content-Type: application/json\r\nContent-Length: 54\r\n\r\n" +
	`{"error":"too many connections from this client here"}`

func (l *listener) admit(raw net.Conn) *conn {
	addr := plainAddr(raw.RemoteAddr().String())
	c := &conn{Conn: raw, l: l, addr: addr}
	c.touched.Store(time.Now().UnixNano())
	l.mu.Lock()
	var evicted *conn
	switch {
	case l.count[addr] >= l.bound(addr):
		if evicted = l.idlest(func(o *conn) bool { return o.addr == addr }); evicted == nil {
			l.mu.Unlock()
			return nil
		}
	case len(l.conns) >= l.total:
		most := l.crowd()
		if evicted = l.idlest(func(o *conn) bool { return o.addr == most }); evicted == nil {
			evicted = l.idlest(func(*conn) bool { return true })
		}
		if evicted == nil {
			l.mu.Unlock()
			return nil
		}
	}
	if evicted != nil {
		l.drop(evicted)
	}
	l.conns[c] = struct{}{}
	l.count[addr]++
	l.mu.Unlock()
	if evicted != nil {
		_ = evicted.Conn.Close()
	}
	return c
}

// idlest is the connection without a request that has been silent the longest.
func (l *listener) idlest(ok func(*conn) bool) *conn {
	var found *conn
	for c := range l.conns {
		if ok(c) && c.serving.Load() == 0 && (found == nil || c.touched.Load() < found.touched.Load()) {
			found = c
		}
	}
	return found
}

// crowd is the address with the most connections.
func (l *listener) crowd() netip.Addr {
	var most netip.Addr
	for addr, n := range l.count {
		if n > l.count[most] {
			most = addr
		}
	}
	return most
}

func (l *listener) drop(c *conn) {
	if _, ok := l.conns[c]; !ok {
		return
	}
	delete(l.conns, c)
	if l.count[c.addr]--; l.count[c.addr] <= 0 {
		delete(l.count, c.addr)
	}
}

// conn is a client connection whose bytes have been looked at, or are read by
// somebody who looks closer still. One goroutine at a time reads.
type conn struct {
	net.Conn
	l       *listener
	addr    netip.Addr
	serving atomic.Int32             // requests that the handler has
	touched atomic.Int64             // last byte read, Unix ns
	tls     atomic.Pointer[tls.Conn] // nil unless the client speaks TLS

	// of the goroutine that reads
	source  io.Reader // nil before the first read
	trusted bool      // who reads it is strict itself
	strict  strict
	told    bool
}

// Trust is called by a reader that acts on nothing but what no two
// implementations of HTTP read differently: it is not looked at as well. It
// comes before the first read.
func (c *conn) Trust() { c.trusted = true }

// Unread ends the trust and gives back what was read and not acted on, from the
// start of a message on: the next reader gets it, looked at. The conn keeps p.
func (c *conn) Unread(p []byte) {
	c.trusted = false
	if len(p) > 0 {
		c.source = io.MultiReader(bytes.NewReader(p), c.source)
	}
}

// poison makes net/http refuse whatever head or chunk it stands in, wherever in
// a line that is, with its own 400 and an end of the connection. So the answer
// comes in its turn, behind those to earlier requests.
const poison = "\x00\r\n\r\n"

// Read implements net.Conn.
func (c *conn) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if c.source == nil {
		if err := c.begin(); err != nil {
			return 0, err
		}
	}
	if c.strict.broken != nil {
		return c.refuse(p)
	}
	n, err := c.source.Read(p)
	if n > 0 {
		c.touched.Store(time.Now().UnixNano())
	}
	if c.trusted {
		return n, err
	}
	good, bad := c.strict.feed(p[:n])
	if bad == nil {
		return n, err
	}
	if good > 0 {
		return good, nil
	}
	return c.refuse(p)
}

func (c *conn) refuse(p []byte) (int, error) {
	if !c.told && len(p) >= len(poison) {
		c.told = true
		return copy(p, poison), nil
	}
	if !c.told { // net/http waits with one byte for the client to leave
		return 0, errFraming
	}
	return 0, io.EOF
}

// Write implements net.Conn.
func (c *conn) Write(p []byte) (int, error) {
	if t := c.tls.Load(); t != nil {
		return t.Write(p)
	}
	return c.Conn.Write(p)
}

// CloseWrite ends what is sent: a client that is still sending sees its answer
// before the connection is reset.
func (c *conn) CloseWrite() error {
	if t := c.tls.Load(); t != nil {
		return t.CloseWrite()
	}
	return closeWrite(c.Conn)
}

// Close implements net.Conn.
func (c *conn) Close() error {
	c.l.mu.Lock()
	c.l.drop(c)
	c.l.mu.Unlock()
	if t := c.tls.Load(); t != nil {
		return t.Close()
	}
	return c.Conn.Close()
}

// errPlain ends a plain connection from the network to a port that speaks TLS.
var errPlain = errors.New("guard: plain http on a tls port")

const plainAnswer = "HTTP/1.1 400 Bad Request\r\nConnection: close\r\n" +
	"Content-Type: application/json\r\nContent-Length: 54\r\n\r\n" +
	`{"error":"this port speaks https: ask it by https://"}`

// begin finds out what the client speaks by its first byte. Where the port has
// a certificate, programs on this machine may still speak plain HTTP: the
// ollama command knows no other way, and nothing leaves the machine.
func (c *conn) begin() error {
	if c.l.tls == nil {
		c.source = c.Conn
		return nil
	}
	var first [1]byte
	if _, err := io.ReadFull(c.Conn, first[:]); err != nil {
		return err
	}
	back := &pushback{Conn: c.Conn, first: first[:]}
	const handshake = 0x16 // TLS record type, RFC 8446 section 5.1
	switch {
	case first[0] == handshake:
		t := tls.Server(back, c.l.tls)
		c.tls.Store(t)
		c.source = t
	case c.addr.IsLoopback():
		c.source = back
	default:
		_ = c.Conn.SetWriteDeadline(time.Now().Add(time.Second))
		_, _ = io.WriteString(c.Conn, plainAnswer)
		return errPlain
	}
	return nil
}

// pushback gives back the byte that was read to find out what a client speaks.
type pushback struct {
	net.Conn
	first []byte
}

func (p *pushback) Read(b []byte) (int, error) {
	if len(p.first) > 0 && len(b) > 0 {
		n := copy(b, p.first)
		p.first = p.first[n:]
		return n, nil
	}
	return p.Conn.Read(b)
}

type connKey struct{}

// ConnContext is for the http.Server that serves the guard's listener: by it
// the guard knows which connections carry requests.
func (g *Guard) ConnContext(ctx context.Context, c net.Conn) context.Context {
	if c, ok := c.(*conn); ok {
		return context.WithValue(ctx, connKey{}, c)
	}
	return ctx
}

// connOf is the connection of a request; nil: it is none of ours.
func connOf(req *http.Request) *conn {
	c, _ := req.Context().Value(connKey{}).(*conn)
	return c
}

// served ends the use of a connection by a request.
func (c *conn) served() {
	c.touched.Store(time.Now().UnixNano())
	c.serving.Add(-1)
}
