//go:build unix

package lane

import (
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"time"
)

// socket is a TCP connection whose reader can have itself called whenever bytes
// may be there. Below TLS it makes TLS such a reader, too.
type socket struct {
	*net.TCPConn
	sys syscall.RawConn

	fd    uintptr
	ready bool // inside whenReady: reads do not wait
	dry   bool // and there is nothing
}

// Socket makes a TCP connection one whose bodies can [Flow], also through a TLS
// connection over it. Others are as they were.
func Socket(c net.Conn) net.Conn {
	if t, ok := c.(*net.TCPConn); ok {
		if sys, err := t.SyscallConn(); err == nil {
			return &socket{TCPConn: t, sys: sys}
		}
	}
	return c
}

// askEvery is how often a reader that waits looks whether the kernel has told it
// of everything. What comes together with the last bytes, the end of a connection
// that broke, is told together with them: the read that takes the bytes does not
// see it, and nothing is told again.
const askEvery = 300 * time.Millisecond

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
	for {
		if err := s.SetReadDeadline(time.Now().Add(askEvery)); err != nil {
			return err
		}
		err := s.sys.Read(func(fd uintptr) bool {
			s.fd, s.ready, s.dry = fd, true, false
			return read()
		})
		if err == nil || !isTimeout(err) {
			return errors.Join(err, s.SetReadDeadline(time.Time{}))
		}
	}
}

// Read implements net.Conn.
func (s *socket) Read(p []byte) (int, error) {
	switch {
	case !s.ready:
		return s.TCPConn.Read(p)
	case s.dry:
		return 0, errDry
	case len(p) == 0:
		return 0, nil
	}
	for {
		n, err := syscall.Read(int(s.fd), p)
		switch {
		case err == syscall.EINTR:
			continue
		case err == syscall.EAGAIN:
			s.dry = true
			return 0, errDry
		case err != nil:
			return 0, os.NewSyscallError("read", err)
		case n == 0:
			return 0, io.EOF
		}
		s.dry = n < len(p)
		return n, nil
	}
}
