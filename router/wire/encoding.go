package wire

import (
	"compress/gzip"
	"errors"
	"io"
	"net/http"
	"strings"

	"github.com/klauspost/compress/zstd"
)

// maxWindow is the zstd window in bytes that a body may ask for: what Ollama
// itself grants, and the least that RFC 8878 section 3.1.1.1.2 wants decoders
// to have.
const maxWindow = 8 << 20

// Decode reads a request body and undoes its Content-Encoding, which is "",
// "identity", "gzip" or "zstd". Neither what is read nor what comes out may
// exceed limit bytes, so a decompression bomb costs at most limit bytes of
// memory and the time to produce them; that is also why no ratio is checked.
//
// Errors: 415 for another encoding, 413 over limit, 400 for data that is
// corrupt or ends early. Err holds the cause, among them the reader's own
// errors.
func Decode(encoding string, body io.Reader, limit int64) ([]byte, *Error) {
	source := &bounded{r: body, left: limit}
	var r io.Reader = source
	switch strings.ToLower(strings.TrimSpace(encoding)) {
	case "", "identity":
	case "gzip", "x-gzip":
		z, err := gzip.NewReader(source)
		if err != nil {
			return nil, decodeError(err, limit)
		}
		r = z
	case "zstd":
		// One decoder without concurrency starts no goroutine.
		z, err := zstd.NewReader(source, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
			zstd.WithDecoderMaxWindow(maxWindow), zstd.WithDecoderMaxMemory(uint64(max(limit, maxWindow))))
		if err != nil {
			return nil, decodeError(err, limit)
		}
		defer z.Close()
		r = z
	default:
		return nil, ErrEncoding(encoding)
	}
	out, err := io.ReadAll(io.LimitReader(r, limit+1))
	switch {
	case err != nil:
		return nil, decodeError(err, limit)
	case int64(len(out)) > limit:
		return nil, ErrTooLarge(limit)
	}
	return out, nil
}

var errOverLimit = errors.New("wire: body over its limit")

func decodeError(err error, limit int64) *Error {
	var tooLarge *http.MaxBytesError
	var e *Error
	switch {
	case errors.Is(err, errOverLimit), errors.As(err, &tooLarge),
		errors.Is(err, zstd.ErrWindowSizeExceeded), errors.Is(err, zstd.ErrDecoderSizeExceeded):
		e = ErrTooLarge(limit)
	default:
		e = ErrBadRequest("request body is corrupt or ends early")
	}
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
