package identity

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// giveUp sets how long sent bytes may stay unacknowledged. The kernel's own
// patience is a quarter of an hour, in which an owner would go on writing to an
// ingress that lost power.
func giveUp(_, _ string, c syscall.RawConn) error {
	var serr error
	err := c.Control(func(fd uintptr) {
		serr = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(silence.Milliseconds()))
	})
	if err != nil {
		return err
	}
	return serr
}
