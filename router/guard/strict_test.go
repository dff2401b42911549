package guard

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
)

// corpus is what has been used to make two HTTP implementations disagree about
// where a request ends or whom it is for. Each case is followed by a second
// request that must never be seen as one.
var corpus = []struct{ name, request string }{
	{"CL and TE", "POST /api/chat HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"},
	{"TE and CL", "POST /api/chat HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n"},
	{"two CL, different", "POST /api/chat HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\nabcd"},
	{"two CL, equal", "POST /api/chat HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\nContent-Length: 4\r\n\r\nabcd"},
	{"CL list", "POST /api/chat HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4, 4\r\n\r\nabcd"},
	{"CL signed", "POST /api/chat HTTP/1.1\r\nHost: localhost\r\nContent-Length: +4\r\n\r\nabcd"},
	{"CL hex", "POST /api/chat HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0x4\r\n\r\nabcd"},
	{"CL negative", "POST /api/chat HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n"},
	{"CL empty", "POST /api/chat HTTP/1.1\r\nHost: localhost\r\nContent-Length:\r\n\r\n"},
	{"CL huge", "POST /api/chat HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9999999999999999999\r\n\r\n"},
	{"CL then blank before colon", "POST /api/chat HTTP/1.1\r\nHost: localhost\r\nContent-Length : 4\r\n\r\nabcd"},
	{"TE unknown", "POST /api/chat HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n"},
	{"TE list", "POST /api/chat HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: identity, chunked\r\n\r\n0\r\n\r\n"},
	{"TE twice", "POST /api/chat HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"},
	{"TE with vertical tab", "POST /api/chat HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n"},
	{"TE in HTTP/1.0", "POST /api/chat HTTP/1.0\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"},
	{"two hosts", "GET /api/tags HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n"},
	{"no host", "GET /api/tags HTTP/1.1\r\n\r\n"},
	{"bare LF after request line", "GET /api/tags HTTP/1.1\nHost: localhost\r\n\r\n"},
	{"bare LF after header", "GET /api/tags HTTP/1.1\r\nHost: localhost\n\r\n"},
	{"bare LF ends head", "GET /api/tags HTTP/1.1\r\nHost: localhost\r\n\n"},
	{"bare CR in header", "GET /api/tags HTTP/1.1\r\nHost: localhost\r\nX: a\rb\r\n\r\n"},
	{"NUL in header", "GET /api/tags HTTP/1.1\r\nHost: localhost\r\nX: a\x00b\r\n\r\n"},
	{"folded header", "GET /api/tags HTTP/1.1\r\nHost: localhost\r\nX: a\r\n b\r\n\r\n"},
	{"folded first header", "GET /api/tags HTTP/1.1\r\n Host: localhost\r\nHost: localhost\r\n\r\n"},
	{"header without colon", "GET /api/tags HTTP/1.1\r\nHost: localhost\r\nNonsense\r\n\r\n"},
	{"header without name", "GET /api/tags HTTP/1.1\r\nHost: localhost\r\n: x\r\n\r\n"},
	{"chunk size with bare LF", "POST /api/chat HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n2\nhi\r\n0\r\n\r\n"},
	{"chunk data with bare LF", "POST /api/chat HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\n0\r\n\r\n"},
	{"chunk too long", "POST /api/chat HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhixx\r\n0\r\n\r\n"},
	{"chunk extension", "POST /api/chat HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n2;x=y\r\nhi\r\n0\r\n\r\n"},
	{"chunk size signed", "POST /api/chat HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n+2\r\nhi\r\n0\r\n\r\n"},
	{"chunk size overflow", "POST /api/chat HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff2\r\nhi\r\n0\r\n\r\n"},
	{"CL as trailer", "POST /api/chat HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nContent-Length: 9\r\n\r\n"},
	{"absolute URI", "GET http://evil.example/api/tags HTTP/1.1\r\nHost: localhost\r\n\r\n"},
	{"absolute URI, own name", "GET http://localhost/api/tags HTTP/1.1\r\nHost: evil.example\r\n\r\n"},
	{"two slashes", "GET //api/../debug/pprof HTTP/1.1\r\nHost: localhost\r\n\r\n"},
	{"dots", "GET /api/../debug/pprof HTTP/1.1\r\nHost: localhost\r\n\r\n"},
	{"encoded dots", "GET /api/%2e%2e/mesh/v1/members HTTP/1.1\r\nHost: localhost\r\n\r\n"},
	{"backslash", "GET /api\\tags HTTP/1.1\r\nHost: localhost\r\n\r\n"},
	{"CONNECT", "CONNECT evil.example:443 HTTP/1.1\r\nHost: localhost\r\n\r\n"},
	{"CONNECT of a path", "CONNECT /api/tags HTTP/1.1\r\nHost: localhost\r\n\r\n"},
	{"TRACE", "TRACE /api/tags HTTP/1.1\r\nHost: localhost\r\n\r\n"},
	{"HTTP/2 preface", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"},
	{"HTTP/0.9", "GET /api/tags\r\n\r\n"},
	{"HTTP/1.2", "GET /api/tags HTTP/1.2\r\nHost: localhost\r\n\r\n"},
	{"blank in target", "GET /api/tags x HTTP/1.1\r\nHost: localhost\r\n\r\n"},
	{"tab in request line", "GET\t/api/tags HTTP/1.1\r\nHost: localhost\r\n\r\n"},
	{"empty line first", "\r\nGET /api/tags HTTP/1.1\r\nHost: localhost\r\n\r\n"},
	{"a loop of nodes", "GET /api/tags HTTP/1.1\r\nHost: localhost\r\nX-Kage-Hop: 1\r\n\r\n"},
	{"target of 9 KiB", "GET /v1/models/" + strings.Repeat("a", 9<<10) + " HTTP/1.1\r\nHost: localhost\r\n\r\n"},
	{"headers of 100 KiB", "GET /api/tags HTTP/1.1\r\nHost: localhost\r\n" + strings.Repeat("X: "+strings.Repeat("a", 1000)+"\r\n", 100) + "\r\n"},
	{"TLS to a plain port", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"},
}

const second = "GET /smuggled HTTP/1.1\r\nHost: localhost\r\n\r\n"

func TestSmugglingIsRefused(t *testing.T) {
	d := open(t, Config{}, "")
	for _, tt := range corpus {
		for behind, next := range map[string]string{"": second, ", alone": ""} {
			t.Run(tt.name+behind, func(t *testing.T) {
				before := len(d.echo.took())
				statuses, _ := d.raw(t, tt.request+next)
				for _, s := range statuses {
					if s < 400 {
						t.Errorf("answered %v", statuses)
					}
				}
				if len(statuses) == 0 && !strings.HasPrefix(tt.name, "TLS") {
					t.Errorf("no answer at all")
				}
				for _, seen := range d.echo.took()[before:] {
					if !strings.HasPrefix(seen, "POST /api/chat") { // a bad body is found while it is read
						t.Errorf("the handler saw %q", seen)
					}
				}
				if slices.ContainsFunc(d.echo.took(), func(s string) bool { return strings.Contains(s, "smuggled") }) {
					t.Error("the smuggled request was served")
				}
			})
		}
	}
}

// Plain requests are read by the lane without a second look: behind one, the
// rest of its connection is looked at all the same.
func TestSmugglingBehindAPlainRequestIsRefused(t *testing.T) {
	const plain = "POST /api/chat HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\nhi"
	d := open(t, Config{}, "")
	for _, tt := range corpus {
		t.Run(tt.name, func(t *testing.T) {
			statuses, _ := d.raw(t, plain+tt.request+second)
			if len(statuses) == 0 || statuses[0] != http.StatusOK {
				t.Fatalf("answers %v, want the first one to be 200", statuses)
			}
			if len(statuses) == 1 && !strings.HasPrefix(tt.name, "TLS") {
				t.Errorf("no answer to the second request")
			}
			for _, s := range statuses[1:] {
				if s < 400 {
					t.Errorf("answered %v", statuses)
				}
			}
			if slices.ContainsFunc(d.echo.took(), func(s string) bool { return strings.Contains(s, "smuggled") }) {
				t.Error("the smuggled request was served")
			}
		})
	}
}

func TestHonestRequestsPass(t *testing.T) {
	d := open(t, Config{}, "")
	body := strings.Repeat("x", 100_000)
	for name, request := range map[string]string{
		"get":            "GET /api/tags HTTP/1.1\r\nHost: localhost\r\n\r\n",
		"HTTP/1.0":       "GET /api/tags HTTP/1.0\r\n\r\n",
		"length":         "POST /api/chat HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\nhi",
		"large":          "POST /api/chat HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n" + body,
		"chunked":        "POST /api/chat HTTP/1.1\r\nHost: localhost\r\ntransfer-encoding: Chunked\r\n\r\n2\r\nhi\r\n186A0\r\n" + body + "\r\n0\r\n\r\n",
		"trailer":        "POST /api/chat HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n2\r\nhi\r\n0\r\nX-Sum: 1\r\n\r\n",
		"odd whitespace": "GET /api/tags HTTP/1.1\r\nHost:\t localhost \r\nX:\r\n\r\n",
		"query":          "GET /api/tags?a=b HTTP/1.1\r\nHost: localhost\r\n\r\n",
		"long header":    "GET /api/tags HTTP/1.1\r\nHost: localhost\r\nCookie: " + strings.Repeat("c", 20<<10) + "\r\n\r\n",
		"pipelined":      "GET /api/tags HTTP/1.1\r\nHost: localhost\r\n\r\nPOST /api/chat HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\nhi",
	} {
		t.Run(name, func(t *testing.T) {
			statuses, _ := d.raw(t, request)
			want := 1
			if name == "pipelined" {
				want = 2
			}
			if len(statuses) != want {
				t.Fatalf("answers %v", statuses)
			}
			for _, s := range statuses {
				if s != 200 {
					t.Errorf("answers %v", statuses)
				}
			}
		})
	}
}

// Bytes come in pieces of any size; what is decided must not depend on it.
func TestPiecesDoNotMatter(t *testing.T) {
	for _, tt := range corpus {
		whole := new(strict)
		n, err := whole.feed([]byte(tt.request))
		for _, size := range []int{1, 2, 7} {
			s := new(strict)
			var total int
			var got error
			for b := []byte(tt.request); len(b) > 0 && got == nil; {
				var took int
				took, got = s.feed(b[:min(size, len(b))])
				total += took
				b = b[min(size, len(b)):]
			}
			if total != n || !errors.Is(got, err) && (got == nil) != (err == nil) {
				t.Errorf("%s in pieces of %d: %d bytes and %v, whole: %d and %v", tt.name, size, total, got, n, err)
			}
		}
	}
}

// Whatever the scanner lets pass as whole requests, net/http sees as the same
// requests with the same ends: that is all that it is for.
func FuzzStrictAgreesWithNetHTTP(f *testing.F) {
	for _, tt := range corpus {
		f.Add([]byte(tt.request + second))
	}
	f.Add([]byte("POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabcGET / HTTP/1.1\r\nHost: x\r\n\r\n"))
	f.Add([]byte("POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		s := new(strict)
		var ends []int // where the scanner says that messages end
		for i := range data {
			if _, err := s.feed(data[i : i+1]); err != nil {
				break
			}
			if s.between() {
				ends = append(ends, i+1)
			}
		}
		if len(s.line) > maxLine {
			t.Fatalf("%d bytes are held", len(s.line))
		}
		r := &countingReader{r: bytes.NewReader(data)}
		buffered := bufio.NewReader(r)
		for _, end := range ends {
			req, err := http.ReadRequest(buffered)
			if err != nil {
				return // net/http is stricter, and closes
			}
			_, err = io.Copy(io.Discard, req.Body)
			if err != nil {
				return
			}
			if at := r.n - buffered.Buffered(); at != end {
				t.Fatalf("net/http ends a request at %d, the scanner at %d of %q", at, end, data)
			}
		}
	})
}

type countingReader struct {
	r io.Reader
	n int
}

func (c *countingReader) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += n
	return n, err
}
