package lane

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"reflect"
	"strings"
	"testing"
)

// canned is a connection over which the given bytes come, so many at a time.
type canned struct {
	net.Conn
	rest []byte
	step int
}

func (c *canned) Read(p []byte) (int, error) {
	if len(c.rest) == 0 {
		return 0, io.EOF
	}
	n := copy(p[:min(len(p), c.step)], c.rest)
	c.rest = c.rest[n:]
	return n, nil
}

func (c *canned) Close() error { return nil }

// read reads one answer to a POST from what comes over the connection.
func read(come []byte, step int) (*answer, string, error) {
	t := new(Transport)
	t.enter("a")
	c := newConn(t, &canned{rest: come, step: step}, "a")
	x, err := c.answer(&http.Request{Method: http.MethodPost})
	if err != nil {
		return nil, "", err
	}
	if x.StatusCode < 200 {
		return x, "", nil
	}
	x.begin(context.Background(), func() bool { return false }, false)
	text, err := io.ReadAll(x.Body)
	return x, string(text), err
}

const ok = "HTTP/1.1 200 OK\r\n"

func TestAnswersAreReadWhole(t *testing.T) {
	for name, tt := range map[string]struct{ come, body, trailer string }{
		"length":     {ok + "Content-Length: 5\r\n\r\nhello", "hello", ""},
		"empty":      {ok + "Content-Length: 0\r\n\r\n", "", ""},
		"chunks":     {ok + "Transfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n", "hello", ""},
		"trailers":   {ok + "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-Load: 7\r\n\r\n", "hello", "7"},
		"extension":  {ok + "Transfer-Encoding: chunked\r\n\r\n5;a=b\r\nhello\r\n0\r\n\r\n", "hello", ""},
		"large":      {ok + "Transfer-Encoding: chunked\r\n\r\n4e20\r\n" + strings.Repeat("x", 20000) + "\r\n0\r\n\r\n", strings.Repeat("x", 20000), ""},
		"no status":  {"HTTP/1.1 204 No Content\r\n\r\n", "", ""},
		"until gone": {ok + "\r\nhello", "hello", ""},
		"1.0":        {"HTTP/1.0 200 OK\r\n\r\nhello", "hello", ""},
		"bare LF":    {"HTTP/1.1 200 OK\nContent-Length: 5\n\nhello", "hello", ""},
		"announced":  {ok + "Trailer: X-Load\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-Load: 7\r\n\r\n", "hello", "7"},
	} {
		for _, step := range []int{1, 7, 1 << 20} {
			x, body, err := read([]byte(tt.come), step)
			if err != nil || body != tt.body || x.Trailer.Get("X-Load") != tt.trailer {
				t.Errorf("%s by %d: %.20q, %v, trailer %v", name, step, body, err, x)
			}
		}
	}
}

func TestACutAnswerIsNotWhole(t *testing.T) {
	for _, come := range []string{
		"", "HTTP/1.1 200", ok + "Content-Length: 5\r\n", ok + "Content-Length: 5\r\n\r\nhell",
		ok + "Transfer-Encoding: chunked\r\n\r\n", ok + "Transfer-Encoding: chunked\r\n\r\n5\r\nhello", ok + "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
		ok + "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n", ok + "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX: y\r\n",
		ok + "Transfer-Encoding: chunked\r\n\r\n5\r\nhelloX\r\n0\r\n\r\n", ok + "Transfer-Encoding: chunked\r\n\r\nx\r\nhello\r\n0\r\n\r\n",
		ok + "Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
	} {
		for _, step := range []int{1, 1 << 20} {
			if _, body, err := read([]byte(come), step); err == nil {
				t.Errorf("%q by %d looks whole: %q", come, step, body)
			}
		}
	}
}

// Whatever is read here, net/http reads as the very same answer.
func FuzzAnswerAgreesWithNetHTTP(f *testing.F) {
	f.Add([]byte(ok+"content-length: 5\r\nX-y: 1\r\nx-Y:\t2 \r\nConnection: Keep-Alive\r\n\r\nhello"), 3)
	f.Add([]byte(ok+"Transfer-Encoding: chunked\r\nDate: x\r\n\r\n3\r\nhel\r\n2;a\r\nlo\r\n0\r\nX-Load: 7\r\n\r\n"), 100)
	f.Add([]byte("HTTP/1.1 102 Processing\r\nX-Kage-Phase: queued\r\n\r\n"), 100)
	f.Add([]byte("HTTP/1.1 304 Not Modified\r\nConnection: close\r\n\r\n"), 100)
	f.Fuzz(func(t *testing.T, come []byte, step int) {
		got, body, err := read(come, max(step, 1))
		if err != nil || got.body.general != nil {
			return
		}
		want, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(come)), &http.Request{Method: http.MethodPost})
		if err != nil {
			t.Fatalf("net/http does not take %q: %v", come, err)
		}
		text, err := io.ReadAll(want.Body)
		if err != nil || string(text) != body || got.Status != want.Status || got.StatusCode != want.StatusCode ||
			got.ContentLength != want.ContentLength || got.Close != want.Close || got.Proto != want.Proto ||
			!reflect.DeepEqual(got.TransferEncoding, want.TransferEncoding) ||
			!reflect.DeepEqual(got.Header, want.Header) || len(got.Trailer)+len(want.Trailer) > 0 && !reflect.DeepEqual(got.Trailer, want.Trailer) {
			t.Fatalf("%q:\ngot  %+v %q\nwant %+v %q, %v", come, got.Response, body, want, text, err)
		}
	})
}

// Only of a body that has come as far as it goes nothing is waited for.
func TestWhatIsHere(t *testing.T) {
	for _, tt := range []struct {
		come string
		step int
		want bool
	}{
		{ok + "Content-Length: 5\r\n\r\nhello", 1 << 20, true},
		{ok + "Content-Length: 5\r\n\r\nhell", 1 << 20, false},
		{ok + "Content-Length: 5\r\n\r\nhello", 7, false},
		{ok + "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", 1 << 20, false}, // its trailers may be wrong
		{ok + "\r\nhello", 1 << 20, false},
	} {
		tr := new(Transport)
		tr.enter("a")
		x, err := newConn(tr, &canned{rest: []byte(tt.come), step: tt.step}, "a").answer(&http.Request{Method: http.MethodPost})
		if err != nil {
			t.Fatal(err)
		}
		x.begin(context.Background(), func() bool { return false }, false)
		if got := Here(x.Body); got != tt.want {
			t.Errorf("%q by %d: %v", tt.come, tt.step, got)
		}
		text, err := io.ReadAll(x.Body)
		if tt.want && (err != nil || string(text) != "hello") {
			t.Errorf("%q was said to be here: %q, %v", tt.come, text, err)
		}
		if Here(x.Body) {
			t.Errorf("%q is here after its end", tt.come)
		}
	}
}
