package wire

import (
	"bytes"
	"strings"
)

// Framing is how a stream is cut into frames.
type Framing int

// The framings.
const (
	NDJSON Framing = iota // a JSON value a line
	SSE                   // server-sent events: lines up to an empty one (WHATWG HTML, 9.2)
)

// FramingOf tells the framing of a streamed answer from its Content-Type; !ok
// for answers that are no stream.
func FramingOf(contentType string) (f Framing, ok bool) {
	media, _, _ := strings.Cut(contentType, ";")
	switch strings.ToLower(strings.TrimSpace(media)) {
	case "application/x-ndjson":
		return NDJSON, true
	case "text/event-stream":
		return SSE, true
	}
	return 0, false
}

// DefaultMaxFrame is how many bytes of an unfinished frame a Scanner holds. An
// Ollama line grows with the context array and the text of response.completed,
// a few MiB at most; the official Go client gives up at 8 MB.
const DefaultMaxFrame = 16 << 20

// Scanner cuts a stream into frames as its bytes arrive. The frames put
// together are the bytes written, whatever they are: nothing is lost, changed
// or held back but the frame that is not whole yet.
//
// A frame that outgrows the limit is handed out in pieces as they come,
// marked Partial, until it ends; the next frame is whole again.
//
// Lines end with LF or CR LF. The zero Scanner is not usable.
type Scanner struct {
	framing Framing
	limit   int

	buf   []byte
	own   []byte // the scanner's own, while buf is lent; nil: it is not
	lent  bool
	start int  // of the frame being looked for
	seen  int  // up to here buf holds no end of it
	width int  // bytes of the current line before seen
	cr    bool // that line begins with CR
	over  bool // a part of the frame was handed out already
}

// Frame is one line or event of a stream, with its line breaks. Raw is valid
// until the next call of the Scanner's Write or Lend. The frames in between lie
// behind each other.
type Frame struct {
	Raw     []byte
	Framing Framing
	Partial bool // a piece of a frame that was too long or, from Rest, cut off
	piece   bool // of these, the former
}

// NewScanner returns a scanner for one stream that holds at most limit bytes of
// an unfinished frame; 0 takes DefaultMaxFrame.
func NewScanner(f Framing, limit int) *Scanner {
	if limit <= 0 {
		limit = DefaultMaxFrame
	}
	return &Scanner{framing: f, limit: limit}
}

// Write adds p to the stream. It keeps no reference to p and never fails.
// Frames that [Scanner.Next] returned before are invalid afterwards.
func (s *Scanner) Write(p []byte) (int, error) {
	s.settle()
	if s.start > 0 {
		n := copy(s.buf, s.buf[s.start:])
		s.buf = s.buf[:n]
		s.seen -= s.start
		s.start = 0
	}
	if len(s.buf) == 0 && cap(s.buf) > keep {
		s.buf = nil
	}
	s.buf = append(s.buf, p...)
	return len(p), nil
}

// keep is the largest buffer that is used again, bytes: a rare huge frame must
// not pin its memory for the rest of the stream.
const keep = 64 << 10

// Lend adds p to the stream as Write does, and copies of it only a frame that
// has begun and not ended: most often none. p must stay as it is until Next has
// said !ok, and the frames are valid as long as p.
func (s *Scanner) Lend(p []byte) {
	if s.settle(); s.Buffered() > 0 {
		_, _ = s.Write(p)
		return
	}
	s.own, s.lent = s.buf[:0], true
	s.buf, s.start, s.seen = p, 0, 0
}

// settle keeps what is left of a lent buffer.
func (s *Scanner) settle() {
	if !s.lent {
		return
	}
	if cap(s.own) > keep {
		s.own = nil
	}
	s.buf = append(s.own, s.buf[s.start:]...)
	s.seen -= s.start
	s.start, s.own, s.lent = 0, nil, false
}

// Next returns the next frame; !ok says that none is complete and more must be
// written first.
func (s *Scanner) Next() (f Frame, ok bool) {
	if end := s.end(); end > 0 {
		f = Frame{s.buf[s.start:end], s.framing, s.over, s.over}
		s.start, s.over = end, false
		return f, true
	}
	if pending := s.Buffered(); pending > s.limit || s.over && pending > 0 {
		f = Frame{s.buf[s.start:], s.framing, true, true}
		s.start, s.over = len(s.buf), true
		return f, true
	}
	s.settle()
	return Frame{}, false
}

// Rest returns the bytes that are no whole frame, at the end of the stream; !ok
// when there are none. They are a cut frame, or a last line without line break.
func (s *Scanner) Rest() (f Frame, ok bool) {
	if s.start == len(s.buf) {
		return Frame{}, false
	}
	f = Frame{s.buf[s.start:], s.framing, true, s.over}
	s.start = len(s.buf)
	return f, true
}

// Buffered is how many bytes of an unfinished frame the scanner holds.
func (s *Scanner) Buffered() int { return len(s.buf) - s.start }

// end looks for the end of the frame at start and returns the offset after it,
// 0 when it has not arrived. Every byte is looked at once.
func (s *Scanner) end() int {
	for {
		line := s.buf[s.seen:]
		n := bytes.IndexByte(line, '\n')
		if n >= 0 {
			line = line[:n]
		}
		if s.width == 0 && len(line) > 0 {
			s.cr = line[0] == '\r'
		}
		s.width += len(line)
		s.seen += len(line)
		if n < 0 {
			return 0
		}
		blank := s.width == 0 || s.width == 1 && s.cr
		s.seen++
		s.width = 0
		if s.framing == NDJSON || blank {
			return s.seen
		}
	}
}
