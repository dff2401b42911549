//go:build !unix

package lane

import (
	"errors"
	"net"
)

// socket is never there: where reads complete instead of being told of, they
// are not asked for in vain.
type socket struct{ net.Conn }

// Socket returns c.
func Socket(c net.Conn) net.Conn { return c }

func (*socket) whenReady(func() (over bool)) error { return errors.ErrUnsupported }
