package relay

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"runtime"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestDue(t *testing.T) {
	now := time.Unix(1000, 0)
	for _, c := range []struct {
		name string
		line Line
		draw float64
		free time.Duration // after now
		want time.Duration // after now
	}{
		{name: "nothing"},
		{name: "delay", line: Line{Delay: 50}, want: 50},
		{name: "jitter adds", line: Line{Delay: 50, Jitter: 20}, draw: 0.5, want: 60},
		{name: "jitter takes away", line: Line{Delay: 50, Jitter: 20}, draw: -1, want: 30},
		{name: "never before it came", line: Line{Delay: 5, Jitter: 20}, draw: -1},
		{name: "a busy line waits", line: Line{Delay: 50, Rate: 10}, free: 90, want: 90},
		{name: "a free line does not", line: Line{Delay: 50, Rate: 10}, free: 20, want: 50},
		{name: "without a rate the line is never busy", line: Line{Delay: 50}, free: 90, want: 50},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := c.line.due(now, c.draw, now.Add(c.free)).Sub(now); got != c.want {
				t.Errorf("due after %d, want %d", got, c.want)
			}
		})
	}
}

func TestPacing(t *testing.T) {
	for _, c := range []struct {
		rate, bytes, chunk int
		busy               time.Duration
	}{
		{0, 1000, maxChunk, 0},
		{1, 10, 1, 10 * time.Second},
		{1000, 500, 50, 500 * time.Millisecond},
		{1 << 30, 1 << 30, maxChunk, time.Second},
	} {
		l := Line{Rate: c.rate}
		if got := l.busy(c.bytes); got != c.busy {
			t.Errorf("rate %d: %d bytes take %s, want %s", c.rate, c.bytes, got, c.busy)
		}
		if got := l.chunk(); got != c.chunk {
			t.Errorf("rate %d: chunk %d, want %d", c.rate, got, c.chunk)
		}
	}
}

func TestLost(t *testing.T) {
	for _, c := range []struct {
		line Line
		draw float64
		want bool
	}{{Line{}, 0, false}, {Line{Loss: 0.3}, 0.29, true}, {Line{Loss: 0.3}, 0.3, false}, {Line{Loss: 1}, 0.999, true}, {Line{Cut: true}, 0.999, true}} {
		if got := c.line.lost(c.draw); got != c.want {
			t.Errorf("%+v draw %v: lost %v", c.line, c.draw, got)
		}
	}
}

func TestStreamArrivesWholeThroughABadLine(t *testing.T) {
	r := Start(t, Config{Target: echoTCP(t), Faults: Both(Line{Delay: 2 * time.Millisecond, Jitter: 2 * time.Millisecond, Rate: 20 << 20, Loss: 0.5})})
	sent := noise(1 << 20)
	c := dial(t, r)
	go func() {
		_, _ = c.Write(sent)
		_ = c.(*net.TCPConn).CloseWrite()
	}()
	got, err := io.ReadAll(c)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, sent) {
		t.Errorf("%d bytes came back changed, %d sent", len(got), len(sent))
	}
}

func TestDelayHoldsBothWays(t *testing.T) {
	r := Start(t, Config{Target: echoTCP(t), Faults: Both(Line{Delay: 40 * time.Millisecond})})
	c := dial(t, r)
	start := time.Now()
	say(t, c, "ping")
	hear(t, c, "ping")
	if took := time.Since(start); took < 80*time.Millisecond {
		t.Errorf("round trip %s, want at least 80ms", took)
	}
}

func TestRateDrips(t *testing.T) {
	r := Start(t, Config{Target: echoTCP(t), Faults: Faults{Down: Line{Rate: 100}}})
	c := dial(t, r)
	start := time.Now()
	say(t, c, "0123456789abcdef")
	reads := 0
	for left := 16; left > 0; reads++ {
		n, err := c.Read(make([]byte, 16))
		if err != nil {
			t.Fatal(err)
		}
		left -= n
	}
	// 16 bytes at 100 a second: the last may leave 110 ms after the first (chunks of 5).
	if took := time.Since(start); took < 110*time.Millisecond || reads < 2 {
		t.Errorf("%d reads in %s, want several over at least 110ms", reads, took)
	}
}

func TestCutHoldsAStreamAndHealReleasesIt(t *testing.T) {
	r := Start(t, Config{Target: echoTCP(t)})
	c := dial(t, r)
	say(t, c, "a")
	hear(t, c, "a")

	r.Set(Faults{Down: Line{Cut: true}})
	say(t, c, "b")
	_ = c.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	if n, err := c.Read(make([]byte, 1)); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("read %d bytes, %v across the cut", n, err)
	}
	_ = c.SetReadDeadline(time.Time{})
	r.Set(Faults{})
	hear(t, c, "b")
}

func TestSetShortensAWaitThatHasBegun(t *testing.T) {
	r := Start(t, Config{Target: echoTCP(t), Faults: Both(Line{Delay: time.Hour})})
	c := dial(t, r)
	say(t, c, "late")
	r.Set(Faults{})
	hear(t, c, "late")
}

func TestResetReachesBothEnds(t *testing.T) {
	ln := listen(t)
	r := Start(t, Config{Target: ln.Addr().String()})
	c := dial(t, r)
	far, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer far.Close()
	say(t, c, "x")
	hear(t, far, "x")
	if n := r.Reset(); n != 1 {
		t.Fatalf("%d connections reset, want 1", n)
	}
	for name, conn := range map[string]net.Conn{"client": c, "target": far} {
		if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("%s sees %v, want a reset", name, err)
		}
	}
}

func TestResetOfOneSideReachesTheOther(t *testing.T) {
	ln := listen(t)
	r := Start(t, Config{Target: ln.Addr().String()})
	c := dial(t, r)
	far, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	reset(far)
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("client sees %v, want a reset and not a clean end", err)
	}
}

func TestRefuse(t *testing.T) {
	for name, faults := range map[string]Faults{"asked to": {Refuse: true}, "no target": {}} {
		t.Run(name, func(t *testing.T) {
			ln := listen(t)
			if name == "no target" {
				_ = ln.Close()
			}
			r := Start(t, Config{Target: ln.Addr().String(), Faults: faults})
			// The reset may overtake the connect.
			c, err := host{}.DialContext(t.Context(), "tcp", r.Addr().String())
			if err == nil {
				defer c.Close()
				_, err = c.Read(make([]byte, 1))
			}
			if !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("error %v, want a reset", err)
			}
			if got := r.Stats(); got.Refused != 1 || got.Streams != 0 {
				t.Errorf("stats %+v", got)
			}
		})
	}
}

func TestDatagrams(t *testing.T) {
	target := echoUDP(t)
	for _, c := range []struct {
		name   string
		faults Faults
		least  time.Duration
	}{
		{"clean", Faults{}, 0},
		{"delayed", Both(Line{Delay: 20 * time.Millisecond}), 40 * time.Millisecond},
		{"paced", Faults{Up: Line{Rate: 1000}}, 100 * time.Millisecond}, // the 2nd of two 100-byte datagrams
	} {
		t.Run(c.name, func(t *testing.T) {
			r := Start(t, Config{Target: target, Faults: c.faults})
			conn := dialUDP(t, r)
			start := time.Now()
			for i := range 2 {
				say(t, conn, string(bytes.Repeat([]byte{byte('a' + i)}, 100)))
			}
			got := map[byte]bool{}
			for range 2 {
				b := make([]byte, 200)
				n, err := conn.Read(b)
				if err != nil || n != 100 {
					t.Fatalf("read %d, %v", n, err)
				}
				got[b[0]] = true
			}
			if took := time.Since(start); took < c.least || len(got) != 2 {
				t.Errorf("%v in %s, want both after at least %s", got, took, c.least)
			}
			if s := r.Stats(); s.Datagrams != 4 || s.Lost != 0 {
				t.Errorf("stats %+v", s)
			}
		})
	}
}

func TestLossIsTheShareAskedFor(t *testing.T) {
	sink, err := host{}.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer sink.Close()
	r := Start(t, Config{Target: sink.LocalAddr().String(), Seed: 7, Faults: Faults{Up: Line{Loss: 0.3}}})
	conn := dialUDP(t, r)
	const sent = 1000
	for i := range sent { // one at a time, so that no socket buffer overflows
		say(t, conn, strconv.Itoa(i))
		for s := r.Stats(); s.Lost+s.Datagrams <= i; s = r.Stats() {
			runtime.Gosched()
		}
	}
	if s := r.Stats(); s.Lost < 230 || s.Lost > 370 {
		t.Errorf("%d of %d lost, want about 300", s.Lost, sent)
	}
}

func TestNewReportsATakenPort(t *testing.T) {
	ln := listen(t)
	if _, err := New(Config{Listen: ln.Addr().String()}); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("error %v, want address in use", err)
	}
}

func TestRunEndsWithOpenConnections(t *testing.T) {
	r, err := New(Config{Target: echoTCP(t)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- r.Run(ctx) }()
	c := dial(t, r)
	say(t, c, "x")
	hear(t, c, "x")
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("Run: %v", err)
	}
	if _, err := c.Read(make([]byte, 1)); err == nil {
		t.Error("the connection is still open")
	}
}

func noise(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(b)
	return b
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	ln, err := host{}.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() })
	return ln
}

func echoTCP(t *testing.T) string {
	t.Helper()
	ln := listen(t)
	var conns sync.WaitGroup
	conns.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			conns.Go(func() {
				_, _ = io.Copy(c, c)
				_ = c.Close()
			})
		}
	})
	t.Cleanup(func() {
		_ = ln.Close()
		conns.Wait()
	})
	return ln.Addr().String()
}

func echoUDP(t *testing.T) string {
	t.Helper()
	conn, err := host{}.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var loop sync.WaitGroup
	loop.Go(func() {
		b := make([]byte, 1<<16)
		for {
			n, from, err := conn.ReadFrom(b)
			if err != nil {
				return
			}
			_, _ = conn.WriteTo(b[:n], from)
		}
	})
	t.Cleanup(func() {
		_ = conn.Close()
		loop.Wait()
	})
	return conn.LocalAddr().String()
}

func dial(t *testing.T, r *Relay) net.Conn { return dialNet(t, "tcp", r) }

func dialUDP(t *testing.T, r *Relay) net.Conn { return dialNet(t, "udp", r) }

func dialNet(t *testing.T, network string, r *Relay) net.Conn {
	t.Helper()
	c, err := host{}.DialContext(t.Context(), network, r.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func say(t *testing.T, c net.Conn, text string) {
	t.Helper()
	if _, err := io.WriteString(c, text); err != nil {
		t.Fatal(err)
	}
}

func hear(t *testing.T, c net.Conn, text string) {
	t.Helper()
	b := make([]byte, len(text))
	if _, err := io.ReadFull(c, b); err != nil || string(b) != text {
		t.Fatalf("heard %q, %v; want %q", b, err, text)
	}
}
