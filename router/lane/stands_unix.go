//go:build unix

package lane

import (
	"errors"
	"syscall"
)

// stands reports whether a kept connection can carry another request: nothing
// has come over it since the last answer, neither bytes nor its end.
func (c *conn) stands() bool {
	if c.sys == nil {
		return false
	}
	if c.look == nil {
		c.look = func(fd uintptr) bool {
			var b [1]byte
			n, err := syscall.Read(int(fd), b[:])
			c.quiet = n <= 0 && (errors.Is(err, syscall.EAGAIN) || errors.Is(err, syscall.EWOULDBLOCK))
			return true // do not wait
		}
	}
	c.quiet = false
	return c.sys.Read(c.look) == nil && c.quiet
}
