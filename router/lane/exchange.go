package lane

import (
	"context"
	"net/http"
	"net/url"
	"time"
)

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
