package lane

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// maxHead bounds the head of an answer, bytes.
const maxHead = 256 << 10

// conn is one connection of a Transport, used by one request at a time.
type conn struct {
	net.Conn
	bare   net.Conn        // below TLS: what is cut, and looked at
	told   readier         // the same; nil: it cannot say when there is something
	sys    syscall.RawConn // of bare; nil: it cannot be looked at
	look   func(fd uintptr) bool
	quiet  bool   // what look found
	buf    []byte // what was read, from
	from   int
	filled bool // the last read took all room there was
	out    []byte
	host   string
	once   sync.Once
	t      *Transport
	since  time.Time // that it is idle
}

func newConn(t *Transport, raw net.Conn, host string) *conn {
	raw = Socket(raw)
	c := &conn{Conn: raw, bare: bare(raw), host: host, t: t}
	c.told, _ = c.bare.(readier)
	if s, ok := c.bare.(syscall.Conn); ok {
		if sys, err := s.SyscallConn(); err == nil {
			c.sys = sys
		}
	}
	return c
}

// usable reports whether a kept connection can carry another request.
func (c *conn) usable() bool {
	if s, ok := c.bare.(*strand); ok {
		return s.stands()
	}
	return c.stands()
}

// bare is the connection below TLS.
func bare(c net.Conn) net.Conn {
	if t, ok := c.(interface{ NetConn() net.Conn }); ok {
		return t.NetConn()
	}
	return c
}

// pending is how many bytes were read and not taken.
func (c *conn) pending() int { return len(c.buf) - c.from }

// mostRead is how large the buffer of a connection becomes over which more
// comes than it holds, bytes.
const mostRead = 32 << 10

// fill reads what there is, and waits for it.
func (c *conn) fill() error {
	if c.from > 0 {
		c.buf = append(c.buf[:0], c.buf[c.from:]...)
		c.from = 0
	}
	if cap(c.buf)-len(c.buf) < 512 || c.filled && cap(c.buf) < mostRead {
		grown := make([]byte, len(c.buf), max(2<<10, 2*cap(c.buf)))
		copy(grown, c.buf)
		c.buf = grown
	}
	n, err := c.Conn.Read(c.buf[len(c.buf):cap(c.buf)])
	c.buf = c.buf[:len(c.buf)+n]
	c.filled = len(c.buf) == cap(c.buf)
	if n > 0 {
		return nil
	}
	if err == nil {
		err = io.ErrNoProgress
	}
	return err
}

// cut ends the connection at once, from any goroutine: TLS's own Close would
// wait for a write that hangs.
func (c *conn) cut() {
	c.once.Do(func() {
		_ = c.bare.Close()
		c.t.leave(c.host)
	})
}

// withBody is how much of a body goes out in the same write as its head.
const withBody = 32 << 10

// send writes the request.
func (c *conn) send(req *http.Request) error {
	b, target := c.out[:0], target(req.URL)
	b = append(append(b, orGet(req.Method)...), ' ')
	b = append(b, target...)
	b = append(b, " HTTP/1.1\r\nHost: "...)
	host := req.Host
	if host == "" {
		host = req.URL.Host
	}
	b = append(b, host...)
	b = append(b, "\r\n"...)
	b = append(b, c.t.Always...)
	chunked := false
	switch n := length(req); {
	case n > 0 || n == 0 && req.Method != http.MethodGet && req.Method != http.MethodHead:
		b = append(b, "Content-Length: "...)
		b = strconv.AppendInt(b, n, 10)
		b = append(b, "\r\n"...)
	case n < 0:
		chunked = true
		b = append(b, "Transfer-Encoding: chunked\r\n"...)
	}
	b, err := appendHeader(b, req.Header)
	if err != nil {
		return err
	}
	b = append(b, "\r\n"...)
	if strings.ContainsAny(host, "\r\n ") || strings.ContainsAny(target, "\r\n ") {
		return fmt.Errorf("lane: a space in the request line or in %q", host)
	}
	n := length(req)
	if n > 0 && n <= withBody {
		at := len(b)
		b = append(b, make([]byte, n)...)
		if _, err := io.ReadFull(req.Body, b[at:]); err != nil {
			return fmt.Errorf("lane: read the request's body: %w", err)
		}
		n = 0
	}
	c.out = b[:0]
	if cap(b) > 2*withBody {
		c.out = nil
	}
	if m, err := c.Write(b); err != nil {
		if m == 0 {
			return errors.Join(errUnsent, err)
		}
		return err
	}
	switch {
	case chunked:
		return c.chunks(req.Body)
	case n > 0:
		if m, err := io.Copy(c.Conn, io.LimitReader(req.Body, n)); err != nil || m < n {
			return errors.Join(io.ErrUnexpectedEOF, err)
		}
	}
	return nil
}

// target is what a request line asks for.
func target(u *url.URL) string {
	if u.Opaque == "" && u.RawPath == "" && u.RawQuery == "" && !u.ForceQuery && plainPath(u.Path) {
		return u.Path
	}
	return u.RequestURI()
}

func orGet(method string) string {
	if method == "" {
		return http.MethodGet
	}
	return method
}

// length is the length of the request's body, -1 unknown.
func length(req *http.Request) int64 {
	switch {
	case req.Body == nil || req.Body == http.NoBody:
		return 0
	case req.ContentLength == 0:
		return -1
	}
	return req.ContentLength
}

// chunks sends a body whose length is not known (RFC 9112 section 7.1).
func (c *conn) chunks(r io.Reader) error {
	buf := make([]byte, 32<<10)
	for {
		n, err := r.Read(buf)
		if n > 0 {
			b := strconv.AppendInt(c.out[:0], int64(n), 16)
			b = append(append(append(b, "\r\n"...), buf[:n]...), "\r\n"...)
			if _, werr := c.Write(b); werr != nil {
				return werr
			}
		}
		if err == io.EOF { //nolint:errorlint // io.Reader's contract is the bare value
			_, err = io.WriteString(c.Conn, "0\r\n\r\n")
			return err
		}
		if err != nil {
			return err
		}
	}
}

// appendHeader writes header fields, but those that frame the message. A line
// break in one would be another one: it is an error.
func appendHeader(b []byte, h http.Header) ([]byte, error) {
	for name, values := range h {
		switch name {
		case "Content-Length", "Transfer-Encoding", "Connection", "Host", "Trailer":
			continue
		}
		if !token(name) {
			return nil, fmt.Errorf("lane: %q is no header name", name)
		}
		for _, v := range values {
			if strings.ContainsAny(v, "\r\n\x00") {
				return nil, fmt.Errorf("lane: a line break in header %s", name)
			}
			b = append(b, name...)
			b = append(b, ": "...)
			b = append(b, v...)
			b = append(b, "\r\n"...)
		}
	}
	return b, nil
}

// token reports whether s is a header name (RFC 9110 section 5.6.2).
func token[T string | []byte](s T) bool {
	for i := range len(s) {
		if !tokens[s[i]] {
			return false
		}
	}
	return len(s) > 0
}

var tokens = func() (t [256]bool) {
	for _, c := range "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ" {
		t[c] = true
	}
	return t
}()
