package compare

import (
	"bytes"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// answer checks one streamed answer of a [Backend] as it comes and takes its
// times.
type answer struct {
	want    int // tokens
	next    int
	done    bool
	broken  error
	partial []byte // a line that has not ended

	sent    time.Time
	last    time.Time // when the last token came
	first   time.Duration
	transit *hdrhistogram.Histogram // ns from the backend's write to here; nil: not taken
	gaps    *hdrhistogram.Histogram // ns between tokens
}

// take reads a piece of the body.
func (a *answer) take(p []byte) {
	now := time.Now()
	if len(a.partial) > 0 {
		p = append(a.partial, p...)
		a.partial = nil
	}
	for {
		i := bytes.IndexByte(p, '\n')
		if i < 0 {
			break
		}
		a.line(p[:i], now)
		p = p[i+1:]
	}
	if len(p) > 0 {
		a.partial = append([]byte(nil), p...)
	}
}

func (a *answer) line(line []byte, now time.Time) {
	if bytes.Contains(line, []byte(`"done":true`)) {
		a.done = true
		return
	}
	_, text, ok := bytes.Cut(line, []byte(`"response":" `))
	if !ok {
		if len(bytes.TrimSpace(line)) > 0 {
			a.broken = errSaidError
		}
		return
	}
	n, text := number(text)
	if int(n) != a.next {
		a.broken = errDisorder
	}
	a.next = int(n) + 1
	if a.first == 0 {
		a.first = now.Sub(a.sent)
	} else if a.gaps != nil {
		record(a.gaps, int64(now.Sub(a.last)))
	}
	a.last = now
	if a.transit != nil && len(text) > 0 && text[0] == '@' {
		at, _ := number(text[1:])
		record(a.transit, now.UnixNano()-at)
	}
}

// number reads a decimal number and returns what follows it.
func number(b []byte) (n int64, rest []byte) {
	for len(b) > 0 && b[0] >= '0' && b[0] <= '9' {
		n = n*10 + int64(b[0]-'0')
		b = b[1:]
	}
	return n, b
}

// end judges the answer after its connection's verdict err.
func (a *answer) end(err error) error {
	switch {
	case a.broken != nil:
		return a.broken
	case err != nil:
		return err
	case !a.done:
		return errCleanCut
	case a.next != a.want:
		return errDisorder
	}
	return nil
}

// newHistogram holds 1 us to 10 minutes, in ns, to two digits: what a report
// shows, in 30 kB.
func newHistogram() *hdrhistogram.Histogram {
	return hdrhistogram.New(1000, int64(10*time.Minute), 2)
}

func record(h *hdrhistogram.Histogram, ns int64) {
	_ = h.RecordValue(min(max(ns, 1000), int64(10*time.Minute))) // inside the range, always
}
