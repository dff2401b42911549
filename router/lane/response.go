package lane

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// response writes one answer. What is written waits in the connection's buffer
// until it is flushed, the handler returns or the buffer is full, so that an
// answer in one piece is one write with a length, and a token that is flushed
// is one write, too.
type response struct {
	x       *serverConn
	request *requestBody
	header  http.Header
	status  int
	length  int64 // of the body, as the handler says; -1 unknown
	written int64
	body    []byte // held back while the head is
	sent    bool   // the head is in the buffer
	chunked bool
	closes  bool // no other request over this connection
	flushed bool // a part of the answer is out
	err     error
}

// hold is how much of an answer waits for its length, and for a flush.
const hold = 16 << 10

// Header implements http.ResponseWriter.
func (w *response) Header() http.Header { return w.header }

// WriteHeader implements http.ResponseWriter.
func (w *response) WriteHeader(status int) {
	switch {
	case w.status != 0:
		return
	case status >= 100 && status < 200:
		w.informational(status)
		return
	}
	w.status = status
	if n, ok := plainLength(first(w.header["Content-Length"])); ok {
		w.length = n
	} else {
		delete(w.header, "Content-Length")
	}
}

func (w *response) informational(status int) {
	b := appendStatus(w.x.out[:0], status)
	b = appendFields(b, w.header)
	b = append(b, "\r\n"...)
	w.x.out = b[:0]
	w.put(b)
}

// Write implements http.ResponseWriter.
func (w *response) Write(p []byte) (int, error) {
	if w.status == 0 {
		w.WriteHeader(http.StatusOK)
	}
	if w.err != nil {
		return 0, w.err
	}
	if len(p) == 0 || !bodied(w.status) {
		return len(p), nil
	}
	if w.length >= 0 && w.written+int64(len(p)) > w.length {
		return 0, http.ErrContentLength
	}
	w.written += int64(len(p))
	if !w.sent && w.length < 0 && len(w.body)+len(p) <= hold {
		w.body = append(w.body, p...)
		return len(p), nil
	}
	w.head(false)
	w.piece(p)
	if len(w.x.out) >= hold {
		w.push()
	}
	return len(p), w.err
}

// FlushError is for [http.ResponseController].
func (w *response) FlushError() error {
	if w.status == 0 {
		w.WriteHeader(http.StatusOK)
	}
	w.head(false)
	w.push()
	if !w.flushed {
		w.flushed = true
		w.x.lighten()
	}
	return w.err
}

// Flush implements http.Flusher.
func (w *response) Flush() { _ = w.FlushError() }

// SetReadDeadline is for [http.ResponseController]; it counts from the next
// read on.
func (w *response) SetReadDeadline(t time.Time) error {
	watch := &w.x.watch
	watch.mu.Lock()
	defer watch.mu.Unlock()
	if watch.done != nil {
		return nil // nothing is left to read but the client's leaving
	}
	w.x.reading.want = t
	return nil
}

// SetWriteDeadline is for [http.ResponseController]; it counts from the next
// write on.
func (w *response) SetWriteDeadline(t time.Time) error {
	w.x.writing.want = t
	return nil
}

// bodied reports whether an answer of that status has a body.
func bodied(status int) bool {
	return status != http.StatusNoContent && status != http.StatusNotModified
}

// head puts the head, and what waited for it, into the buffer. whole says that
// what waited is the whole body.
func (w *response) head(whole bool) {
	if w.sent {
		return
	}
	w.sent = true
	w.closes = w.closes || !w.request.drain()
	switch {
	case !bodied(w.status):
		w.length = -1
	case w.length < 0 && whole && !trails(w.header):
		w.length = int64(len(w.body))
	case w.length < 0:
		w.chunked = true
	}
	w.closes = w.closes || strings.EqualFold(first(w.header["Connection"]), "close")
	b := appendStatus(w.x.out[:0], w.status)
	b = appendFields(b, w.header)
	if _, ok := w.header["Date"]; !ok {
		b = append(append(append(b, "Date: "...), date()...), crlf...)
	}
	if _, ok := w.header["Content-Type"]; !ok && len(w.body) > 0 {
		b = append(append(append(b, "Content-Type: "...), http.DetectContentType(w.body)...), crlf...)
	}
	switch {
	case w.length >= 0:
		b = append(b, "Content-Length: "...)
		b = strconv.AppendInt(b, w.length, 10)
		b = append(b, crlf...)
	case w.chunked:
		b = append(b, "Transfer-Encoding: chunked\r\n"...)
	}
	if w.closes {
		b = append(b, "Connection: close\r\n"...)
	}
	w.x.out = append(b, crlf...)
	if len(w.body) > 0 {
		w.piece(w.body)
		w.body = nil
	}
}

// piece puts a piece of the body into the buffer.
func (w *response) piece(p []byte) {
	if len(p) > hold { // not worth a copy
		b := w.x.out
		if w.chunked {
			b = strconv.AppendInt(b, int64(len(p)), 16)
			b = append(b, crlf...)
		}
		w.x.out = b
		w.push()
		w.put(p)
		if w.chunked {
			w.x.out = append(w.x.out, crlf...)
		}
		return
	}
	b := w.x.out
	if w.chunked {
		b = strconv.AppendInt(b, int64(len(p)), 16)
		b = append(b, crlf...)
		b = append(b, p...)
		b = append(b, crlf...)
	} else {
		b = append(b, p...)
	}
	w.x.out = b
}

// push writes the buffer out.
func (w *response) push() {
	b := w.x.out
	w.x.out = b[:0]
	w.put(b)
}

func (w *response) put(b []byte) {
	if w.err != nil || len(b) == 0 {
		return
	}
	w.err = w.x.write(b)
}

// finish ends the answer of a handler that returned; false: no other request
// can come over this connection.
func (w *response) finish() bool {
	if w.status == 0 {
		w.WriteHeader(http.StatusOK)
	}
	w.head(true)
	if w.chunked {
		b := append(w.x.out, "0\r\n"...)
		b = appendTrailers(b, w.header)
		w.x.out = append(b, crlf...)
	}
	w.push()
	if cap(w.x.out) > 4*hold {
		w.x.out = nil
	}
	// A body shorter than was said must not look whole.
	return w.err == nil && !w.closes && (w.length < 0 || w.written == w.length)
}

func appendStatus(b []byte, status int) []byte {
	b = append(b, "HTTP/1.1 "...)
	b = strconv.AppendInt(b, int64(status), 10)
	b = append(b, ' ')
	text := http.StatusText(status)
	if text == "" {
		text = fmt.Sprintf("status code %d", status)
	}
	b = append(b, text...)
	return append(b, crlf...)
}

// appendFields writes all fields but those that this side frames by, and
// trailers.
func appendFields(b []byte, h http.Header) []byte {
	for name, values := range h {
		switch {
		case name == "Content-Length", name == "Transfer-Encoding", name == "Connection", name == "Trailer",
			strings.HasPrefix(name, http.TrailerPrefix):
			continue
		}
		b = appendField(b, name, values)
	}
	return b
}

// trails reports whether there is something to say after the body, for which
// HTTP/1.1 needs a chunked one.
func trails(h http.Header) bool {
	for name := range h {
		if strings.HasPrefix(name, http.TrailerPrefix) {
			return true
		}
	}
	return false
}

func appendTrailers(b []byte, h http.Header) []byte {
	for name, values := range h {
		if name, ok := strings.CutPrefix(name, http.TrailerPrefix); ok {
			b = appendField(b, name, values)
		}
	}
	return b
}

func appendField(b []byte, name string, values []string) []byte {
	if !token(name) {
		return b
	}
	for _, v := range values {
		b = append(append(b, name...), ": "...)
		at := len(b)
		b = append(b, v...)
		for i := range b[at:] {
			if c := b[at+i]; c == '\r' || c == '\n' {
				b[at+i] = ' ' // as net/http does
			}
		}
		b = append(b, crlf...)
	}
	return b
}

// date is the Date of now (RFC 9110 section 6.6.1), made once a second.
func date() []byte {
	now := time.Now()
	if d := dated.Load(); d != nil && d.second == now.Unix() {
		return d.text
	}
	d := &stamp{second: now.Unix(), text: now.UTC().AppendFormat(nil, http.TimeFormat)}
	dated.Store(d)
	return slices.Clip(d.text)
}

type stamp struct {
	second int64
	text   []byte
}

var dated atomic.Pointer[stamp]

func first(values []string) string {
	if len(values) > 0 {
		return values[0]
	}
	return ""
}
