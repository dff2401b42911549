package guard

import (
	"errors"
	"net"
	"net/netip"
	"sync"
)

// Bounded turns connections away above total in all and perAddr per address.
// It is for the peer port: members need a connection each, and a stranger's
// ends within seconds because its handshake fails.
func Bounded(l net.Listener, total, perAddr int) net.Listener {
	return &bounded{Listener: l, total: total, perAddr: perAddr, count: make(map[netip.Addr]int)}
}

type bounded struct {
	net.Listener
	total, perAddr int

	mu    sync.Mutex
	open  int
	count map[netip.Addr]int
}

// Accept implements net.Listener.
func (b *bounded) Accept() (net.Conn, error) {
	for {
		c, err := b.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if addr, ok := b.admit(c); ok {
			return &boundedConn{Conn: c, leave: sync.OnceFunc(func() { b.drop(addr) })}, nil
		}
		_ = c.Close()
	}
}

func (b *bounded) admit(c net.Conn) (netip.Addr, bool) {
	addr := plainAddr(c.RemoteAddr().String())
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.open >= b.total || b.count[addr] >= b.perAddr {
		return addr, false
	}
	b.open++
	b.count[addr]++
	return addr, true
}

func (b *bounded) drop(addr netip.Addr) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.open--
	if b.count[addr]--; b.count[addr] <= 0 {
		delete(b.count, addr)
	}
}

type boundedConn struct {
	net.Conn
	leave func()
}

// CloseWrite ends what is sent, as *net.TCPConn has it.
func (c *boundedConn) CloseWrite() error { return closeWrite(c.Conn) }

func closeWrite(c net.Conn) error {
	if half, ok := c.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return errors.ErrUnsupported
}

// Close implements net.Conn.
func (c *boundedConn) Close() error {
	c.leave()
	return c.Conn.Close()
}
