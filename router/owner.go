package router

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/backend"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/lane"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/wire"
)

// job is one request to run on the local Ollama.
type job struct {
	id, method, path string
	kind             wire.Kind
	stream           bool
	header           http.Header
	body             io.Reader
	length           int64
	work             backend.Work
	takeup           *takeup         // an answer to go on with, in place of a body
	waits            context.Context // if set, ends the wait at the gate, and nothing once it is let in
	admitted         func()          // if set, is called when the gate has let it in
	// cancel ends the context that the job is executed under.
	cancel context.CancelCauseFunc
	heirs  *heirs // of lives, while it waits for the answer's head
}

// takeUp makes the job one that goes on with t, under the headers that the
// first part was asked for with.
func (j *job) takeUp(t *takeup) {
	route := generateRoute()
	j.method, j.path, j.kind, j.stream = route.Method, route.Path, route.Kind, true
	j.header, j.takeup = j.header.Clone(), t
	j.header.Set("Content-Type", "application/json")
}

// errDown says that the local Ollama took no connection, or answers nothing at
// all: nothing was run, or nobody will ever see it.
var errDown = errors.New("router: local ollama is down")

// execute admits j at the gate and runs it on the local Ollama. It returns when
// the answer's head is there; ctx ends the work at any time.
//
// err != nil: nothing runs and nothing is held.
func (r *Router) execute(ctx context.Context, j *job) (*answer, error) {
	leave := func(backend.Usage) {}
	if j.kind.Inference() {
		waits, err := ctx, error(nil)
		if j.waits != nil {
			waits = j.waits
		}
		if leave, err = r.backend.Enter(waits, j.work); err != nil {
			return nil, err
		}
		if j.admitted != nil {
			j.admitted()
		}
	}
	closing := ""
	if j.takeup != nil {
		body, tag, err := r.prepare(ctx, j.takeup)
		if err != nil {
			leave(backend.Usage{})
			return nil, err
		}
		j.body, j.length, closing = bytes.NewReader(body), int64(len(body)), tag
	}
	req := newRequest(ctx, j.method, &url.URL{Path: j.path}, j.header, j.body, j.length)
	if j.kind.Inference() { // what changes models may have been done
		r.lives.enter(r.backend.Life(), j)
	}
	resp, err := r.backend.Do(req) //nolint:bodyclose // the meter closes it
	r.lives.leave(j)
	if err != nil {
		leave(backend.Usage{})
		frozen := errors.Is(context.Cause(ctx), backend.ErrFrozen)
		if (frozen || ctx.Err() == nil) && j.kind.Inference() {
			r.judge(false)
		}
		if frozen || errors.Is(err, backend.ErrUnreached) && ctx.Err() == nil {
			r.backend.Poke()
			return nil, fmt.Errorf("%w: %w", errDown, err)
		}
		return nil, err
	}
	if resp.StatusCode == http.StatusNotFound || resp.StatusCode >= http.StatusInternalServerError {
		r.backend.Poke() // the catalog may be older than a delete
	}
	if closing != "" {
		resp.Header.Set(headerClosing, closing)
	}
	if resp.StatusCode >= http.StatusInternalServerError && resp.StatusCode != http.StatusServiceUnavailable && j.kind.Inference() {
		r.judge(false)
	}
	m := newMeter(ctx, r, j, resp, leave)
	return &answer{status: resp.StatusCode, header: resp.Header, body: m, meter: m}, nil
}

// newRequest is [http.NewRequestWithContext] for a URL that need not be parsed
// and a body of known length. The body is not closed.
func newRequest(ctx context.Context, method string, u *url.URL, header http.Header, body io.Reader, length int64) *http.Request {
	proto := http.Request{
		Method: method, URL: u, Host: u.Host, Header: header, ContentLength: length, Body: http.NoBody,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
	}
	if text, ok := body.(*bytes.Reader); ok && length > 0 {
		proto.Body = &payload{*text}
		proto.GetBody = func() (io.ReadCloser, error) { return &payload{*text}, nil }
	} else if length != 0 {
		proto.Body = io.NopCloser(body)
	}
	return proto.WithContext(ctx)
}

// payload is a body in memory.
type payload struct{ bytes.Reader }

func (*payload) Close() error { return nil }

// refusal reads why the local gate (or a dead Ollama) refused a job.
func refusal(err error) (reason string, retry time.Duration, ok bool) {
	switch {
	case errors.Is(err, errDown):
		return RefusedDown, 0, true
	case errors.Is(err, errCannot):
		return RefusedCannot, 0, true
	case errors.Is(err, errFinished):
		return RefusedFinished, 0, true
	case errors.Is(err, ErrDraining):
		return RefusedDraining, 0, true
	case errors.Is(err, errMoved):
		return RefusedMoved, 0, true
	}
	var refused *backend.Refused
	if !errors.As(err, &refused) {
		return "", 0, false
	}
	switch {
	case errors.Is(err, backend.ErrLate):
		reason = RefusedLate
	case errors.Is(err, backend.ErrDraining):
		reason = RefusedDraining
	case errors.Is(err, backend.ErrDown):
		reason = RefusedDown
	case errors.Is(err, backend.ErrNoModel):
		reason = RefusedNoModel
	default:
		reason = RefusedSaturated
	}
	return reason, refused.RetryAfter, true
}

// Peer handles what other nodes forward to this one, on a listener that has
// verified them as members.
func (r *Router) Peer() http.Handler { return http.HandlerFunc(r.guardCloud) }

func (r *Router) servePeer(w http.ResponseWriter, req *http.Request) {
	if req.URL.Path == WithdrawPath && req.Method == http.MethodPost {
		r.serveWithdraw(w, req)
		return
	}
	path := strings.TrimPrefix(req.URL.Path, ForwardPath)
	route, _, ok := wire.Lookup(req.Method, path)
	var taken *takeup
	if req.Method == http.MethodPost && isTakeup(req.URL.Path) {
		var err error
		if taken, err = r.readTakeup(req.Body); err != nil {
			r.refuse(w, req, err)
			return
		}
		route, ok = generateRoute(), true
	}
	if !ok || !forwarded(route) {
		http.NotFound(w, req)
		return
	}
	// The owner's part in the request ends with ctx: when the ingress gives
	// up, this handler's context ends, and so does the work on the GPU.
	lease := r.lent.take(req.Context())
	defer lease.drop()
	ctx := lease.Context
	waits, ticket := r.tickets.take(ctx)
	defer ticket.drop()
	life := r.watchOver(w)
	defer life.end()
	h := req.Header
	j := &job{
		id: wire.Field(h, headerRequestID), method: route.Method, path: route.Path, kind: route.Kind,
		header: callerHeaders(h), body: req.Body, length: req.ContentLength,
		work: backend.Work{
			ID: wire.Field(h, headerRequestID), Key: wire.Field(h, headerKey),
			PromptTokens: headerInt(h, headerPrompt), OutputTokens: headerInt(h, headerOutput),
			Context: headerInt(h, headerContext), Client: wire.Field(h, headerClient),
			Batch: wire.Field(h, headerClass) == "batch", Promise: -1,
			Notify: func(position int, start time.Duration) {
				life.show(sign{phase: "queued", position: position, start: start, ticket: ticket.called()})
			},
		},
		waits: waits,
		// What is let in has no place in the queue any more.
		admitted: func() {
			ticket.drop()
			life.admitted()
		},
		cancel: lease.end,
	}
	if taken == nil && j.length > 0 && j.length <= readAhead {
		// Only with the body read does an HTTP/1.1 server notice that the
		// ingress leaves while the request waits.
		body, err := readExactly(req.Body, j.length)
		if err != nil {
			return // the ingress has left
		}
		j.body = bytes.NewReader(body)
	}
	if wire.Field(h, headerPromise) != "" {
		j.work.Promise = time.Duration(headerInt(h, headerPromise)) * time.Millisecond
		j.work.Slow = float64(headerInt(h, headerSlow)) / 1000
	}
	if taken != nil {
		j.takeUp(taken)
	}
	status, became := 0, OutcomeClientGone // its client is the ingress
	ended := r.owned(j, h)
	defer func() { ended(status, became) }()
	a, err := r.execute(ctx, j)
	if err != nil && errors.Is(context.Cause(ctx), ErrDraining) {
		err = ErrDraining
	}
	life.end()
	if err != nil {
		status, became = http.StatusTooManyRequests, OutcomeBusy
		r.refuse(w, req, err)
		return
	}
	defer a.Close()
	status, became = a.status, OutcomeCut
	became = r.answerPeer(ctx, w, a)
}

// inOnePiece is the largest unstreamed answer that is sent as a whole, bytes.
const inOnePiece = 64 << 10

// readAhead is the largest body that an owner reads before it admits the
// request, bytes. Larger ones come over HTTP/2, which holds them back.
const readAhead = 256 << 10

func readExactly(r io.Reader, n int64) ([]byte, error) {
	b := make([]byte, n)
	_, err := io.ReadFull(r, b)
	return b, err
}

// refuse answers a forward that was not run.
func (r *Router) refuse(w http.ResponseWriter, req *http.Request, err error) {
	if req.Context().Err() != nil {
		return // the ingress has left
	}
	reason, retry, ok := refusal(err)
	writeLoad(w.Header(), r.backend.Load())
	if !ok {
		// The connection to Ollama broke before an answer: it may have run.
		r.log.Warn("ollama broke off before answering", "request", wire.Field(req.Header, headerRequestID), "err", err)
		w.WriteHeader(http.StatusBadGateway)
		return
	}
	w.Header().Set(headerRefused, reason)
	if retry > 0 {
		w.Header().Set(headerStart, strconv.FormatInt(retry.Milliseconds(), 10))
	}
	w.WriteHeader(http.StatusTooManyRequests)
}

// answerPeer streams an answer to the ingress, each piece flushed as it comes.
// A broken answer breaks the stream: it never ends cleanly. One that is handed
// over ends with a trailer that says so, and lacks its dialect's end mark. It
// returns what the ingress has got.
func (r *Router) answerPeer(ctx context.Context, w http.ResponseWriter, a *answer) Outcome {
	h := w.Header()
	answerHeaders(h, a.header)
	if tag := wire.Field(a.header, headerClosing); tag != "" {
		h.Set(headerClosing, tag)
	}
	if n := wire.Field(a.header, "Content-Length"); n != "" {
		h.Set("Content-Length", n)
	}
	if n, err := strconv.Atoi(wire.Field(a.header, "Content-Length")); err == nil && n <= inOnePiece && !streamed(a.header) {
		// Counted out before the report, which thus comes once and at the front.
		body, err := readExactly(a.body, int64(n))
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		a.Close()
		r.report.write(h, r.backend)
		w.WriteHeader(a.status)
		if _, err := w.Write(body); err != nil {
			return OutcomeClientGone
		}
		return outcomeOf(a.status)
	}
	r.report.write(h, r.backend)
	w.WriteHeader(a.status)
	out := http.NewResponseController(w)
	if err := out.Flush(); err != nil {
		return OutcomeClientGone
	}
	var became Outcome
	var broken error
	lane.Flow(a.body, func(p []byte, err error) bool {
		if len(p) > 0 {
			_, werr := w.Write(p)
			if werr == nil {
				werr = out.Flush()
			}
			if werr != nil {
				became = OutcomeClientGone
				return false
			}
		}
		broken = err
		return err == nil
	})
	switch {
	case became != "":
		return became
	case broken == io.EOF: //nolint:errorlint // io.Reader's contract is the bare value
		a.Close() // counts the request out before the report is written
		if text := r.report.now(r.backend); text != "" {
			h.Set(http.TrailerPrefix+headerLoad, text)
		}
		return outcomeOf(a.status)
	case streamed(a.header) && errors.Is(context.Cause(ctx), ErrDraining):
		h.Set(http.TrailerPrefix+headerRefused, RefusedDraining)
		return OutcomeCut
	}
	panic(http.ErrAbortHandler)
}

// judge books how the local Ollama did. A node says in its reports that it is
// in trouble, so that not every other has to find it out by a request of its
// own; and it speaks for nobody else.
func (r *Router) judge(ok bool) {
	self := r.mesh.View().Self()
	switch {
	case self == nil:
	case ok:
		r.ledger.Worked(self.ID)
	default:
		r.ledger.Failed(self.ID, time.Now())
	}
}

// Trouble is for how long the failures of this node's own Ollama still speak
// against it.
func (r *Router) Trouble() time.Duration {
	v := r.mesh.View()
	self := v.Self()
	if self == nil {
		return 0
	}
	return r.ledger.Troubles(v, time.Now())[self.ID]
}
