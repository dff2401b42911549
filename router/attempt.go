package router

import (
	"bytes"
	"context"
	"errors"
	"io"
	"maps"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"net/url"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/backend"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/lane"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/wire"
)

// errorBodyLimit bounds what is kept of an owner's error answer.
const errorBodyLimit = 64 << 10

// attempt makes one try at one candidate and returns when the owner's answer
// begins. Until then it ends early when the client leaves, when the connection
// breaks, when the owner shows no life, or when the owner lets the request go
// that another node would start sooner. That membership gave the node up makes
// the patience shorter and no more: inference starves probers, and signs of
// life or a stream that flows are the better evidence.
//
// err != nil: the attempt holds nothing. Otherwise the caller closes answer.
func (r *Router) attempt(ctx context.Context, f *flight, c Candidate, promise time.Duration) (*answer, *AttemptError) {
	if c.Self {
		return r.attemptHere(ctx, f, c, promise)
	}
	return r.attemptPeer(ctx, f, c, promise)
}

func (r *Router) attemptPeer(client context.Context, f *flight, c Candidate, promise time.Duration) (*answer, *AttemptError) {
	ctx, cancel := context.WithCancelCause(client)
	var connected, queued, leaving, begun atomic.Bool
	life := newWatchdog(cancel, ErrSilent, dialLimit, func() {
		if begun.Load() && r.pulses.of(ctx, c.ID) != nil {
			cancel(ErrSilent)
		}
	})
	doubt := func() {
		if begun.Load() {
			life.allow(min(doubted, r.config.StreamIdle))
		} else {
			life.allow(doubtedSilence)
		}
	}
	believe := context.AfterFunc(c.Context(), doubt)
	var watch lookout
	defer watch.end()
	trace := &httptrace.ClientTrace{
		GotConn: func(httptrace.GotConnInfo) {
			connected.Store(true)
			life.allow(silence)
		},
		Got1xxResponse: func(_ int, h textproto.MIMEHeader) error {
			life.feed()
			s := readSign(http.Header(h))
			queued.Store(s.position > 0)
			r.mesh.Observe(c.ID, r.heard.news(c.ID, http.Header(h)))
			watch.do(func() {
				if s.ticket == "" || leaving.Load() || !r.soonerElsewhere(f, c, s.start) {
					return
				}
				leaving.Store(true)
				go func() { // ends with the attempt
					defer leaving.Store(false)
					r.withdraw(ctx, c.ID, s.ticket)
				}()
			})
			return nil
		},
	}
	fail := func(err error) *AttemptError {
		phase := PhaseDial
		if connected.Load() {
			phase = PhaseHeader
		}
		life.stop()
		believe()
		e := &AttemptError{Node: c.ID, Name: c.Name, Phase: phase, Err: cause(client, ctx, err), queued: queued.Load()}
		cancel(nil)
		return e
	}

	req := r.forwardRequest(httptrace.WithClientTrace(ctx, trace), f, c, promise)
	resp, err := r.peers.RoundTrip(req)
	if err != nil {
		return nil, fail(err)
	}
	if e := r.examine(c, resp); e != nil {
		_ = resp.Body.Close()
		believe()
		life.stop()
		cancel(nil)
		return nil, e
	}
	begun.Store(true)
	life.allow(r.config.StreamIdle)
	if c.Context().Err() != nil {
		doubt()
	}
	return &answer{
		member: c.Member, status: resp.StatusCode, header: resp.Header,
		body: &watchedReader{resp.Body, client, ctx, life},
		resp: resp, believe: believe, dog: life, cancel: cancel,
	}, nil
}

// lookout lets the transport's goroutine look at a flight while its own one
// waits for the answer, and never after: the transport may still be reading
// signs of life when the attempt has ended.
type lookout struct {
	mu   sync.Mutex
	over bool
}

func (l *lookout) do(look func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.over {
		look()
	}
}

func (l *lookout) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.over = true
}

// doubted is the longest silence inside an answer of a node that membership
// has given up: two to three times the slowest useful token, 2.8 a second for
// a 72B model on a desktop, with room for a pause.
const doubted = 10 * time.Second

// doubtedSilence is the patience with an owner that membership has given up:
// one sign of life and a half.
const doubtedSilence = signEvery * 3 / 2

// dialLimit bounds the dial phase; the transport's own dial timeout is
// shorter, this is the net below it.
const dialLimit = 5 * time.Second

func (r *Router) forwardRequest(ctx context.Context, f *flight, c Candidate, promise time.Duration) *http.Request {
	path, body := f.ask()
	h := make(http.Header, len(f.header)+9)
	maps.Copy(h, f.header) // values are not changed
	values := make([]string, 0, 9)
	set := func(name, value string) {
		values = append(values, value)
		h[name] = values[len(values)-1 : len(values) : len(values)]
	}
	set(headerRequestID, f.ID)
	set(headerKey, f.Key)
	set(headerPrompt, strconv.Itoa(f.PromptTokens))
	set(headerOutput, strconv.Itoa(f.OutputTokens))
	if f.Context > 0 {
		set(headerContext, strconv.Itoa(f.Context))
	}
	if promise >= 0 {
		set(headerPromise, strconv.FormatInt(promise.Milliseconds(), 10))
		set(headerSlow, strconv.Itoa(int(1000*c.Estimate.Slow)))
	}
	if f.Batch {
		set(headerClass, "batch")
	}
	set(headerClient, f.Client)
	if f.trip.try != nil {
		f.trip.try.Inject(h)
	}
	u := &url.URL{Scheme: "https", Host: string(c.ID), Path: path}
	return newRequest(ctx, http.MethodPost, u, h, bytes.NewReader(body), int64(len(body)))
}

// examine reads an owner's response head: nil when it is an answer to relay.
func (r *Router) examine(c Candidate, resp *http.Response) *AttemptError {
	r.mesh.Observe(c.ID, r.heard.news(c.ID, resp.Header))
	refusal := wire.Field(resp.Header, headerRefused)
	if refusal == "" && resp.StatusCode < 400 {
		return nil
	}
	e := &AttemptError{
		Node: c.ID, Name: c.Name, Phase: PhaseHeader, Err: ErrStatus,
		Status: resp.StatusCode, Header: resp.Header, Refusal: refusal,
		RetryAfter: time.Duration(headerInt(resp.Header, headerStart)) * time.Millisecond,
	}
	if refusal != "" {
		e.Err = ErrRefused
		return e
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, errorBodyLimit))
	if err != nil {
		e.Err = err
		return e
	}
	e.Body = body
	return e
}

// attemptHere serves the request from this node's own Ollama, without a hop.
func (r *Router) attemptHere(client context.Context, f *flight, c Candidate, promise time.Duration) (*answer, *AttemptError) {
	ctx, cancel := context.WithCancelCause(client)
	j := &job{
		id: f.ID, method: f.route.Method, path: f.route.Path, kind: f.route.Kind, stream: f.peek.Stream,
		header: f.trip.traced(f.header), body: bytes.NewReader(f.body), length: int64(len(f.body)),
		work: backend.Work{
			ID: f.ID, Key: f.Key, PromptTokens: f.PromptTokens, OutputTokens: f.OutputTokens,
			Context: f.Context, Client: f.Client, Batch: f.Batch, Promise: promise, Slow: c.Estimate.Slow,
			Notify: func(position int, start time.Duration) {
				if position > 0 && r.soonerElsewhere(f, c, start) {
					cancel(errMoved) // from inside Enter: it has not been let in
				}
			},
		},
		cancel: cancel,
	}
	if f.path == Exact {
		j.takeUp(f.takeup)
	}
	a, err := r.execute(ctx, j)
	if err != nil {
		e := &AttemptError{Node: c.ID, Name: c.Name, Phase: PhaseHeader, Err: cause(client, ctx, err)}
		if reason, wait, ok := refusal(err); ok && e.Err == err { //nolint:errorlint // is it the cause itself
			e.Err, e.Refusal, e.RetryAfter = ErrRefused, reason, wait
		}
		cancel(nil)
		return nil, e
	}
	if a.status >= 400 {
		e := &AttemptError{
			Node: c.ID, Name: c.Name, Phase: PhaseHeader, Err: ErrStatus,
			Status: a.status, Header: a.header,
		}
		e.Body, err = io.ReadAll(io.LimitReader(a.body, errorBodyLimit))
		if err != nil {
			e.Err = cause(client, ctx, err)
		}
		a.Close()
		cancel(nil)
		return nil, e
	}
	a.member, a.cancel = c.Member, cancel
	if lane.Here(a.meter.resp.Body) {
		return a, nil // nobody is waited for
	}
	a.dog = newWatchdog(cancel, ErrSilent, r.config.StreamIdle, nil)
	a.body = &watchedReader{a.body, client, ctx, a.dog}
	return a, nil
}

// cause says why something under ctx failed with err: the client's leaving
// first, then the cause that ctx was cancelled with, then err itself.
func cause(client, ctx context.Context, err error) error {
	if client.Err() != nil {
		if errors.Is(context.Cause(client), ErrStopping) {
			return ErrStopping
		}
		return ErrClientGone
	}
	if c := context.Cause(ctx); c != nil && !errors.Is(c, context.Canceled) && !errors.Is(c, backend.ErrFrozen) {
		return c
	}
	return err
}
