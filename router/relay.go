package router

import (
	"errors"
	"io"
	"net/http"
	"slices"
	"strconv"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/wire"
)

// relay writes one request's answer to its client: whole frames only, each
// flushed as it comes, so that what the client has is always known.
type relay struct {
	w *trip
	f *flight
	r *Router

	committed bool // the client has headers
}

// copy relays a to the client. nil: the answer is complete, or the client has
// left.
func (o *relay) copy(a *answer) *AttemptError {
	if streamed(a.header) {
		return o.copyFrames(a)
	}
	if o.committed { // a stream cannot go on with an answer in one piece
		return o.broken(a, PhaseHeader, ErrStatus)
	}
	return o.copyWhole(a)
}

// copyWhole relays an unstreamed answer. Nothing reaches the client before all
// of it is there, so a node that dies inside it costs a retry, not an answer.
func (o *relay) copyWhole(a *answer) *AttemptError {
	buf := bufferPool.Get().(*[]byte)
	defer bufferPool.Put(buf)
	body, err := readWhole(a, *buf)
	if err != nil {
		return o.broken(a, PhaseHeader, err)
	}
	if len(body) == 0 && o.f.route.Kind.Inference() {
		return o.broken(a, PhaseHeader, ErrCut) // no Ollama says nothing
	}
	o.commit(a)
	switch {
	case a.meter != nil:
		o.f.trip.used(a.meter.usage, 0)
	case len(body) <= wholeLimit:
		usage, _ := wire.BodyUsage(o.f.route.Kind, body)
		o.f.trip.used(usage, 0)
	}
	if int64(len(body)) <= maxWhole {
		o.w.Header()["Content-Length"] = o.f.trip.value(strconv.Itoa(len(body)))
	}
	o.w.WriteHeader(a.status)
	if _, err := o.w.Write(body); err != nil {
		return nil // the client has left; its context stops the owner
	}
	if int64(len(body)) <= maxWhole {
		return nil
	}
	if _, err := io.Copy(o.w, a.body); err != nil {
		panic(http.ErrAbortHandler)
	}
	return nil
}

// readWhole reads a body of at most maxWhole bytes; of a longer one it reads one
// more. A small one lies in buf.
func readWhole(a *answer, buf []byte) ([]byte, error) {
	n := 0
	for n < len(buf) {
		m, err := a.body.Read(buf[n:])
		n += m
		if err == io.EOF {
			return buf[:n], nil
		}
		if err != nil {
			return nil, err
		}
	}
	more, err := io.ReadAll(io.LimitReader(a.body, maxWhole+1-int64(n)))
	return slices.Concat(buf, more), err
}

// maxWhole bounds how much of an unstreamed answer waits in memory for its
// end; what is longer flows through.
const maxWhole = 32 << 20

// errorFrame handles an error that the owner's Ollama wrote into its stream.
func (o *relay) errorFrame(a *answer, frame []byte) *AttemptError {
	e := o.broken(a, o.phase(), ErrStatus)
	e.Status, e.Header, e.Body = a.status, a.header, append([]byte(nil), frame...)
	return e
}

// write sends whole frames to the client.
func (o *relay) write(a *answer, frames []byte) error {
	if len(frames) == 0 {
		return nil
	}
	if !o.committed {
		o.commit(a)
		o.w.WriteHeader(a.status)
	}
	return o.send(frames)
}

// send writes frames of this node's own to a client that has headers.
func (o *relay) send(frames []byte) error {
	if _, err := o.w.Write(frames); err != nil {
		return err
	}
	return o.w.FlushError()
}

// commit writes the headers that say who answers; from here on the answer is
// this one.
func (o *relay) commit(a *answer) {
	o.committed = true
	h := o.w.Header()
	answerHeaders(h, a.header)
	o.mark(a.member.Name)
	o.r.began(h, o.f)
}

func (o *relay) mark(node string) {
	h := o.w.Header()
	h[headerNode] = o.f.trip.value(node)
	h[headerAttempts] = o.f.trip.value(strconv.Itoa(o.f.attempts))
	if o.f.restarted {
		h.Set(headerContinued, Restart.String())
	}
}

func (o *relay) phase() Phase {
	if o.committed {
		return PhaseStream
	}
	return PhaseHeader
}

func (o *relay) broken(a *answer, phase Phase, err error) *AttemptError {
	return &AttemptError{Node: a.member.ID, Name: a.member.Name, Phase: phase, Err: err}
}

// whole relays an owner's error answer as it came. Ollama does not say when to
// come back; a full queue is soon shorter.
func (o *relay) whole(e *AttemptError) {
	h := o.w.Header()
	answerHeaders(h, e.Header)
	if e.Status == http.StatusServiceUnavailable && h.Get("Retry-After") == "" {
		h.Set("Retry-After", strconv.Itoa(int(retrySoon.Seconds())))
	}
	o.mark(e.Name)
	o.w.WriteHeader(e.Status)
	_, _ = o.w.Write(e.Body)
}

// fail ends the answer with an error in the caller's dialect. After the first
// byte it is an error frame and a connection that does not end cleanly.
func (o *relay) fail(e *wire.Error) {
	if !o.committed {
		o.w.Header().Set(headerAttempts, strconv.Itoa(o.f.attempts))
		writeError(o.w, o.f.route.Kind.Dialect(), e)
		return
	}
	_, err := o.w.Write(e.Frame(o.f.route.Kind))
	if err == nil {
		err = o.w.FlushError()
	}
	if err != nil && !errors.Is(err, http.ErrNotSupported) {
		return
	}
	panic(http.ErrAbortHandler)
}
