package router

import (
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/wire"
)

// trip watches one client request from its first byte to its last. It is the
// ResponseWriter that the request is answered through, so it sees what the
// client sees; the request path tells it the rest. Only the goroutine that
// serves the request changes it; others look through record.
type trip struct {
	http.ResponseWriter
	journal *journal

	mu       sync.Mutex // guards rec against those who look
	rec      Record
	request  Request
	snapshot Snapshot // that the first choice was made from
	began    time.Time
	lost     bool       // a write failed: the client has left
	usage    wire.Usage // of the last answer, or part of one

	span, try Span // of the request and of its running try; nil: nobody follows

	pieces atomic.Int64 // of text that the client has, while the answer streams

	values [6]string // of header fields
	valued int
	first  [1]Attempt // where most requests have their only one
}

// value is a header field's value, for a name in canonical form. It is what
// [http.Header.Set] makes of a text, without an allocation of its own.
func (t *trip) value(text string) []string {
	if t.valued == len(t.values) {
		return []string{text}
	}
	t.values[t.valued] = text
	t.valued++
	return t.values[t.valued-1 : t.valued : t.valued]
}

// named notes the id of a request; one without is not kept.
func (t *trip) named(id string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.rec.ID = id
}

// read notes what the request is about.
func (t *trip) read(q Request, stream bool, known bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.request = q
	t.rec.Model, t.rec.Stream, t.rec.Known = clip(q.Key), stream, known
	t.rec.PromptTokens = q.PromptTokens
}

// saw notes the picture that a choice is made from, and returns it. The first
// one is kept, to explain the choice later.
func (t *trip) saw(s Snapshot) Snapshot {
	if t.snapshot.View == nil {
		t.mu.Lock()
		t.snapshot = s
		t.mu.Unlock()
	}
	return s
}

// tries notes that an attempt at c begins.
func (t *trip) tries(c Candidate) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.began = time.Now()
	t.rec.Owner = c.Name
	if t.rec.Attempts == nil {
		t.rec.Attempts = t.first[:0]
	}
	t.rec.Attempts = append(t.rec.Attempts, Attempt{Node: c.Name, Phase: PhaseDial.String()})
	if t.span != nil {
		t.try = t.span.Try(c.Name)
	}
}

// tried notes how the attempt ended; nil: the client has its answer.
func (t *trip) tried(e *AttemptError) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.rec.Attempts) == 0 {
		return
	}
	last := &t.rec.Attempts[len(t.rec.Attempts)-1]
	last.Took = time.Since(t.began).Seconds()
	if e == nil {
		last.Phase, last.Result = PhaseStream.String(), ResultOK
	} else {
		last.Phase, last.Result = e.Phase.String(), e.Result()
	}
	if t.try != nil {
		t.try.Tried(*last)
		t.try = nil
	}
}

// used adds what an answer, or the part of it that came, says it cost. chunks
// stand for the tokens of one that does not say.
func (t *trip) used(u wire.Usage, chunks int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.usage = u
	if u.PromptTokens > 0 {
		t.rec.PromptTokens = u.PromptTokens
	}
	if u.OutputTokens == 0 {
		u.OutputTokens = chunks
	}
	t.rec.OutputTokens += u.OutputTokens
	t.rec.eval += u.EvalDuration
}

// WriteHeader notes the answer's status.
func (t *trip) WriteHeader(status int) {
	if status >= 200 && t.rec.Status == 0 {
		t.mu.Lock()
		t.rec.Status = status
		t.mu.Unlock()
	}
	t.ResponseWriter.WriteHeader(status)
}

// Write notes when the first byte goes out.
func (t *trip) Write(p []byte) (int, error) {
	if t.rec.First == 0 {
		t.mu.Lock()
		if t.rec.Status == 0 {
			t.rec.Status = http.StatusOK
		}
		t.rec.First = time.Since(t.rec.Start).Seconds()
		t.mu.Unlock()
	}
	n, err := t.ResponseWriter.Write(p)
	t.lost = t.lost || err != nil
	return n, err
}

// FlushError is for [http.ResponseController].
func (t *trip) FlushError() (err error) {
	if f, ok := t.ResponseWriter.(interface{ FlushError() error }); ok {
		err = f.FlushError()
	} else {
		err = http.NewResponseController(t.ResponseWriter).Flush()
	}
	t.lost = t.lost || err != nil
	return err
}

// Unwrap is for [http.ResponseController].
func (t *trip) Unwrap() http.ResponseWriter { return t.ResponseWriter }

// record is the request as it stands.
func (t *trip) record() Record {
	t.mu.Lock()
	defer t.mu.Unlock()
	r := t.rec
	r.Attempts = slices.Clone(r.Attempts)
	if r.Outcome == "" {
		r.Took = time.Since(r.Start).Seconds()
		if pieces := int(t.pieces.Load()); pieces > 0 && r.Took > r.First {
			r.OutputTokens, r.Rate = pieces, float64(pieces)/(r.Took-r.First)
		}
	}
	return r
}

// end closes the record. whole is false when the handler broke off.
func (t *trip) end(whole bool) {
	t.mu.Lock()
	r := &t.rec
	r.Took = time.Since(r.Start).Seconds()
	r.Outcome = outcomeOf(r.Status)
	if !whole {
		r.Outcome = OutcomeCut
	}
	for i := range r.Attempts {
		a := &r.Attempts[i]
		if a.Result == "client-gone" {
			t.lost = true
		}
		if a.Phase == PhaseStream.String() && a.Result != ResultOK && i+1 < len(r.Attempts) {
			r.Continued++
		}
	}
	if t.lost {
		r.Outcome = OutcomeClientGone
	}
	switch writing := r.Took - r.First; {
	case r.OutputTokens == 0:
	case r.eval > 0:
		r.Rate = float64(r.OutputTokens) / r.eval.Seconds()
	case r.Stream && writing > 0:
		r.Rate = float64(r.OutputTokens) / writing
	}
	t.mu.Unlock()
	if t.span != nil {
		if n := len(r.Attempts); t.try != nil && n > 0 {
			t.try.Tried(r.Attempts[n-1]) // the handler ended without a word of it
		}
		t.span.Ended(t.record())
	}
	t.journal.end(t)
}

// clip bounds a name that a client made up.
func clip(name string) string { return name[:min(len(name), 128)] }
