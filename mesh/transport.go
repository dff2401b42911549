package mesh

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/memberlist"
)

// memberlist marks its own datagrams and streams by their first byte: a message
// type or encryption version (0 to 13) or the label header (244). Ours begin
// with a byte that is neither, so both share one port.
const (
	ourByte   = 'K'
	labelByte = 244
)

// Bounds on what strangers can make the gossip port hold. memberlist itself
// takes any number of connections, each with up to 20 MiB, before it has
// checked a key.
const (
	maxStreams        = 256 // open inbound streams; more are closed at once
	maxStreamsPerHost = 64
	maxDatagram       = 2048 // of ours; beacons have about 1200 bytes
	firstByteTimeout  = 5 * time.Second
)

// transport owns the sockets of the gossip port for the life of a Run. The
// gossip engine sits on a [link], of which one at a time is current: when the
// machine's address changes, the engine starts anew over the same sockets.
type transport struct {
	tcp    *net.TCPListener
	udp    *net.UDPConn
	log    *slog.Logger
	header []byte // with which memberlist's label begins every packet and stream
	sealed bool   // and then encryption must follow

	datagram func(b []byte, from netip.AddrPort)      // ours; must neither block nor keep b
	stream   func(ctx context.Context, conn net.Conn) // ours, after the first byte; conn is closed after
	current  atomic.Pointer[link]                     // nil while there is no engine
	mu       sync.Mutex                               // guards what follows
	conns    map[net.Conn]netip.Addr                  // open inbound streams
	perHost  map[netip.Addr]int                       // their number by remote address
	closed   bool
	sent     sent
}

// newTransport binds the sockets for a mesh with the given memberlist label.
func newTransport(addr netip.AddrPort, label string, sealed bool, log *slog.Logger) (*transport, error) {
	tcp, udp, err := bind(addr)
	if err != nil {
		return nil, err
	}
	return &transport{
		tcp: tcp, udp: udp, log: log, sealed: sealed,
		header: append([]byte{labelByte, byte(len(label))}, label...), //nolint:gosec // a hash in hex
		conns:  make(map[net.Conn]netip.Addr), perHost: make(map[netip.Addr]int),
	}, nil
}

// bound is the address the sockets are bound to, unspecified for all.
func (t *transport) bound() netip.AddrPort {
	ap := t.tcp.Addr().(*net.TCPAddr).AddrPort()
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}

// close releases the sockets and all streams. It can be called twice.
func (t *transport) close() {
	_ = t.tcp.Close()
	_ = t.udp.Close()
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closed = true
	for c := range t.conns {
		_ = c.Close()
	}
}

// run reads both sockets until ctx ends, and returns when everything that it
// started has ended.
func (t *transport) run(ctx context.Context) {
	var wg sync.WaitGroup
	wg.Go(func() { t.readDatagrams(ctx) })
	wg.Go(func() { t.accept(ctx, &wg) })
	<-ctx.Done()
	t.close()
	wg.Wait()
}

func (t *transport) readDatagrams(ctx context.Context) {
	buf := make([]byte, 64<<10)
	for {
		n, from, err := t.udp.ReadFromUDPAddrPort(buf)
		if err != nil {
			if errors.Is(err, net.ErrClosed) || ctx.Err() != nil {
				return
			}
			// Windows reports the ICMP answer to an earlier send here: read on.
			t.log.Debug("read datagram", "err", err)
			pause(ctx, time.Millisecond)
			continue
		}
		if n == 0 {
			continue
		}
		from = netip.AddrPortFrom(from.Addr().Unmap(), from.Port())
		if buf[0] == ourByte {
			if n <= maxDatagram {
				t.datagram(buf[1:n], from)
			}
			continue
		}
		if !t.ofEngine(buf[:n], 0) {
			continue
		}
		if l := t.current.Load(); l != nil {
			l.deliver(ctx, &memberlist.Packet{
				Buf: bytes.Clone(buf[:n]), From: net.UDPAddrFromAddrPort(from), Timestamp: time.Now(),
			})
		}
	}
}

func (t *transport) accept(ctx context.Context, wg *sync.WaitGroup) {
	for {
		conn, err := t.tcp.Accept()
		if err != nil {
			if errors.Is(err, net.ErrClosed) || ctx.Err() != nil {
				return
			}
			t.log.Warn("accept gossip stream", "err", err) // out of descriptors
			pause(ctx, 100*time.Millisecond)
			continue
		}
		tracked, ok := t.admit(conn)
		if !ok {
			_ = conn.Close()
			continue
		}
		wg.Go(func() { t.dispatch(ctx, tracked) })
	}
}

// dispatch reads the first byte of a stream and hands it to whom it is for.
func (t *transport) dispatch(ctx context.Context, conn *trackedConn) {
	_ = conn.SetReadDeadline(time.Now().Add(firstByteTimeout))
	var first [1]byte
	if _, err := conn.Conn.Read(first[:]); err != nil {
		_ = conn.Close()
		return
	}
	if first[0] == ourByte {
		t.stream(ctx, conn)
		_ = conn.Close()
		return
	}
	head := make([]byte, len(t.header), len(t.header)+sealedStream+1)
	if t.sealed {
		head = head[:cap(head)]
	}
	conn.first = first[:]
	if _, err := io.ReadFull(conn, head); err != nil || !t.ofEngine(head, sealedStream) {
		_ = conn.Close()
		return
	}
	_ = conn.SetReadDeadline(time.Time{}) // the engine sets its own
	conn.first = head
	l := t.current.Load()
	if l == nil {
		_ = conn.Close()
		return
	}
	select {
	case l.streams <- conn:
	case <-l.ctx.Done():
		_ = conn.Close()
	case <-ctx.Done():
		_ = conn.Close()
	}
}

// sealedStream is what precedes the encryption version in a stream: the message
// type and four bytes of length.
const sealedStream = 5

// ofEngine looks at the first bytes of what may be for the gossip engine: it
// must carry this mesh's label, which spares the engine (and the log) other
// meshes' packets. In a mesh with a key it must be encrypted in memberlist's
// version 1: version 0 pads, and memberlist panics when the padding is wrong.
func (t *transport) ofEngine(b []byte, before int) bool {
	rest, ok := bytes.CutPrefix(b, t.header)
	if !ok {
		return false
	}
	return !t.sealed || (len(rest) > before && rest[before] == 1)
}

// admit counts conn in, unless there are too many.
func (t *transport) admit(conn net.Conn) (*trackedConn, bool) {
	host := conn.RemoteAddr().(*net.TCPAddr).AddrPort().Addr().Unmap()
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed || len(t.conns) >= maxStreams || t.perHost[host] >= maxStreamsPerHost {
		return nil, false
	}
	t.conns[conn] = host
	t.perHost[host]++
	return &trackedConn{Conn: conn, t: t}, true
}

func (t *transport) release(conn net.Conn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	host, ok := t.conns[conn]
	if !ok {
		return
	}
	delete(t.conns, conn)
	if t.perHost[host]--; t.perHost[host] <= 0 {
		delete(t.perHost, host)
	}
}

// send writes one of our datagrams; the first byte is added.
func (t *transport) send(b []byte, to netip.AddrPort) error {
	t.sent.datagram(1 + len(b))
	_, err := t.udp.WriteToUDPAddrPort(append([]byte{ourByte}, b...), to)
	return err
}

// trackedConn is an inbound stream: it gives back the byte that was read from
// it, and is counted until it is closed.
type trackedConn struct {
	net.Conn
	t     *transport
	first []byte
}

func (c *trackedConn) Read(p []byte) (int, error) {
	if len(c.first) > 0 {
		n := copy(p, c.first)
		c.first = c.first[n:]
		return n, nil
	}
	return c.Conn.Read(p)
}

func (c *trackedConn) Write(p []byte) (int, error) { return c.t.sent.stream(c.Conn, p) }

func (c *trackedConn) Close() error {
	c.t.release(c.Conn)
	return c.Conn.Close()
}

// pause waits for d or until ctx ends.
func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
