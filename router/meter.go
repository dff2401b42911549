package router

import (
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/backend"
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
	whole   []byte
	chunks  int
	started time.Time
	once    sync.Once
	verdict func(ok bool) // is told at the end whether Ollama did its work; not when others ended it
}

func newMeter(j *job, resp *http.Response, leave func(backend.Usage), local Backend, verdict func(ok bool)) *meter {
	m := &meter{resp: resp, job: j, leave: leave, local: local, started: time.Now(), verdict: verdict}
	if streamed(resp.Header) {
		m.scanner, m.tail = wire.NewScanner(j.kind.Framing(), 0), wire.NewTail(j.kind)
	}
	return m
}

func (m *meter) Read(p []byte) (int, error) {
	n, err := m.resp.Body.Read(p)
	if n > 0 && m.job.kind.Inference() {
		m.look(p[:n])
	}
	if err == io.EOF {
		m.verdict(m.tail == nil || m.tail.Ended() || m.tail.Runaway())
		m.end()
	} else if err != nil {
		m.verdict(false)
	}
	return n, err
}

func (m *meter) look(p []byte) {
	if m.scanner == nil {
		if len(m.whole)+len(p) <= wholeLimit {
			m.whole = append(m.whole, p...)
		}
		return
	}
	_, _ = m.scanner.Write(p) // never fails
	for {
		frame, ok := m.scanner.Next()
		if !ok {
			break
		}
		m.tail.Add(frame.Inspect(m.job.kind))
	}
	if n := m.tail.Chunks(); n > m.chunks {
		m.chunks = n
		m.local.Progress(m.job.id, n)
	}
}

// end leaves the gate, once.
func (m *meter) end() {
	m.once.Do(func() {
		var usage wire.Usage
		if m.tail != nil {
			usage = m.tail.Usage()
			if usage.OutputTokens == 0 {
				usage.OutputTokens = m.chunks // OpenAI's streams tell only when asked
			}
		} else {
			usage, _ = wire.BodyUsage(m.job.kind, m.whole)
		}
		m.leave(backend.Usage{Usage: usage, Took: time.Since(m.started)})
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
	switch mediaType(h.Get("Content-Type")) {
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
