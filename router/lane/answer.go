package lane

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
)

// answer is one answer of a server, with its body.
type answer struct {
	http.Response
	body body
}

// answer reads the head of an answer to req. One that is plain is read here,
// the rest by net/http.
func (c *conn) answer(req *http.Request) (*answer, error) {
	for looked := 0; ; {
		have := c.buf[c.from:]
		if end := headEnd(have, looked); end > 0 {
			x := &answer{body: body{c: c}}
			x.Request = req
			if req.Method != http.MethodHead && x.plain(have[:end]) {
				c.from += end
				return x, nil
			}
			return c.general(req)
		}
		if len(have) > maxHead {
			return nil, ErrTooBig
		}
		looked = max(len(have)-2, 0)
		if err := c.fill(); errors.Is(err, io.EOF) {
			return nil, io.ErrUnexpectedEOF
		} else if err != nil {
			return nil, err
		}
	}
}

// headEnd finds the end of a head, 0 none: an empty line, as net/http sees it.
// Up to from there is no end of a line but the last bytes.
func headEnd(b []byte, from int) int {
	for {
		n := bytes.IndexByte(b[from:], '\n')
		if n < 0 {
			return 0
		}
		from += n + 1
		switch {
		case from < len(b) && b[from] == '\n':
			return from + 1
		case from+1 < len(b) && b[from] == '\r' && b[from+1] == '\n':
			return from + 2
		}
	}
}

// general has net/http read an answer whose head is there.
func (c *conn) general(req *http.Request) (*answer, error) {
	in := bufio.NewReaderSize(pending{c}, 4<<10)
	resp, err := http.ReadResponse(in, req) //nolint:bodyclose // the answer's own body does
	if err != nil {
		return nil, err
	}
	x := &answer{Response: *resp, body: body{c: c}}
	if resp.Body == http.NoBody {
		// What was read ahead belongs to the next answer.
		next, _ := in.Peek(in.Buffered()) // they are there
		c.buf, c.from = slices.Concat(next, c.buf[c.from:]), 0
		return x, nil
	}
	inner := resp.Body
	x.body.general = func(p []byte) (int, error) {
		n, err := inner.Read(p)
		if err != nil {
			x.Trailer = resp.Trailer
			x.body.keep = x.body.keep && in.Buffered() == 0
		}
		return n, err
	}
	return x, nil
}

// pending reads what a connection has read and not given, and then the rest.
type pending struct{ *conn }

func (p pending) Read(b []byte) (int, error) {
	if p.pending() > 0 {
		n := copy(b, p.buf[p.from:])
		p.from += n
		return n, nil
	}
	return p.Conn.Read(b)
}

// plain reads an answer's head, which ends with its empty line, when it is
// within the subset that all HTTP/1.1 parsers agree on; see the package's plain
// for requests. It has exactly one Content-Length or "Transfer-Encoding:
// chunked", or a status without body. false: it is not, and x is as it was but
// for its header.
func (x *answer) plain(head []byte) bool {
	const version = "HTTP/1.1 "
	text := string(head) // all values share it
	line, fields, ok := strings.Cut(text, "\r\n")
	if !ok || len(line) < len(version)+4 || line[:len(version)] != version || line[len(version)+3] != ' ' || !visible(line) {
		return false
	}
	status, ok := plainLength(line[len(version) : len(version)+3])
	if !ok || status < 100 || status == http.StatusSwitchingProtocols {
		return false
	}
	f := framing{length: -1}
	if !x.fields(&f, fields) {
		return false
	}
	switch bodied := status >= http.StatusOK && bodied(int(status)); {
	case !bodied && (f.length >= 0 || f.chunked), bodied && f.chunked == (f.length >= 0):
		return false
	case !bodied || f.length == 0:
		x.Body = http.NoBody
	default:
		x.ContentLength, x.body.left = f.length, f.length
		if f.chunked {
			x.TransferEncoding, x.body.stage = chunkedOnly, atSize
			x.body.trailer = &x.Trailer
		}
	}
	x.Status, x.StatusCode, x.Close = line[len(version):], int(status), f.closes
	x.Proto, x.ProtoMajor, x.ProtoMinor = "HTTP/1.1", 1, 1
	return true
}

var chunkedOnly = []string{"chunked"}

// framing is what the fields of a head say of the body and the connection.
type framing struct {
	length          int64 // -1: nothing
	chunked, closes bool
}

// fields reads the lines of a head behind its first.
func (x *answer) fields(f *framing, text string) bool {
	n := strings.Count(text, "\r\n")
	if n > plainHeaders {
		return false
	}
	values := make([]string, 0, n)
	x.Header = make(http.Header, n)
	for {
		key, value, rest, ok := field(text)
		if !ok || key == "" {
			return ok
		}
		text = rest
		switch key {
		case "Content-Length":
			n, ok := plainLength(value)
			if !ok || f.length >= 0 {
				return false
			}
			f.length = n
		case "Transfer-Encoding":
			if f.chunked || value != "chunked" {
				return false
			}
			f.chunked = true
			continue // net/http takes it out, too
		case "Connection":
			if f.closes || x.Header[key] != nil {
				return false
			}
			if f.closes = strings.EqualFold(value, "close"); f.closes {
				continue // as above
			}
			if !strings.EqualFold(value, "keep-alive") {
				return false
			}
		case "Trailer", "Upgrade", "Pragma":
			return false
		}
		if have := x.Header[key]; have != nil {
			x.Header[key] = append(slices.Clip(have), value)
			continue
		}
		values = append(values, value)
		x.Header[key] = values[len(values)-1 : len(values) : len(values)]
	}
}
