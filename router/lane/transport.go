package lane

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"sync"
	"time"
)

// Transport is a client of HTTP/1.1 servers. Connections are kept and used
// again, the last used first; none has a goroutine. Answers have no time limit
// beside the request's context. It adds no header but Host, Content-Length and
// Always, follows nothing and decompresses nothing.
type Transport struct {
	// Dial connects to the host of a request's URL, as it stands there.
	Dial func(ctx context.Context, host string) (net.Conn, error)
	// MaxIdle bounds the kept connections per host; default 512.
	MaxIdle int
	// MaxOpen bounds the connections per host; 0: it does not. Over it RoundTrip
	// returns ErrFull, with nothing done.
	MaxOpen int
	// Always is a header line that every request gets, with its line break; "":
	// none.
	Always string
	// IdleTimeout is how long one is kept; default 60 s.
	IdleTimeout time.Duration

	mu   sync.Mutex
	idle map[string][]*conn // the last used at the end
	open map[string]int
}

// ErrTooBig means that the head of an answer is longer than any honest one.
var ErrTooBig = errors.New("lane: the head of an answer is too long")

// ErrFull means that the host has as many connections as it may.
var ErrFull = errors.New("lane: all connections are in use")

// ErrDial means that there was no connection: nothing was sent.
var ErrDial = errors.New("lane: no connection")

type dialError struct{ error }

func (e *dialError) Unwrap() error        { return e.error }
func (e *dialError) Is(target error) bool { return target == ErrDial }

// RoundTrip implements http.RoundTripper. The request is sent again over a new
// connection only when a kept one turns out to be closed before it took any.
func (t *Transport) RoundTrip(req *http.Request) (*http.Response, error) {
	for {
		c, kept, err := t.conn(req.Context(), req.URL.Host)
		if err != nil {
			if !errors.Is(err, ErrFull) {
				closeBody(req)
			}
			return nil, err
		}
		trace := httptrace.ContextClientTrace(req.Context())
		if trace != nil && trace.GotConn != nil {
			trace.GotConn(httptrace.GotConnInfo{Conn: c.Conn, Reused: kept})
		}
		resp, err := t.exchange(c, req, trace)
		if err == nil {
			return resp, nil
		}
		if again := rewound(req); kept && again != nil && errors.Is(err, errUnsent) && req.Context().Err() == nil {
			req = again
			continue
		}
		return nil, err
	}
}

// errUnsent says that not a byte of the request could be written.
var errUnsent = errors.New("lane: the connection was closed")

// rewound is req with its body at the start again; nil when that cannot be.
func rewound(req *http.Request) *http.Request {
	if req.Body == nil || req.Body == http.NoBody {
		return req
	}
	if req.GetBody == nil {
		return nil
	}
	body, err := req.GetBody()
	if err != nil {
		return nil
	}
	again := *req
	again.Body = body
	return &again
}

func closeBody(req *http.Request) {
	if req.Body != nil {
		_ = req.Body.Close()
	}
}

// exchange sends req over c and reads the head of the answer.
func (t *Transport) exchange(c *conn, req *http.Request, trace *httptrace.ClientTrace) (*http.Response, error) {
	ctx := req.Context()
	stop := context.AfterFunc(ctx, c.cut)
	fail := func(err error) (*http.Response, error) {
		stop()
		c.cut()
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return nil, err
	}
	werr := c.send(req)
	closeBody(req)
	if errors.Is(werr, errUnsent) {
		return fail(werr)
	}
	// Also after a failed write: a server that does not want the body says so
	// and closes.
	for {
		x, err := c.answer(req)
		if err != nil {
			if werr != nil {
				err = werr
			}
			return fail(err)
		}
		if resp := &x.Response; resp.StatusCode >= http.StatusOK || resp.StatusCode == http.StatusSwitchingProtocols {
			x.begin(ctx, stop, werr == nil)
			return resp, nil
		} else if trace != nil && trace.Got1xxResponse != nil {
			if err := trace.Got1xxResponse(resp.StatusCode, textproto.MIMEHeader(resp.Header)); err != nil {
				return fail(err)
			}
		}
	}
}

// conn takes a kept connection that still stands, or makes one.
func (t *Transport) conn(ctx context.Context, host string) (c *conn, kept bool, err error) {
	if ctx.Err() != nil {
		return nil, false, context.Cause(ctx)
	}
	for {
		if c = t.take(host); c == nil {
			break
		}
		if c.usable() {
			return c, true, nil
		}
		c.cut()
	}
	if !t.enter(host) {
		return nil, false, ErrFull
	}
	raw, err := t.Dial(ctx, host)
	if err != nil {
		t.leave(host)
		return nil, false, &dialError{err}
	}
	return newConn(t, raw, host), false, nil
}

func (t *Transport) enter(host string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.MaxOpen > 0 && t.open[host] >= t.MaxOpen {
		return false
	}
	if t.open == nil {
		t.open = make(map[string]int)
	}
	t.open[host]++
	return true
}

func (t *Transport) leave(host string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.open[host]--; t.open[host] <= 0 {
		delete(t.open, host)
	}
}

func (t *Transport) take(host string) *conn {
	t.mu.Lock()
	defer t.mu.Unlock()
	list := t.idle[host]
	if len(list) == 0 {
		return nil
	}
	c := list[len(list)-1]
	list[len(list)-1] = nil
	t.idle[host] = list[:len(list)-1]
	if time.Since(c.since) > t.idleTimeout() {
		old := t.idle[host] // older still
		delete(t.idle, host)
		go cutAll(old)
	}
	return c // stands decides
}

func (t *Transport) put(c *conn) {
	c.since = time.Now()
	if cap(c.buf) > 4<<10 {
		c.buf, c.from, c.filled = nil, 0, false // an idle connection holds little
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.idle == nil {
		t.idle = make(map[string][]*conn)
	}
	list := t.idle[c.host]
	// A burst may have left more than the traffic of now needs.
	if len(list) > 0 && (len(list) >= t.maxIdle() || c.since.Sub(list[0].since) > t.idleTimeout()) {
		go list[0].cut()
		list = append(list[:0:0], list[1:]...)
	}
	t.idle[c.host] = append(list, c)
}

func (t *Transport) maxIdle() int {
	if t.MaxIdle > 0 {
		return t.MaxIdle
	}
	return 512
}

func (t *Transport) idleTimeout() time.Duration {
	if t.IdleTimeout > 0 {
		return t.IdleTimeout
	}
	return time.Minute
}

// CloseIdleConnections closes the connections that carry nothing.
func (t *Transport) CloseIdleConnections() {
	t.mu.Lock()
	idle := t.idle
	t.idle = nil
	t.mu.Unlock()
	for _, list := range idle {
		cutAll(list)
	}
}

func cutAll(list []*conn) {
	for _, c := range list {
		c.cut()
	}
}
