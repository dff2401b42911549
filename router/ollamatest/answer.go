package ollamatest

import (
	"errors"
	"net/http"
	"strings"
	"time"
)

// kind tells what a piece of an answer is.
type kind int

const (
	content  kind = iota
	thinking      // inside the thinking block, without its tags
)

// format writes answers in one dialect. The append functions return b with
// whole frames added; they are called in the order of the answer.
type format interface {
	streamType() string // Content-Type of a stream
	token(b []byte, k kind, text []byte) []byte
	tools(b []byte, calls []toolCall) []byte
	end(b []byte, f *final) []byte
	broken(b []byte, text string) []byte // an error after the stream has begun
	whole(f *final) (contentType string, body []byte)
}

// final is what is known at the end of an answer.
type final struct {
	created   time.Time
	reason    string // done_reason; "" when the runaway guard cut the answer
	text      string // collected, when the answer is not streamed
	thinking  string
	calls     []toolCall
	promptN   int
	evalN     int
	total     time.Duration
	load      time.Duration
	prompt    time.Duration
	eval      time.Duration
	context   []int64
	truncated bool // no last record: the runaway guard struck
}

// Ends of an answer that are not its own.
var (
	errDie  = errors.New("ollamatest: fault: connection reset")
	errEOF  = errors.New("ollamatest: fault: clean end")
	errGone = errors.New("ollamatest: client gone")
)

// brokenText is Ollama's error when a runner dies in the middle.
const brokenText = "an error was encountered while running the model: unexpected EOF"

// answer carries an answer to the client, in frames as it comes or in one
// piece at its end, and lets faults happen to it.
type answer struct {
	call   *call
	format format
	stream bool
	begun  bool // headers are out
	buf    []byte
	flush  func() error

	sent     int // tokens sent or collected
	fault    *Fault
	drip     *Fault
	spoil    bool // the whole body shall be no JSON
	pad      int  // bytes to inflate the whole body with
	text     strings.Builder
	thoughts strings.Builder
	calls    []toolCall
}

func newAnswer(c *call, f format, stream bool) *answer {
	return &answer{
		call:   c,
		format: f,
		stream: stream,
		flush:  http.NewResponseController(c.w).Flush,
		fault:  c.fault,
	}
}

// token passes on one piece of text.
func (a *answer) token(k kind, text []byte) error {
	if err := a.strike(text); err != nil {
		return err
	}
	a.sent++
	if a.stream {
		a.buf = a.format.token(a.buf[:0], k, text)
		return a.write(a.buf)
	}
	if k == thinking {
		a.thoughts.Write(text)
	} else {
		a.text.Write(text)
	}
	return nil
}

// tools passes on tool calls.
func (a *answer) tools(calls []toolCall) error {
	if err := a.strike(nil); err != nil {
		return err
	}
	a.sent++
	if a.stream {
		return a.write(a.format.tools(a.buf[:0], calls))
	}
	a.calls = append(a.calls, calls...)
	return nil
}

// end sends the last record, or the whole answer.
func (a *answer) end(f *final) error {
	if err := a.strike(nil); err != nil {
		return err
	}
	f.created = time.Now()
	if a.stream {
		if f.truncated {
			return nil
		}
		return a.write(a.format.end(a.buf[:0], f))
	}
	f.text, f.thinking, f.calls = a.text.String(), a.thoughts.String(), a.calls
	contentType, body := a.format.whole(f)
	if a.pad > 0 {
		body = append(body, strings.Repeat(" ", a.pad)...)
	}
	if a.spoil {
		body = body[:len(body)/2]
	}
	a.call.w.Header().Set("Content-Type", contentType)
	a.begun = true
	return a.output(body)
}

// write sends frames and flushes them.
func (a *answer) write(frames []byte) error {
	if !a.begun {
		a.call.w.Header().Set("Content-Type", a.format.streamType())
		a.begun = true
	}
	if err := a.output(frames); err != nil {
		return err
	}
	if a.flush() != nil {
		return errGone
	}
	return nil
}

// output writes bytes, in slow pieces if a fault says so.
func (a *answer) output(b []byte) error {
	a.call.s.frost.wait(a.call.life)
	for a.drip != nil && len(b) > 0 {
		piece := len(b)
		if a.drip.Size > 0 {
			piece = min(a.drip.Size, len(b))
		}
		a.call.sleep(a.drip.Delay)
		if _, err := a.call.w.Write(b[:piece]); err != nil || a.flush() != nil {
			return errGone
		}
		b = b[piece:]
	}
	if _, err := a.call.w.Write(b); err != nil {
		return errGone
	}
	return nil
}

// strike lets the fault happen when its time has come. next is the text of the
// coming token, if it is one.
func (a *answer) strike(next []byte) error {
	f := a.fault
	if f == nil || a.sent < f.After {
		return nil
	}
	a.fault = nil
	a.call.s.stats.fault()
	switch f.Kind {
	case Die, CleanEOF:
		if f.Half && a.stream {
			frame := a.format.token(nil, content, append([]byte(nil), next...))
			if err := a.write(frame[:len(frame)/2]); err != nil {
				return err
			}
		}
		if f.Kind == Die || !a.stream { // a whole answer has no end to be clean
			return errDie
		}
		return errEOF
	case Stall:
		a.call.sleep(f.Delay)
	case Drip:
		a.drip = f
	case Malformed:
		if a.stream {
			return a.write(malformed(a.format.token(nil, content, []byte(" x"))))
		}
		a.spoil = true
	case HugeLine:
		size := f.Size
		if size == 0 {
			size = 1 << 20
		}
		if a.stream {
			return a.write(a.format.token(nil, content, []byte(strings.Repeat("x", size))))
		}
		a.pad = size
	case ErrorLine:
		return errors.New(f.text(brokenText))
	case Crash:
		return errCrash
	case Freeze:
		a.call.s.Freeze()
		if f.Delay > 0 {
			time.AfterFunc(f.Delay, a.call.s.Thaw)
		}
	case Kill:
		go a.call.s.Kill() // which waits for this request to end
		<-a.call.life.ctx.Done()
		return errGone
	}
	return nil
}

// malformed cuts a frame in its middle but leaves its end of line.
func malformed(frame []byte) []byte {
	tail := "\n"
	if strings.HasSuffix(string(frame), "\n\n") {
		tail = "\n\n"
	}
	return append(frame[:len(frame)/2:len(frame)/2], tail...)
}

// close ends an answer that could not be finished.
func (a *answer) close(err error) {
	c := a.call
	switch {
	case errors.Is(err, errEOF):
	case errors.Is(err, errDie):
		c.abort()
	case c.killed():
		panic(http.ErrAbortHandler)
	case c.ctx.Err() != nil || errors.Is(err, errGone):
	case a.begun, a.stream && !c.s.has.modern && ofRunner(err):
		// The second: before 0.30 an error of the runner was the first line
		// of a 200, if a stream was asked for.
		_, text := asStatus(err)
		_ = a.write(a.format.broken(a.buf[:0], text)) // the last that can be tried
	default:
		c.failWith(err)
	}
}

// ofRunner reports whether an error arose in the runner rather than before it.
func ofRunner(err error) bool {
	_, ok := errors.AsType[*statusError](err)
	return !ok
}
