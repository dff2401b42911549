package lane

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
)

// body is the body of an answer. Close may be called while Read waits.
type body struct {
	c    *conn
	ctx  context.Context //nolint:containedctx // of the one request that is answered
	stop func() bool     // ends the watch of ctx
	keep bool            // the connection can carry another request
	once sync.Once
	err  error // sticks

	general func([]byte) (int, error) // net/http's reading of it; nil: ours
	stage   stage
	left    int64        // bytes of the body, or of the chunk, to come
	trailer *http.Header // where its trailers go
	extra   int          // bytes of trailers so far
}

// stage is where a body in chunks stands (RFC 9112 section 7.1).
type stage uint8

const (
	unchunked stage = iota // it has a length
	atSize                 // before a chunk's size
	inChunk
	behindChunk // before the line break that ends it
	atTrailer
	over
)

// begin makes x give its connection back when its body ends.
func (x *answer) begin(ctx context.Context, stop func() bool, keep bool) {
	b := &x.body
	b.ctx, b.stop = ctx, stop
	b.keep = keep && !x.Close && x.StatusCode != http.StatusSwitchingProtocols
	if x.Body == http.NoBody {
		b.end(true)
		return
	}
	x.Body = b
}

// Here reports whether all of the body of an answer has come: reading it neither
// waits nor fails.
func Here(r io.Reader) bool {
	b, ok := r.(*body)
	return ok && b.general == nil && b.stage == unchunked && b.err == nil && int64(b.c.pending()) >= b.left
}

func (b *body) Read(p []byte) (int, error) {
	if b.err != nil {
		return 0, b.err
	}
	n, err := b.read(p)
	if err != nil {
		if err != io.EOF && b.ctx.Err() != nil { //nolint:errorlint // io.Reader's contract is the bare value
			err = context.Cause(b.ctx)
		}
		b.err = err
		b.end(err == io.EOF) //nolint:errorlint // as above
	}
	return n, err
}

// Close gives up what has not been read, and the connection with it.
func (b *body) Close() error {
	b.end(false)
	return nil
}

func (b *body) end(whole bool) {
	b.once.Do(func() {
		if b.stop() && whole && b.keep && b.c.pending() == 0 {
			b.c.t.put(b.c)
			return
		}
		b.c.cut()
	})
}

// read reads what there is. The end comes together with the last bytes, when it
// is there.
func (b *body) read(p []byte) (n int, err error) {
	switch {
	case b.general != nil:
		return b.general(p)
	case b.stage != unchunked:
		return b.chunks(p)
	case len(p) == 0:
		return 0, nil
	}
	n, err = b.bytes(p)
	switch {
	case b.left == 0:
		err = io.EOF
	case errors.Is(err, io.EOF):
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

// bytes reads of what is left: what the connection has read already, or else
// what it reads.
func (b *body) bytes(p []byte) (n int, err error) {
	if int64(len(p)) > b.left {
		p = p[:b.left]
	}
	if c := b.c; c.pending() > 0 {
		n = copy(p, c.buf[c.from:])
		c.from += n
	} else {
		n, err = c.Conn.Read(p)
	}
	b.left -= int64(n)
	return n, err
}

// large is how much of a chunk must be to come to be worth a read of its own,
// past the connection's buffer.
const large = 4 << 10

// errChunk means that a body is not in chunks as it says.
var errChunk = errors.New("lane: a malformed chunk")

// chunks reads the bytes of as many chunks as are there, and waits for none
// when it has some.
func (b *body) chunks(p []byte) (n int, err error) {
	for b.stage != over {
		if b.c.pending() == 0 {
			if n > 0 || len(p) == 0 {
				return n, nil
			}
			if b.stage == inChunk && b.left >= large && len(p) >= large {
				if n, err = b.bytes(p); b.left == 0 {
					b.stage = behindChunk
				}
				return n, unexpected(err)
			}
			if err := b.c.fill(); err != nil {
				return n, unexpected(err)
			}
		}
		if b.stage == inChunk {
			if n == len(p) {
				return n, nil
			}
			m, _ := b.bytes(p[n:]) // they are there
			if n += m; b.left == 0 {
				b.stage = behindChunk
			}
			continue
		}
		line, ok, err := b.line()
		if err == nil && ok {
			err = b.between(line)
		}
		if err != nil {
			return n, err
		}
		if !ok {
			if n > 0 {
				return n, nil
			}
			if err := b.c.fill(); err != nil {
				return n, unexpected(err)
			}
		}
	}
	return n, io.EOF
}

// unexpected is the end of a connection inside a body.
func unexpected(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// maxLine bounds a line between chunks, bytes, as net/http does.
const maxLine = 4 << 10

// line takes a line, without its end; !ok: it is not there yet.
func (b *body) line() (line []byte, ok bool, err error) {
	c := b.c
	have := c.buf[c.from:]
	n := bytes.IndexByte(have, '\n')
	if n > maxLine || n < 0 && len(have) > maxLine {
		return nil, false, errChunk
	}
	if n < 0 {
		return nil, false, nil
	}
	line, ok = bytes.CutSuffix(have[:n], []byte{'\r'})
	if !ok {
		return nil, false, errChunk
	}
	c.from += n + 1
	return line, true, nil
}

// between takes a line that is no part of the body.
func (b *body) between(line []byte) error {
	switch b.stage {
	case behindChunk:
		if len(line) > 0 {
			return errChunk
		}
		b.stage = atSize
	case atSize:
		n, ok := chunkSize(line)
		if !ok {
			return errChunk
		}
		if b.left, b.stage = n, inChunk; n == 0 {
			b.stage = atTrailer
		}
	default:
		if len(line) == 0 {
			b.stage = over
			return nil
		}
		name, value, ok := strings.Cut(string(line), ":")
		if b.extra += len(line); !ok || !token(name) || !visible(value) || b.extra > maxHead {
			return errChunk
		}
		if *b.trailer == nil {
			*b.trailer = make(http.Header)
		}
		b.trailer.Add(canonical(name), strings.Trim(value, " \t"))
	}
	return nil
}

// chunkSize reads a chunk's size; an extension behind it means nothing to us.
func chunkSize(line []byte) (n int64, ok bool) {
	if i := bytes.IndexByte(line, ';'); i >= 0 {
		line = line[:i]
	}
	line = bytes.TrimRight(line, " \t")
	if len(line) == 0 || len(line) > 15 {
		return 0, false
	}
	for _, c := range line {
		switch {
		case '0' <= c && c <= '9':
			c -= '0'
		case 'a' <= c && c <= 'f':
			c -= 'a' - 10
		case 'A' <= c && c <= 'F':
			c -= 'A' - 10
		default:
			return 0, false
		}
		n = n<<4 | int64(c)
	}
	return n, true
}
