package lane

import (
	"bytes"
	"context"
	"errors"
	"io"
	"sync"
)

// Flower is a body that can be read as it flows, see [Flow].
type Flower interface {
	// Flow is [Flow] of the body.
	Flow(take func(p []byte, err error) (more bool))
}

// Flow hands what comes of r to take, each time all that is there, in pieces as
// a Read would bring them: p is take's until it returns, and the call with an
// error, which for the end is the bare io.EOF, is the last one. It returns after
// that, or when take wants no more. take must not close r.
//
// Over a body of a [Transport] it costs less than Read in a loop. That asks,
// for each piece, whether there is another one, only to find that there is none
// yet and to wait: a system call of three per token. And it holds buffers while
// it waits, which are cold when the next token comes; one that flows has none.
func Flow(r io.Reader, take func(p []byte, err error) (more bool)) {
	if f, ok := r.(Flower); ok {
		f.Flow(take)
		return
	}
	var w window
	defer w.close()
	for {
		p, err := w.read(r)
		if !take(p, err) || err != nil {
			return
		}
	}
}

// Flow implements [Flower].
func (b *body) Flow(take func(p []byte, err error) (more bool)) {
	s := b.c.told
	if s == nil || b.general != nil || b.err != nil {
		Flow(struct{ io.Reader }{b}, take)
		return
	}
	more := true
	werr := s.whenReady(func() (over bool) {
		more = b.there(take)
		return !more || b.err != nil
	})
	// Not before: a connection does not close while it is waited for.
	switch {
	case b.err != nil:
		b.end(b.err == io.EOF) //nolint:errorlint // io.Reader's contract is the bare value
	case more: // it was cut
		b.err = b.blame(werr)
		b.end(false)
		take(nil, b.err)
	}
}

// there takes what is there, and notes an error that it ends with.
func (b *body) there(take func(p []byte, err error) (more bool)) (more bool) {
	w, c := flows.Get().(*flow), b.c
	defer flows.Put(w)
	if c.pending() == 0 {
		c.buf, c.from, c.filled = w.in[:0], 0, false
	}
	more = true
	for more && b.err == nil {
		n, err := b.read(w.out[:])
		if errors.Is(err, errDry) {
			break
		}
		b.err = b.blame(err)
		more = take(w.out[:n], b.err)
	}
	if rest := c.buf[c.from:]; len(rest) > 0 {
		c.buf = bytes.Clone(rest)
	} else {
		c.buf = nil
	}
	c.from, c.filled = 0, false
	return more
}

// blame is why reading ended in err: the end of the request's context is what
// cuts a connection.
func (b *body) blame(err error) error {
	if err != nil && err != io.EOF && b.ctx.Err() != nil { //nolint:errorlint // io.Reader's contract is the bare value
		return context.Cause(b.ctx)
	}
	return err
}

// flow is what a piece that is there is read through.
type flow struct{ in, out [mostRead]byte }

var flows = sync.Pool{New: func() any { return new(flow) }}

// window is what is read through where nobody tells when there is something.
// Most streams bring a token at a time, and hundreds of them are open at once:
// it is small as long as reads do not fill it.
type window struct {
	small [2 << 10]byte
	large *flow
}

func (w *window) read(r io.Reader) ([]byte, error) {
	if w.large != nil {
		n, err := r.Read(w.large.out[:])
		return w.large.out[:n], err
	}
	n, err := r.Read(w.small[:])
	if n == len(w.small) {
		w.large = flows.Get().(*flow)
	}
	return w.small[:n], err
}

func (w *window) close() {
	if w.large != nil {
		flows.Put(w.large)
	}
}
