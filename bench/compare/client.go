package compare

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"time"
)

// What can become of an answer beside being whole. The words go into the
// report.
var (
	errRefused   = errors.New("refused")
	errNoHeader  = errors.New("eof before header")
	errMidBody   = errors.New("eof in body")
	errTimeout   = errors.New("timeout")
	errCleanCut  = errors.New("cut, yet ended cleanly")
	errDisorder  = errors.New("tokens lost or doubled")
	errSaidError = errors.New("error in stream")
)

// statusError is an answer of another status than 200.
type statusError int

func (e statusError) Error() string { return "http " + strconv.Itoa(int(e)) }

// conn is a client's connection: hand-framed HTTP/1.1, about 10 us a request,
// so that the client costs little beside what it measures.
type conn struct {
	net.Conn
	in *bufio.Reader
}

const dialTimeout = 5 * time.Second

func dial(addr string) (*conn, error) {
	c, err := net.DialTimeout("tcp", addr, dialTimeout) //nolint:noctx // bounded by its timeout
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errRefused, err)
	}
	return &conn{c, bufio.NewReaderSize(c, 16<<10)}, nil
}

// post is a request for n tokens, as bytes on the wire.
func post(model string, n int, stream bool) []byte {
	body := fmt.Sprintf(`{"model":%q,"prompt":"say %d words","stream":%t,"options":{"num_predict":%d,"temperature":0}}`, model, n, stream, n)
	return fmt.Appendf(nil, "POST /api/generate HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
}

// do sends request and hands every piece of the answer's body to take. The
// connection can be used again when err is nil and keep is true.
func (c *conn) do(request []byte, take func(p []byte)) (keep bool, err error) {
	if _, err := c.Write(request); err != nil {
		return false, fmt.Errorf("%w: %w", errNoHeader, err)
	}
	status, length, chunked, keep, err := c.head()
	if err != nil {
		return false, headError(err)
	}
	switch {
	case chunked:
		err = c.chunks(take)
	case length >= 0:
		err = c.bytes(length, take)
	default:
		keep = false
		err = c.rest(take)
	}
	switch {
	case err != nil && isTimeout(err):
		return false, errTimeout
	case err != nil:
		return false, fmt.Errorf("%w: %w", errMidBody, err)
	case status != 200:
		return keep, statusError(status)
	}
	return keep, nil
}

func headError(err error) error {
	if isTimeout(err) {
		return errTimeout
	}
	return fmt.Errorf("%w: %w", errNoHeader, err)
}

// head reads the status line and what of the headers frames the body.
func (c *conn) head() (status, length int, chunked, keep bool, err error) {
	length, keep = -1, true
	line, err := c.in.ReadSlice('\n')
	if err != nil {
		return 0, 0, false, false, err
	}
	if len(line) < 12 {
		return 0, 0, false, false, io.ErrUnexpectedEOF
	}
	status, _ = strconv.Atoi(string(line[9:12])) // 0 is no status that passes
	for {
		line, err := c.in.ReadSlice('\n')
		if err != nil {
			return 0, 0, false, false, err
		}
		if line = bytes.TrimRight(line, "\r\n"); len(line) == 0 {
			return status, length, chunked, keep, nil
		}
		name, value, _ := bytes.Cut(line, []byte(":"))
		value = bytes.TrimSpace(value)
		switch {
		case len(name) == 14 && bytes.EqualFold(name, []byte("Content-Length")):
			if length, err = strconv.Atoi(string(value)); err != nil {
				return 0, 0, false, false, err
			}
		case len(name) == 17 && bytes.EqualFold(name, []byte("Transfer-Encoding")):
			chunked = true
		case len(name) == 10 && bytes.EqualFold(name, []byte("Connection")):
			keep = !bytes.EqualFold(value, []byte("close"))
		}
	}
}

// bytes hands over n bytes, as they come.
func (c *conn) bytes(n int, take func([]byte)) error {
	for n > 0 {
		if _, err := c.in.Peek(1); err != nil {
			return err
		}
		p, err := c.in.Peek(min(n, c.in.Buffered()))
		if err != nil {
			return err
		}
		if take != nil {
			take(p)
		}
		n -= len(p)
		_, _ = c.in.Discard(len(p)) // they are buffered
	}
	return nil
}

func (c *conn) chunks(take func([]byte)) error {
	for {
		line, err := c.in.ReadSlice('\n')
		if err != nil {
			return err
		}
		size, err := strconv.ParseUint(string(bytes.TrimSpace(line)), 16, 31)
		if err != nil {
			return err
		}
		if err := c.bytes(int(size), take); err != nil {
			return err
		}
		if size > 0 {
			if _, err := c.in.Discard(2); err != nil {
				return err
			}
			continue
		}
		for { // trailers
			line, err := c.in.ReadSlice('\n')
			if err != nil {
				return err
			}
			if len(bytes.TrimRight(line, "\r\n")) == 0 {
				return nil
			}
		}
	}
}

// rest hands over everything until the connection ends.
func (c *conn) rest(take func([]byte)) error {
	for {
		if _, err := c.in.Peek(1); err != nil {
			if err == io.EOF {
				return nil
			}
			return err
		}
		p, _ := c.in.Peek(c.in.Buffered())
		if take != nil {
			take(p)
		}
		_, _ = c.in.Discard(len(p))
	}
}
