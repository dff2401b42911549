package guard

import (
	"bytes"
	"errors"
	"strings"
)

// strict follows the bytes of one client connection and stops at the first that
// two HTTP implementations could read differently. net/http takes more than
// RFC 9112 lets servers take: both Content-Length and Transfer-Encoding (the
// latter wins), lines that end in a bare LF, folded header lines. Behind or in
// front of a proxy with other habits each is a way to smuggle a second request
// past whoever looked at the first.
//
// It knows just enough of HTTP/1.1 to find where messages begin and end, reads
// nothing ahead and holds at most maxLine bytes.
type strict struct {
	where  part
	line   []byte // of the current line, up to maxLine bytes, without its end
	long   bool   // the line has more
	cr     bool   // the last byte was a CR
	left   int64  // body or chunk bytes to come
	head   head
	broken error
}

// part is what the next byte belongs to.
type part uint8

const (
	requestLine part = iota
	headerLine
	plainBody // with Content-Length
	chunkSize
	chunkData
	chunkEnd
	trailerLine
)

// head is what the lines so far say about how the body is framed.
type head struct {
	http10  bool
	hosts   int
	lengths int
	length  int64
	chunked int
}

// maxLine is how much of a line is looked at. Lines that matter are far
// shorter, and a request line above it is refused (the longest path of Ollama's
// has 90 bytes); of other lines only the form counts.
const maxLine = 8 << 10

var errFraming = errors.New("guard: ambiguous request framing")

// feed takes the next bytes and returns how many of them may be passed on. Once
// it fails it takes nothing more.
func (s *strict) feed(b []byte) (int, error) {
	if s.broken != nil {
		return 0, s.broken
	}
	for n := 0; n < len(b); {
		switch s.where {
		case plainBody, chunkData:
			took := min(s.left, int64(len(b)-n))
			n += int(took)
			if s.left -= took; s.left > 0 {
				continue
			}
			if s.where == plainBody {
				s.next()
			} else {
				s.where = chunkEnd
			}
		default:
			took, err := s.text(b[n:])
			n += took
			if err != nil {
				s.broken = err
				return n, err
			}
		}
	}
	return len(b), nil
}

// between reports whether the connection stands between two messages.
func (s *strict) between() bool {
	return s.where == requestLine && len(s.line) == 0 && !s.cr
}

// text takes bytes of one line, at most to its end.
func (s *strict) text(b []byte) (int, error) {
	end := bytes.IndexByte(b, '\n')
	line := b
	if end >= 0 {
		line = b[:end]
	}
	for i, c := range line {
		if s.cr {
			return i, errFraming // a CR inside a line
		}
		if c == '\r' {
			s.cr = true
			continue
		}
		if c == 0 {
			return i, errFraming
		}
		if len(s.line) < maxLine {
			s.line = append(s.line, c)
		} else {
			s.long = true
		}
	}
	if end < 0 {
		return len(b), nil
	}
	if !s.cr {
		return end, errFraming // a bare LF
	}
	err := s.whole()
	if s.line, s.long, s.cr = s.line[:0], false, false; cap(s.line) > 1<<10 {
		s.line = nil // an idle connection holds little
	}
	if err != nil {
		return end, err
	}
	return end + 1, nil
}

// whole looks at a complete line.
func (s *strict) whole() error {
	switch s.where {
	case requestLine:
		return s.request(s.line)
	case headerLine:
		if len(s.line) == 0 {
			return s.headers()
		}
		return s.header(s.line)
	case chunkSize:
		return s.chunk(s.line)
	case chunkEnd:
		if len(s.line) > 0 {
			return errFraming
		}
		s.where = chunkSize
	case trailerLine:
		if len(s.line) == 0 {
			s.next()
			return nil
		}
		return trailer(s.line)
	}
	return nil
}

func (s *strict) next() { s.where, s.head = requestLine, head{} }

// request looks at METHOD SP TARGET SP HTTP/1.x: the version decides how the
// rest is framed, the remainder is judged where it is used.
func (s *strict) request(line []byte) error {
	if len(line) == 0 || s.long {
		// RFC 9112 section 2.2 lets an empty line pass; net/http does not.
		return errFraming
	}
	i := bytes.LastIndexByte(line, ' ')
	switch version := string(line[i+1:]); version {
	case "HTTP/1.1":
	case "HTTP/1.0":
		s.head.http10 = true
	default:
		return errFraming
	}
	if bytes.Count(line, []byte{' '}) != 2 || bytes.IndexByte(line, '\t') >= 0 {
		return errFraming
	}
	s.where = headerLine
	return nil
}

// header looks at one header line: its form, and what it says of framing.
func (s *strict) header(line []byte) error {
	if line[0] == ' ' || line[0] == '\t' {
		return errFraming // folded
	}
	name, value, ok := bytes.Cut(line, []byte{':'})
	if !ok || len(name) == 0 || !token(name) {
		return errFraming
	}
	h := &s.head
	text := strings.Trim(string(value), " \t")
	switch strings.ToLower(string(name)) {
	case "host":
		if h.hosts++; h.hosts > 1 || s.long {
			return errFraming
		}
	case "content-length":
		if h.lengths++; h.lengths > 1 || h.chunked > 0 || s.long || len(text) == 0 || len(text) > 18 {
			return errFraming
		}
		for _, c := range text {
			if c < '0' || c > '9' {
				return errFraming
			}
			h.length = h.length*10 + int64(c-'0')
		}
	case "transfer-encoding":
		if h.chunked++; h.chunked > 1 || h.lengths > 0 || h.http10 || s.long || !strings.EqualFold(text, "chunked") {
			return errFraming
		}
	}
	return nil
}

// headers ends a message's head.
func (s *strict) headers() error {
	switch {
	case s.head.chunked > 0:
		s.where = chunkSize
	case s.head.length > 0:
		s.where, s.left = plainBody, s.head.length
	default:
		s.next()
	}
	return nil
}

// chunk looks at a chunk's size. Extensions have no use here and have carried
// smuggled requests, so there are none.
func (s *strict) chunk(line []byte) error {
	if len(line) == 0 || len(line) > 15 || s.long {
		return errFraming
	}
	var n int64
	for _, c := range line {
		switch {
		case '0' <= c && c <= '9':
			n = n<<4 | int64(c-'0')
		case 'a' <= c && c <= 'f':
			n = n<<4 | int64(c-'a'+10)
		case 'A' <= c && c <= 'F':
			n = n<<4 | int64(c-'A'+10)
		default:
			return errFraming
		}
	}
	if n == 0 {
		s.where = trailerLine
		return nil
	}
	s.where, s.left = chunkData, n
	return nil
}

// trailer looks at a line after the last chunk; it may not speak of framing.
func trailer(line []byte) error {
	name, _, ok := bytes.Cut(line, []byte{':'})
	if !ok || len(name) == 0 || !token(name) {
		return errFraming
	}
	switch strings.ToLower(string(name)) {
	case "host", "content-length", "transfer-encoding", "authorization":
		return errFraming
	}
	return nil
}

// token reports whether b is a header name (RFC 9110 section 5.6.2).
func token(b []byte) bool {
	for _, c := range b {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		case strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0:
		default:
			return false
		}
	}
	return true
}
