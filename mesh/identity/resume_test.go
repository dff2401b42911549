package identity

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/netip"
	"sync/atomic"
	"testing"
)

// A second connection resumes the session of the first, without an exchange of
// post-quantum keys of its own. A peer that has forgotten the session is met in
// full again.
func TestConnectionsResume(t *testing.T) {
	server, caller := newID(t), newID(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var config atomic.Pointer[tls.Config]
	config.Store(server.ServerTLS(anyone))
	done := make(chan struct{})
	t.Cleanup(func() { _ = l.Close(); <-done })
	go func() {
		defer close(done)
		for {
			raw, err := l.Accept()
			if err != nil {
				return
			}
			c := tls.Server(raw, config.Load())
			_, _ = io.WriteString(c, "x") // the session comes with it
			_, _ = io.Copy(io.Discard, c)
			_ = c.Close()
		}
	}()
	addr := netip.MustParseAddrPort(l.Addr().String())
	dial := caller.Dialer(func(NodeID) (netip.AddrPort, error) { return addr, nil }, TransportOptions{}, "h2")
	for i, want := range []struct {
		resumed bool
		curve   tls.CurveID
	}{{false, tls.X25519MLKEM768}, {true, tls.X25519}, {true, tls.X25519}, {false, tls.X25519MLKEM768}, {true, tls.X25519}} {
		if i == 3 {
			config.Store(server.ServerTLS(anyone)) // with other ticket keys
		}
		c, err := dial(context.Background(), server.ID())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		if s := c.(*tls.Conn).ConnectionState(); s.DidResume != want.resumed || s.CurveID != want.curve {
			t.Errorf("connection %d: resumed %v, keys by %v", i, s.DidResume, s.CurveID)
		}
		_ = c.Close()
	}
}

// What a connection costs both sides.
func BenchmarkHandshake(b *testing.B) {
	for _, name := range []string{"full", "resumed"} {
		b.Run(name, func(b *testing.B) {
			server, err := New()
			if err != nil {
				b.Fatal(err)
			}
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				b.Fatal(err)
			}
			defer l.Close()
			config := server.ServerTLS(anyone)
			go func() {
				for {
					raw, err := l.Accept()
					if err != nil {
						return
					}
					c := tls.Server(raw, config)
					_, _ = io.WriteString(c, "x")
					_ = c.Close()
				}
			}()
			addr := netip.MustParseAddrPort(l.Addr().String())
			d := server.dialer(func(NodeID) (netip.AddrPort, error) { return addr, nil }, TransportOptions{}, []string{"h2"})
			b.ReportAllocs()
			for b.Loop() {
				if name == "full" {
					clear(d.configs)
				}
				c, err := d.to(context.Background(), "tcp", server.ID())
				if err != nil {
					b.Fatal(err)
				}
				_, _ = io.ReadFull(c, make([]byte, 1))
				_ = c.Close()
			}
		})
	}
}
