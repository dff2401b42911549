//go:build unix

package lane

import "syscall"

// stands reports whether a kept connection can carry another request: nothing
// has come over it since the last answer, neither bytes nor its end.
func (c *conn) stands() bool {
	if c.sys == nil {
		return false
	}
	if c.look == nil {
		c.look = func(fd uintptr) bool {
			var b [1]byte
			_, err := readNow(fd, b[:])
			c.quiet = err == syscall.EAGAIN //nolint:errorlint // an errno
			return true                     // do not wait
		}
	}
	c.quiet = false
	return c.sys.Read(c.look) == nil && c.quiet
}
