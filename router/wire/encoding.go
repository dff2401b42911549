package wire

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"

	"github.com/klauspost/compress/zstd"
)

// maxWindow is the zstd window in bytes that a body may ask for: what Ollama
// itself grants, and the least that RFC 8878 section 3.1.1.1.2 wants decoders
// to have.
const maxWindow = 8 << 20

// Decode is DecodeTo into memory.
func Decode(encoding string, body io.Reader, limit int64) ([]byte, *Error) {
	var out bytes.Buffer
	if err := DecodeTo(&out, encoding, body, limit); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// DecodeTo reads a request body and writes it to dst without its
// Content-Encoding, which is "", "identity", "gzip" or "zstd". Neither what is
// read nor what is written may exceed limit bytes (of more, dst may get one
// byte above it), so a decompression bomb costs the time to produce limit
// bytes; that is also why no ratio is checked.
//
// Errors: 415 for another encoding, 413 over limit, 400 for data that is
// corrupt or ends early. Err holds the cause, among them the reader's and the
// writer's own errors.
func DecodeTo(dst io.Writer, encoding string, body io.Reader, limit int64) *Error {
	source := &bounded{r: body, left: limit}
	var r io.Reader = source
	switch strings.ToLower(strings.TrimSpace(encoding)) {
	case "", "identity":
	case "gzip", "x-gzip":
		z, err := gzip.NewReader(source)
		if err != nil {
			return decodeError(err, limit)
		}
		r = z
	case "zstd":
		// One decoder without concurrency starts no goroutine.
		z, err := zstd.NewReader(source, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
			zstd.WithDecoderMaxWindow(maxWindow), zstd.WithDecoderMaxMemory(uint64(max(limit, maxWindow))))
		if err != nil {
			return decodeError(err, limit)
		}
		defer z.Close()
		r = z
	default:
		return ErrEncoding(encoding)
	}
	buf := copyBuffers.Get().(*[]byte)
	defer copyBuffers.Put(buf)
	n, err := io.CopyBuffer(dst, io.LimitReader(r, limit+1), *buf)
	switch {
	case err != nil:
		return decodeError(err, limit)
	case n > limit:
		return ErrTooLarge(limit)
	}
	return nil
}

// copyBuffers spare small requests an allocation many times their size.
var copyBuffers = sync.Pool{New: func() any { return new(make([]byte, 32<<10)) }}

var errOverLimit = errors.New("wire: body over its limit")

func decodeError(err error, limit int64) *Error {
	var tooLarge *http.MaxBytesError
	var e *Error
	switch {
	case errors.Is(err, errOverLimit), errors.As(err, &tooLarge),
		errors.Is(err, zstd.ErrWindowSizeExceeded), errors.Is(err, zstd.ErrDecoderSizeExceeded):
		e = ErrTooLarge(limit)
	default:
		return ErrCorrupt(err)
	}
	e.Err = err
	return e
}

// ErrCorrupt says that a request body could not be read to its end, because of
// err.
func ErrCorrupt(err error) *Error {
	e := ErrBadRequest("request body is corrupt or ends early")
	e.Err = err
	return e
}

// bounded reads at most left bytes and fails when there are more.
type bounded struct {
	r    io.Reader
	left int64
}

func (b *bounded) Read(p []byte) (int, error) {
	if b.left < 0 {
		return 0, errOverLimit
	}
	if int64(len(p)) > b.left+1 {
		p = p[:b.left+1]
	}
	n, err := b.r.Read(p)
	b.left -= int64(n)
	if b.left < 0 {
		return max(n-1, 0), errOverLimit
	}
	return n, err
}
