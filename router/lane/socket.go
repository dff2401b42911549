package lane

import (
	"errors"
	"net"
)

// readier is a connection whose reader can have itself called when bytes may be
// there: a [Socket], or a strand of a trunk.
type readier interface {
	whenReady(read func() (over bool)) error
}

// errDry says that a connection that is not to be waited for has nothing. It is
// a temporary error to TLS, which goes on where it was with the next read.
var errDry error = dryError{errors.New("lane: nothing is there yet")}

type dryError struct{ error }

func (dryError) Timeout() bool   { return false }
func (dryError) Temporary() bool { return true }

// Sockets is l with every connection made one that is cheap to write to.
func Sockets(l net.Listener) net.Listener { return sockets{l} }

type sockets struct{ net.Listener }

func (s sockets) Accept() (net.Conn, error) {
	c, err := s.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return asSocket(c), nil
}
