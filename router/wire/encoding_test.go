package wire

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/klauspost/compress/zstd"
)

func gzipped(t testing.TB, p []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := w.Write(p); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func zstded(t testing.TB, p []byte, options ...zstd.EOption) []byte {
	t.Helper()
	w, err := zstd.NewWriter(nil, options...)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	return w.EncodeAll(p, nil)
}

func TestDecode(t *testing.T) {
	const limit = 1000
	text := bytes.Repeat([]byte("0123456789"), limit/10)
	over := append(bytes.Clone(text), 'x')
	bomb := make([]byte, 8<<20)
	tests := []struct {
		name, encoding string
		body           []byte
		status         int // 0: text comes out
	}{
		{"none", "", text, 0},
		{"identity", "Identity", text, 0},
		{"gzip", "gzip", gzipped(t, text), 0},
		{"gzip in two members", " GZIP ", append(gzipped(t, text[:500]), gzipped(t, text[500:])...), 0},
		{"zstd", "zstd", zstded(t, text), 0},
		{"zstd in two frames", "zstd", append(zstded(t, text[:500]), zstded(t, text[500:])...), 0},
		{"over limit", "", over, 413},
		{"gzip over limit", "gzip", gzipped(t, over), 413},
		{"zstd over limit", "zstd", zstded(t, over), 413},
		{"gzip bomb", "gzip", gzipped(t, bomb), 413},
		{"zstd bomb", "zstd", zstded(t, bomb), 413},
		{"gzip that never yields", "gzip", bytes.Repeat(gzipped(t, nil), 1000), 413},
		{"zstd window", "zstd", zstded(t, bytes.Repeat(text, 100), zstd.WithWindowSize(32<<20), zstd.WithSingleSegment(false)), 413},
		{"gzip cut", "gzip", gzipped(t, text)[:20], 400},
		{"zstd cut", "zstd", zstded(t, text)[:15], 400},
		{"gzip empty", "gzip", nil, 400},
		{"no gzip", "gzip", text, 400},
		{"no zstd", "zstd", text, 400},
		{"gzip garbage after", "gzip", append(gzipped(t, text), "garbage that is no header"...), 400},
		{"brotli", "br", text, 415},
		{"two", "gzip, zstd", text, 415},
		{"deflate", "deflate", text, 415},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := Decode(tt.encoding, iotest.HalfReader(bytes.NewReader(tt.body)), limit)
			switch {
			case tt.status == 0 && err != nil:
				t.Fatal(err)
			case tt.status == 0 && !bytes.Equal(got, text):
				t.Errorf("%d bytes came out", len(got))
			case tt.status != 0 && (err == nil || err.Status != tt.status):
				t.Errorf("got %v, want status %d", err, tt.status)
			case tt.status != 0 && got != nil:
				t.Errorf("error, but %d bytes", len(got))
			}
		})
	}
}

func TestDecodeKeepsTheCause(t *testing.T) {
	gone := errors.New("client gone")
	if _, err := Decode("", io.MultiReader(strings.NewReader("x"), iotest.ErrReader(gone)), 10); err == nil || err.Status != 400 || !errors.Is(err, gone) {
		t.Errorf("got %v", err)
	}
	body := http.MaxBytesReader(httptest.NewRecorder(), io.NopCloser(strings.NewReader("0123456789")), 5)
	if _, err := Decode("", body, 100); err == nil || err.Status != 413 {
		t.Errorf("got %v", err)
	}
}

// A bomb must cost little more memory than the limit. Not parallel: it counts
// what the process allocates.
func TestDecodeMemory(t *testing.T) {
	const limit = 1 << 20
	bomb := make([]byte, 32<<20)
	for encoding, body := range map[string][]byte{"gzip": gzipped(t, bomb), "zstd": zstded(t, bomb)} {
		t.Run(encoding, func(t *testing.T) {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			_, err := Decode(encoding, bytes.NewReader(body), limit)
			runtime.ReadMemStats(&after)
			if err == nil || err.Status != 413 {
				t.Fatal(err)
			}
			// The output grows by copying, and a window may be 8 MiB.
			if got := after.TotalAlloc - before.TotalAlloc; got > 8*limit+2*maxWindow {
				t.Errorf("%d bytes allocated for a limit of %d", got, limit)
			}
		})
	}
}

func FuzzDecode(f *testing.F) {
	f.Add("gzip", gzipped(f, []byte("hello")))
	f.Add("zstd", zstded(f, []byte("hello")))
	f.Add("", []byte("hello"))
	f.Fuzz(func(t *testing.T, encoding string, body []byte) {
		const limit = 1 << 16
		out, err := Decode(encoding, bytes.NewReader(body), limit)
		if err == nil && len(out) > limit || err != nil && err.Status < 400 {
			t.Fatalf("%d bytes, %v", len(out), err)
		}
	})
}
