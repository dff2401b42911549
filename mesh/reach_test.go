package mesh

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"syscall"
	"testing"
	"time"
)

func TestReachBothWays(t *testing.T) {
	for _, keyed := range []bool{false, true} {
		t.Run(fmt.Sprintf("keyed %v", keyed), func(t *testing.T) {
			key := NewKey()
			meshes := pair(t, func(_ int, c *Config) {
				if keyed {
					c.Keys = []Key{key}
				}
			}, func(int, *Mesh) {})
			wait(t, meshes[0], func(v *View) bool { return len(v.Members()) == 2 })
			got := meshes[0].Reach(t.Context())
			if len(got) != 1 {
				t.Fatalf("%+v", got)
			}
			r := got[0]
			all := Datagram{There: true, Back: true}
			if !r.Asked || r.Link.Kind+r.Gossip.Kind+r.BackLink.Kind+r.BackGossip.Kind != "" || r.Small != all || r.Large != all {
				t.Errorf("%+v", r)
			}
			if r.RTT <= 0 || r.Offset.Abs() > time.Second {
				t.Errorf("rtt %v, offset %v", r.RTT, r.Offset)
			}
			if err := meshes[0].Greet(t.Context(), meshes[1].Addr().String()); err != nil {
				t.Error(err)
			}
		})
	}
}

// wait waits for a View.
func wait(t *testing.T, m *Mesh, ok func(*View) bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if _, err := m.Wait(ctx, ok); err != nil {
		t.Fatal(err)
	}
}

// Strangers get no echo, and who may have one cannot make a node send more than
// it got.
func TestEchoesAreForWhoAgreedOnThem(t *testing.T) {
	now := time.Now()
	from := netip.MustParseAddrPort("192.0.2.1:11437")
	var sent []int
	e := newEchoes(func(b []byte, _ netip.AddrPort) error { sent = append(sent, len(b)+1); return nil })
	stranger, known := newToken(), newToken()
	if !e.expect(known, false, now) {
		t.Fatal("no room")
	}
	if !e.take(echo(echoAsk, stranger, 1232), from, now) || len(sent) != 0 {
		t.Fatalf("a stranger got %v", sent)
	}
	for range 3 * echoLimit {
		e.take(echo(echoAsk, known, 1232), from, now)
	}
	e.take(echo(echoAnswer, known, 64), from, now)             // an answer that was not asked for
	e.take([]byte{echoVersion, echoAsk, 1}, from, now)         // too short
	e.take(echo(echoAsk, known, 64), from, now.Add(2*echoFor)) // too late
	if len(sent) != echoLimit || slices.Max(sent) != 1232 {
		t.Errorf("%d datagrams of up to %d bytes", len(sent), slices.Max(sent))
	}
	if sizes, _ := e.heard(known); !slices.Equal(sizes, []int{1232}) {
		t.Errorf("heard %v", sizes)
	}
	for _, beacon := range []byte{beaconSigned, beaconPaired, beaconAnswer} {
		if e.take([]byte{beacon, 0}, from, now) {
			t.Error("a beacon was taken for an echo")
		}
	}
	for range 2 * maxTokens {
		e.expect(newToken(), false, now)
	}
	if len(e.tokens) > maxTokens {
		t.Errorf("%d tokens", len(e.tokens))
	}
}

func TestFaultOf(t *testing.T) {
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := closed.Addr().String()
	_ = closed.Close()
	_, refused := net.Dial("tcp", addr)
	for _, c := range []struct {
		err  error
		kind string
	}{
		{nil, ""},
		{refused, "refused"},
		{fmt.Errorf("dial: %w", context.DeadlineExceeded), "timeout"},
		{&net.OpError{Op: "dial", Err: syscall.EHOSTUNREACH}, "unreachable"},
		{net.ErrClosed, "other"},
	} {
		if got := faultOf(c.err); got.Kind != c.kind {
			t.Errorf("%v: %+v, want %s", c.err, got, c.kind)
		}
	}
	for status, kind := range map[errStatus]string{403: "forbidden", 404: "old", 500: "other"} {
		if got := linkFault(fmt.Errorf("x: %w", status)); got.Kind != kind {
			t.Errorf("%d: %+v", status, got)
		}
	}
	if got := linkFault(context.DeadlineExceeded); got.Kind != "handshake" {
		t.Errorf("%+v", got)
	}
}
