package mesh

import (
	"context"
	"net"
	"net/netip"
	"time"

	"github.com/hashicorp/memberlist"
)

// link is what one gossip engine sees of the transport. It implements
// memberlist.NodeAwareTransport, so that memberlist can wrap it with its label.
type link struct {
	t         *transport
	advertise netip.AddrPort
	packets   chan *memberlist.Packet
	streams   chan net.Conn
	ctx       context.Context // ends with the engine
	cancel    context.CancelFunc
}

var _ memberlist.NodeAwareTransport = (*link)(nil)

// newLink makes the link current; advertise is what others are told.
func (t *transport) newLink(advertise netip.AddrPort) *link {
	l := &link{t: t, advertise: advertise, packets: make(chan *memberlist.Packet, 256), streams: make(chan net.Conn)}
	l.ctx, l.cancel = context.WithCancel(context.Background())
	t.current.Store(l)
	return l
}

func (l *link) deliver(ctx context.Context, p *memberlist.Packet) {
	select {
	case l.packets <- p:
	case <-l.ctx.Done():
	case <-ctx.Done():
	}
}

// FinalAdvertiseAddr implements memberlist.Transport; the choice was made
// before, the arguments do not matter.
func (l *link) FinalAdvertiseAddr(string, int) (net.IP, int, error) {
	return net.IP(l.advertise.Addr().AsSlice()), int(l.advertise.Port()), nil
}

// WriteTo implements memberlist.Transport.
func (l *link) WriteTo(b []byte, addr string) (time.Time, error) {
	if l.ctx.Err() != nil {
		return time.Time{}, net.ErrClosed
	}
	to, err := netip.ParseAddrPort(addr)
	if err != nil {
		return time.Time{}, err
	}
	l.t.sent.datagram(len(b))
	_, err = l.t.udp.WriteToUDPAddrPort(b, to)
	return time.Now(), err
}

// WriteToAddress implements memberlist.NodeAwareTransport.
func (l *link) WriteToAddress(b []byte, a memberlist.Address) (time.Time, error) {
	return l.WriteTo(b, a.Addr)
}

// PacketCh implements memberlist.Transport.
func (l *link) PacketCh() <-chan *memberlist.Packet { return l.packets }

// DialTimeout implements memberlist.Transport.
func (l *link) DialTimeout(addr string, timeout time.Duration) (net.Conn, error) {
	conn, err := (&net.Dialer{Timeout: timeout}).DialContext(l.ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	return &linkConn{Conn: conn, sent: &l.t.sent, stop: context.AfterFunc(l.ctx, func() { _ = conn.Close() })}, nil
}

// DialAddressTimeout implements memberlist.NodeAwareTransport.
func (l *link) DialAddressTimeout(a memberlist.Address, timeout time.Duration) (net.Conn, error) {
	return l.DialTimeout(a.Addr, timeout)
}

// StreamCh implements memberlist.Transport.
func (l *link) StreamCh() <-chan net.Conn { return l.streams }

// Shutdown implements memberlist.Transport. The sockets stay open.
func (l *link) Shutdown() error {
	l.t.current.CompareAndSwap(l, nil)
	l.cancel()
	return nil
}

// linkConn is an outbound stream, closed when its engine ends.
type linkConn struct {
	net.Conn
	sent *sent
	stop func() bool
}

func (c *linkConn) Write(p []byte) (int, error) { return c.sent.stream(c.Conn, p) }

func (c *linkConn) Close() error {
	c.stop()
	return c.Conn.Close()
}
