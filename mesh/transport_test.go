package mesh

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/memberlist"
)

var quietLog = slog.New(slog.DiscardHandler)

// openTransport runs a transport on loopback until the test ends.
func openTransport(t *testing.T, datagram func([]byte, netip.AddrPort), stream func(context.Context, net.Conn)) *transport {
	t.Helper()
	tr, err := newTransport(netip.MustParseAddrPort("127.0.0.1:0"), "mesh", false, quietLog)
	if err != nil {
		t.Fatal(err)
	}
	tr.datagram, tr.stream = datagram, stream
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { tr.run(ctx); close(done) }()
	t.Cleanup(func() { cancel(); <-done })
	return tr
}

func noDatagram([]byte, netip.AddrPort)      {}
func noStream(_ context.Context, _ net.Conn) {}

func receive[T any](t *testing.T, what string, c <-chan T) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(30 * time.Second):
		t.Fatalf("%s did not come", what)
		panic("unreachable")
	}
}

func TestTransportSortsDatagrams(t *testing.T) {
	ours := make(chan string, 8)
	tr := openTransport(t, func(b []byte, _ netip.AddrPort) { ours <- string(b) }, noStream)
	sender := openTransport(t, noDatagram, noStream)
	l := tr.newLink(tr.bound())

	if err := sender.send([]byte("load"), tr.bound()); err != nil {
		t.Fatal(err)
	}
	if got := receive(t, "our datagram", ours); got != "load" {
		t.Errorf("got %q", got)
	}
	from := sender.newLink(sender.bound())
	for _, sent := range []string{"\xf4\x04mesh", "\xf4\x04mesh\x00x", "\xf4\x04mesh\x0d"} {
		// Of another mesh, without a label, cut: these come first and must not
		// get through.
		for _, foreign := range []string{"\xf4\x05other\x00", "\x00x", "\x0d", "\xf4\x04mes"} {
			if _, err := from.WriteTo([]byte(foreign), tr.bound().String()); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := from.WriteToAddress([]byte(sent), memberlist.Address{Addr: tr.bound().String(), Name: "n"}); err != nil {
			t.Fatal(err)
		}
		p := receive(t, "memberlist's datagram", l.PacketCh())
		if string(p.Buf) != sent || p.Timestamp.IsZero() {
			t.Errorf("got %q, want %q", p.Buf, sent)
		}
		if p.From.String() != sender.bound().String() {
			t.Errorf("from %v, want %v", p.From, sender.bound())
		}
	}
	// A huge one of ours is dropped, an empty one harmless, and both are
	// followed by a good one.
	for _, b := range [][]byte{make([]byte, 4000), nil, []byte("again")} {
		if err := sender.send(b, tr.bound()); err != nil {
			t.Fatal(err)
		}
	}
	for _, want := range []string{"", "again"} {
		if got := receive(t, "our datagram", ours); got != want {
			t.Errorf("got %d bytes, want %q", len(got), want)
		}
	}
	if err := l.Shutdown(); err != nil {
		t.Fatal(err)
	}
	if _, err := l.WriteTo([]byte{1}, tr.bound().String()); !errors.Is(err, net.ErrClosed) {
		t.Errorf("an engine that has ended still sends: %v", err)
	}
}

func TestTransportSortsStreams(t *testing.T) {
	ours := make(chan string, 1)
	tr := openTransport(t, noDatagram, func(_ context.Context, c net.Conn) {
		b, _ := io.ReadAll(c)
		ours <- string(b)
	})
	l := tr.newLink(tr.bound())
	for _, tt := range []struct {
		sent, want string
		ours       bool
	}{{"Khello", "hello", true}, {"\xf4\x04mesh", "\xf4\x04mesh", false}, {"\xf4\x04mesh\x06body", "\xf4\x04mesh\x06body", false}} {
		conn, err := l.DialAddressTimeout(memberlist.Address{Addr: tr.bound().String()}, time.Second)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(conn, tt.sent); err != nil {
			t.Fatal(err)
		}
		var got string
		if tt.ours {
			conn.Close()
			got = receive(t, "our stream", ours)
		} else {
			in := receive(t, "memberlist's stream", l.StreamCh())
			conn.Close()
			b, err := io.ReadAll(in)
			if err != nil {
				t.Fatal(err)
			}
			got = string(b)
			in.Close()
		}
		if got != tt.want {
			t.Errorf("%q arrives as %q", tt.sent, got)
		}
	}
}

// What is not of this mesh, or not encrypted where it must be, does not reach
// the gossip engine.
func TestTransportKnowsItsEnginesPackets(t *testing.T) {
	const head = "\xf4\x04mesh"
	tests := []struct {
		name   string
		sealed bool
		before int
		bytes  string
		want   bool
	}{
		{"open", false, 0, head + "\x00", true},
		{"open, empty", false, 0, head, true},
		{"other label", false, 0, "\xf4\x04mush\x00", false},
		{"no label", false, 0, "\x00", false},
		{"nothing", false, 0, "", false},
		{"sealed", true, 0, head + "\x01xyz", true},
		{"padded encryption", true, 0, head + "\x00xyz", false},
		{"plain in a keyed mesh", true, 0, head + "\x08xyz", false},
		{"sealed, cut", true, 0, head, false},
		{"sealed stream", true, sealedStream, head + "\x0a\x00\x00\x00\x05\x01", true},
		{"padded stream", true, sealedStream, head + "\x0a\x00\x00\x00\x05\x00", false},
		{"cut stream", true, sealedStream, head + "\x0a\x00\x00\x00\x05", false},
	}
	for _, tt := range tests {
		tr := &transport{header: []byte(head), sealed: tt.sealed}
		if got := tr.ofEngine([]byte(tt.bytes), tt.before); got != tt.want {
			t.Errorf("%s: %v", tt.name, got)
		}
	}
}

// Strangers cannot make the gossip port hold any number of connections.
func TestTransportBoundsStreams(t *testing.T) {
	entered := make(chan struct{}, 2*maxStreamsPerHost)
	release := make(chan struct{})
	tr := openTransport(t, noDatagram, func(ctx context.Context, c net.Conn) {
		entered <- struct{}{}
		select {
		case <-release:
		case <-ctx.Done():
		}
	})
	var conns []net.Conn
	defer func() {
		for _, c := range conns {
			c.Close()
		}
	}()
	open := func() net.Conn {
		c, err := net.Dial("tcp", tr.bound().String())
		if err != nil {
			t.Fatal(err)
		}
		conns = append(conns, c)
		if _, err := c.Write([]byte{ourByte}); err != nil {
			t.Log(err)
		}
		return c
	}
	for range maxStreamsPerHost {
		open()
	}
	for range maxStreamsPerHost {
		receive(t, "a stream within the bound", entered)
	}
	extra := open()
	if err := extra.SetReadDeadline(time.Now().Add(30 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := extra.Read(make([]byte, 1)); err == nil || errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("one more is held, too: %v", err)
	}
	close(release) // when the others end there is room again
	for len(entered) == 0 {
		open()
		select {
		case <-entered:
			return
		case <-time.After(5 * time.Millisecond):
		}
	}
}

func TestBindTakesOnePortForBoth(t *testing.T) {
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			tcp, udp, err := bind(netip.AddrPort{})
			if err != nil {
				t.Error(err)
				return
			}
			defer tcp.Close()
			defer udp.Close()
			if a, b := tcp.Addr().(*net.TCPAddr).Port, udp.LocalAddr().(*net.UDPAddr).Port; a != b || a == 0 {
				t.Errorf("ports %d and %d", a, b)
			}
		})
	}
	wg.Wait()
}

func TestBindErrorsNameThePort(t *testing.T) {
	// A port that nobody has over TCP, which this test then takes over UDP.
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	udp, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(tcp.Addr().(*net.TCPAddr).AddrPort()))
	if err != nil {
		t.Fatalf("UDP port %v: %v", tcp.Addr(), err)
	}
	defer udp.Close()
	tcp.Close()
	addr := udp.LocalAddr().(*net.UDPAddr).AddrPort()
	_, _, err = bind(netip.AddrPortFrom(addr.Addr().Unmap(), addr.Port()))
	var pe *PortInUseError
	if !errors.As(err, &pe) || pe.Network != "udp" || pe.Addr.Port() != addr.Port() || !errors.Is(err, ErrPortInUse) {
		t.Errorf("got %v", err)
	}
	// The TCP half must not stay bound.
	ln, err := net.Listen("tcp", addr.String())
	if err != nil {
		t.Fatalf("the TCP port is still taken: %v", err)
	}
	ln.Close()
}

// Both kinds of address reach a port bound for all interfaces.
func TestAllInterfaces(t *testing.T) {
	got := make(chan string, 2)
	tr, err := newTransport(netip.AddrPortFrom(netip.IPv6Unspecified(), 0), "mesh", false, quietLog)
	if err != nil {
		t.Fatal(err)
	}
	tr.datagram = func(_ []byte, from netip.AddrPort) { got <- from.Addr().String() }
	tr.stream = noStream
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { tr.run(ctx); close(done) }()
	defer func() { cancel(); <-done }()
	if !tr.bound().Addr().IsUnspecified() {
		t.Errorf("bound to %v", tr.bound())
	}
	if err := tr.send([]byte("x"), netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), tr.bound().Port())); err != nil {
		t.Fatal(err)
	}
	if from := receive(t, "datagram", got); from != "127.0.0.1" {
		t.Errorf("from %s", from)
	}
}
