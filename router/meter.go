package router

import (
	"context"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/backend"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/lane"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/wire"
)

// wholeLimit bounds what is kept of an unstreamed answer to read its usage;
// a longer one goes by uncounted.
const wholeLimit = 4 << 20

// meter reads Ollama's own figures off an answer as it flows by, untouched,
// and leaves the gate when it ends.
type meter struct {
	resp  *http.Response
	job   *job
	leave func(backend.Usage)
	local Backend

	scanner *wire.Scanner // nil: not streamed
	tail    *wire.Tail
	leader  bool // who reads it reads its frames, too; see follow
	whole   []byte
	chunks  int
	started time.Time
	once    sync.Once
	usage   wire.Usage // after the end

	ctx    context.Context //nolint:containedctx // of the job
	router *Router
}

func newMeter(ctx context.Context, r *Router, j *job, resp *http.Response, leave func(backend.Usage)) *meter {
	m := &meter{resp: resp, job: j, leave: leave, local: r.backend, started: time.Now(), ctx: ctx, router: r}
	if streamed(resp.Header) {
		m.scanner, m.tail = wire.NewScanner(j.kind.Framing(), 0), wire.NewTail(j.kind)
	}
	return m
}

func (m *meter) Read(p []byte) (int, error) {
	n, err := m.resp.Body.Read(p)
	m.saw(p[:n], err)
	return n, err
}

// Flow implements [lane.Flower].
func (m *meter) Flow(take func(p []byte, err error) (more bool)) {
	lane.Flow(m.resp.Body, func(p []byte, err error) bool {
		m.saw(p, err)
		return take(p, err)
	})
}

// saw reads the figures off what has come.
func (m *meter) saw(p []byte, err error) {
	switch {
	case m.leader:
		return // who reads it tells us
	case len(p) == 0 || !m.job.kind.Inference():
	case m.scanner != nil:
		m.look(p)
	case len(m.whole) == 0 && err == io.EOF: //nolint:errorlint // io.Reader's contract is the bare value
		m.usage, _ = wire.BodyUsage(m.job.kind, p) // all of it is here
	case len(m.whole)+len(p) <= wholeLimit:
		m.whole = append(m.whole, p...)
	}
	if err == io.EOF { //nolint:errorlint // as above
		m.verdict(m.tail == nil || m.tail.Ended() || m.tail.Runaway())
		m.end()
	} else if err != nil {
		m.verdict(false)
	}
}

// verdict books whether Ollama did its work; not when others ended it, and an
// error of the request's own says nothing about the node.
func (m *meter) verdict(ok bool) {
	if m.ctx.Err() == nil && m.resp.StatusCode < http.StatusBadRequest && m.job.kind.Inference() {
		m.router.judge(ok)
	}
}

func (m *meter) look(p []byte) {
	m.scanner.Lend(p)
	for {
		frame, ok := m.scanner.Next()
		if !ok {
			break
		}
		m.tail.Add(frame.Inspect(m.job.kind))
	}
	m.progress()
}

// progress tells the gate how far the answer is: of its first piece, and then
// now and then. How much of an answer is left is known within tokens at best.
func (m *meter) progress() {
	const step = 8
	if n := m.tail.Chunks(); n > 0 && m.chunks == 0 || n >= m.chunks+step {
		m.chunks = n
		m.local.Progress(m.job.id, n)
	}
}

// follow makes the meter take its figures from tail, which who reads the answer
// brings up to date with every read, and then calls followed: frames are read
// once.
func (m *meter) follow(tail *wire.Tail) { m.tail, m.leader = tail, true }

// followed notes what the last read brought, and the error that it ended with.
func (m *meter) followed(err error) {
	m.progress()
	switch {
	case err == io.EOF: //nolint:errorlint // io.Reader's contract is the bare value
		m.verdict(m.tail.Ended() || m.tail.Runaway())
		m.end()
	case err != nil:
		m.verdict(false)
	}
}

// end leaves the gate, once.
func (m *meter) end() {
	m.once.Do(func() {
		switch {
		case m.tail != nil:
			m.usage = m.tail.Usage()
			if m.usage.OutputTokens == 0 {
				m.usage.OutputTokens = m.tail.Chunks() // OpenAI's streams tell only when asked
			}
		case len(m.whole) > 0:
			m.usage, _ = wire.BodyUsage(m.job.kind, m.whole)
		}
		m.leave(backend.Usage{Usage: m.usage, Took: time.Since(m.started)})
	})
}

// Close ends the answer early or late; Ollama's work stops with it.
func (m *meter) Close() {
	_ = m.resp.Body.Close()
	m.end()
}

// streamed tells an answer in frames from one in a piece, by what it says of
// itself rather than by what was asked for.
func streamed(h http.Header) bool {
	switch mediaType(wire.Field(h, "Content-Type")) {
	case "application/x-ndjson", "text/event-stream":
		return true
	}
	return false
}

func mediaType(contentType string) string {
	for i, c := range []byte(contentType) {
		if c == ';' || c == ' ' {
			return contentType[:i]
		}
	}
	return contentType
}
