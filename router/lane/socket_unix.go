//go:build unix

package lane

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

// socket is a TCP connection that the kernel is asked about past the runtime,
// see [readNow], and whose reader can have itself called whenever bytes may be
// there. Below TLS it makes TLS such a reader, too.
type socket struct {
	*net.TCPConn
	sys     syscall.RawConn
	in, out transfer

	fd    uintptr
	ready bool // inside whenReady: reads do not wait
	dry   bool // and there is nothing

	calm  bool // what it reads need not be acknowledged at once
	reads int
}

// transfer is a read, or a write, that waits for the kernel.
type transfer struct {
	mu   sync.Mutex
	step func(fd uintptr) (over bool) // of all of them, made once
	rest []byte                       // where to read to, or what is left to write
	n    int                          // bytes moved
	err  error
}

// run moves what it can of p, waiting by way of wait.
func (t *transfer) run(p []byte, wait func(step func(uintptr) bool) error) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.rest, t.n, t.err = p, 0, nil
	err := wait(t.step)
	t.rest = nil
	if err == nil {
		err = t.err
	}
	return t.n, err
}

// Socket makes a TCP connection that was dialled one whose bodies can [Flow],
// also through a TLS connection over it. Others are as they were. The other side
// is to send what it has at once, as Go's servers do: one that waits for what it
// sent to be acknowledged (Nagle's algorithm, RFC 896) would send each part of an
// answer up to 40 ms late.
func Socket(c net.Conn) net.Conn {
	c = asSocket(c)
	if s, ok := c.(*socket); ok {
		s.calm = true
	}
	return c
}

func asSocket(c net.Conn) net.Conn {
	t, ok := c.(*net.TCPConn)
	if !ok {
		return c
	}
	sys, err := t.SyscallConn()
	if err != nil {
		return c
	}
	s := &socket{TCPConn: t, sys: sys}
	s.in.step, s.out.step = s.readStep, s.writeStep
	return s
}

// askAfter is after how long a silence a reader that waits looks whether the
// kernel has told it of everything; it may be twice as long. What comes together
// with the last bytes, the end of a connection that broke, is told together with
// them: the read that takes the bytes does not see it, and nothing is told again.
const askAfter = 200 * time.Millisecond

// whenReady calls read at once and then whenever more bytes may have come, until
// it returns true; or until the connection is closed, with the error of that.
// In read, reads of the connection return errDry instead of waiting. Until
// whenReady returns, closing the connection waits for it.
//
// The kernel tells once of what comes, and the runtime keeps that until it is
// waited for. So a read that did not fill its buffer, which has emptied the
// socket, is followed by the wait, and by no other read that finds nothing. A
// Read cannot do so: it forgets what it was told when it begins.
func (s *socket) whenReady(read func() (over bool)) error {
	defer func() { s.ready = false }()
	var until time.Time
	step := func(fd uintptr) bool {
		s.fd, s.ready, s.dry = fd, true, false
		if now := time.Now(); until.Sub(now) < askAfter {
			until = now.Add(2 * askAfter)
			_ = s.SetReadDeadline(until) // of a closed one the wait tells
		}
		return read()
	}
	for {
		if err := s.SetReadDeadline(time.Time{}); err != nil { // one that is past would end the next wait at once
			return err
		}
		err := s.sys.Read(step)
		if err == nil || !isTimeout(err) {
			return errors.Join(err, s.SetReadDeadline(time.Time{}))
		}
	}
}

// Read implements net.Conn.
func (s *socket) Read(p []byte) (int, error) {
	switch {
	case len(p) == 0:
		return 0, nil
	case !s.ready:
		n, err := s.in.run(p, s.sys.Read)
		return n, s.blame("read", err)
	case s.dry:
		return 0, errDry
	}
	n, err := s.tryRead(s.fd, p)
	if s.dry = err == errDry || err == nil && n < len(p); s.dry { //nolint:errorlint // it is this one
		return n, err
	}
	return n, s.blame("read", err)
}

func (s *socket) readStep(fd uintptr) (over bool) {
	s.in.n, s.in.err = s.tryRead(fd, s.in.rest)
	return s.in.err != errDry //nolint:errorlint // it is this one
}

// tryRead reads what is there; errDry: nothing is.
func (s *socket) tryRead(fd uintptr, p []byte) (int, error) {
	const often = 16 // reads: it does not last, see delayAcks
	if s.calm && s.reads%often == 0 {
		delayAcks(fd)
	}
	s.reads++
	n, err := readNow(fd, p[:min(len(p), mostNow)])
	switch {
	case err == syscall.EAGAIN: //nolint:errorlint // an errno
		return 0, errDry
	case err != nil:
		return 0, os.NewSyscallError("read", err)
	case n == 0:
		return 0, io.EOF
	}
	return n, nil
}

// Write implements net.Conn.
func (s *socket) Write(p []byte) (int, error) {
	n, err := s.out.run(p, s.sys.Write)
	return n, s.blame("write", err)
}

func (s *socket) writeStep(fd uintptr) (over bool) {
	t := &s.out
	for len(t.rest) > 0 {
		n, err := writeNow(fd, t.rest[:min(len(t.rest), mostNow)])
		switch {
		case err == syscall.EAGAIN: //nolint:errorlint // an errno
			return false
		case err != nil:
			t.err = os.NewSyscallError("write", err)
			return true
		}
		t.rest, t.n = t.rest[n:], t.n+n
	}
	return true
}

// blame makes err what *net.TCPConn would have said.
func (s *socket) blame(op string, err error) error {
	if err == nil || err == io.EOF { //nolint:errorlint // io.Reader's contract is the bare value
		return err
	}
	if e, ok := err.(*net.OpError); ok { //nolint:errorlint // of the runtime's wait, as it is made
		err = e.Err
	}
	return &net.OpError{Op: op, Net: "tcp", Source: s.LocalAddr(), Addr: s.RemoteAddr(), Err: err}
}
