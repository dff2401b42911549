package lane

import (
	"context"
	"io"
	"time"
)

// requestBody is a request's body of known length. When it has been read, the
// connection is watched for the client's leaving.
type requestBody struct {
	x      *serverConn
	left   int64
	cancel context.CancelCauseFunc
}

func (b *requestBody) Read(p []byte) (int, error) {
	if b.left == 0 {
		return 0, io.EOF
	}
	n, err := b.take(p)
	switch {
	case b.left == 0:
		b.x.watch.arm(b.x.s, b.cancel)
		return n, io.EOF
	case err == io.EOF: //nolint:errorlint // io.Reader's contract is the bare value
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		b.cancel(nil)
	}
	return n, err
}

// take reads what is there of the rest.
func (b *requestBody) take(p []byte) (n int, err error) {
	if int64(len(p)) > b.left {
		p = p[:b.left]
	}
	if x := b.x; x.from < len(x.buf) {
		n = copy(p, x.buf[x.from:])
		x.from += n
	} else {
		n, err = x.read(p)
	}
	b.left -= int64(n)
	return n, err
}

// maxUnread is how much of a body that its handler does not want is read all
// the same, so that the connection can be used on: as much as in net/http.
const maxUnread = 256 << 10

// drain reads what the handler has left, before its answer says whether the
// connection stays; false: it cannot.
func (b *requestBody) drain() bool {
	if b.left == 0 {
		return true
	}
	if b.left > maxUnread {
		return false
	}
	b.x.reading.want = time.Now().Add(lingering)
	var p [4 << 10]byte
	for b.left > 0 {
		if _, err := b.take(p[:]); err != nil {
			return false
		}
	}
	b.x.reading.want = time.Time{}
	return true
}

func (b *requestBody) Close() error { return nil }
