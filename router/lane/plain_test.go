package lane

import (
	"bufio"
	"bytes"
	"net/http"
	"net/url"
	"reflect"
	"strings"
	"testing"
)

// taken is the request that plain reads; nil: none.
func taken(head []byte) *http.Request {
	r := new(http.Request)
	if !plain(r, new(url.URL), head) {
		return nil
	}
	return r
}

func TestPlainTakesWhatClientsSend(t *testing.T) {
	for name, head := range map[string]string{
		"ollama": "POST /api/chat HTTP/1.1\r\nHost: 127.0.0.1:11435\r\nUser-Agent: ollama/0.33 (amd64 linux) Go/go1.26\r\nContent-Length: 12\r\n" +
			"Accept: application/x-ndjson\r\nContent-Type: application/json\r\nAccept-Encoding: gzip\r\n\r\n",
		"python": "POST /v1/chat/completions HTTP/1.1\r\nhost: box.local:11435\r\naccept: */*\r\nconnection: keep-alive\r\ncontent-length: 2\r\nauthorization: Bearer x y\r\n\r\n",
		"get":    "GET /api/tags HTTP/1.1\r\nHost: [::1]:11435\r\n\r\n",
	} {
		if taken([]byte(head)) == nil {
			t.Errorf("%s is not taken", name)
		}
	}
}

func TestPlainLeavesTheRest(t *testing.T) {
	post := func(fields string) string {
		return "POST /api/chat HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n" + fields + "\r\n"
	}
	for _, head := range []string{
		"", "\r\n\r\n", "POST /a HTTP/1.1\r\n\r\n",
		"POST /api/chat HTTP/1.1\r\nHost: a\r\n\r\n",
		"GET /api/tags HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
		"GET /api/tags?x=y HTTP/1.1\r\nHost: a\r\n\r\n", "GET /api/%74ags HTTP/1.1\r\nHost: a\r\n\r\n",
		"GET //api HTTP/1.1\r\nHost: a\r\n\r\n", "GET /a/../b HTTP/1.1\r\nHost: a\r\n\r\n", "GET /a/./b HTTP/1.1\r\nHost: a\r\n\r\n",
		"GET http://a/ HTTP/1.1\r\nHost: a\r\n\r\n", "GET * HTTP/1.1\r\nHost: a\r\n\r\n",
		"GET /a HTTP/1.0\r\nHost: a\r\n\r\n", "GET  /a HTTP/1.1\r\nHost: a\r\n\r\n", "GET /a x HTTP/1.1\r\nHost: a\r\n\r\n",
		"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n", "get /a HTTP/1.1\r\nHost: a\r\n\r\n",
		post("Content-Length: 2\r\n"), post("content-length: 2\r\n"), post("Host: a\r\n"), post("Transfer-Encoding: chunked\r\n"),
		post("Expect: 100-continue\r\n"), post("Connection: close\r\n"), post("Connection: keep-alive, X\r\n"), post("Upgrade: h2c\r\n"),
		post("Te: trailers\r\n"), post("Trailer: X\r\n"), post(" folded: x\r\n"), post("X : y\r\n"), post(": y\r\n"), post("X\r\n"),
		post("X: a\rb\r\n"), post("X: a\nb\r\n"), post("X: \x00\r\n"), post("X: \x7f\r\n"), post("X: \xc3\xa4\r\n"),
		post(strings.Repeat("X: y\r\n", plainHeaders)), post("X: " + strings.Repeat("y", plainHead) + "\r\n"),
		"POST /a HTTP/1.1\r\nHost: a b\r\nContent-Length: 2\r\n\r\n", "POST /a HTTP/1.1\r\nHost:\r\nContent-Length: 2\r\n\r\n",
		"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: +2\r\n\r\n", "POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 2, 2\r\n\r\n",
		"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000000000000\r\n\r\n",
	} {
		if taken([]byte(head)) != nil {
			t.Errorf("taken: %.100q", head)
		}
	}
}

// Whatever is taken, net/http reads as the very same request.
func FuzzPlainAgreesWithNetHTTP(f *testing.F) {
	f.Add([]byte("POST /api/chat HTTP/1.1\r\nHost: a:1\r\ncontent-length: 2\r\nX-y: 1\r\nx-Y:\t2 \r\nConnection: Keep-Alive\r\n\r\n"))
	f.Add([]byte("GET /v1/models/a.b:c HTTP/1.1\r\nHost: [::1]\r\nCookie: a=b\r\n\r\n"))
	f.Fuzz(func(t *testing.T, head []byte) {
		if end := bytes.Index(head, []byte("\r\n\r\n")); end >= 0 {
			head = head[:end+4]
		}
		got := taken(head)
		if got == nil {
			return
		}
		in := bufio.NewReader(bytes.NewReader(head))
		want, err := http.ReadRequest(in)
		if err != nil {
			t.Fatalf("net/http does not take %q: %v", head, err)
		}
		want.Header.Del("Connection")
		if got.Method != want.Method || got.Host != want.Host || got.ContentLength != want.ContentLength ||
			got.RequestURI != want.RequestURI || *got.URL != *want.URL || len(want.TransferEncoding) > 0 || want.Close || in.Buffered() > 0 ||
			!reflect.DeepEqual(got.Header, want.Header) {
			t.Fatalf("%q:\ngot  %+v\nwant %+v", head, got, want)
		}
	})
}
