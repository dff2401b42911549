package lane

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"
)

// ends are those of a connection over loopback: one dialled, and one accepted.
func ends(t *testing.T) (dialled, accepted net.Conn) {
	t.Helper()
	raw, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := Sockets(raw)
	defer l.Close()
	c, err := new(net.Dialer).DialContext(t.Context(), "tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	accepted, err = l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = accepted.Close() })
	for _, end := range []net.Conn{c, accepted} {
		if err := end.SetDeadline(time.Now().Add(limit)); err != nil {
			t.Fatal(err)
		}
	}
	return Socket(c), accepted
}

// Whatever one end writes the other one reads, both ways at once, also when it
// is more than the kernel takes or one call moves.
func TestSocketsCarryEverything(t *testing.T) {
	a, b := ends(t)
	text := make([]byte, 8<<20)
	for i := range text {
		text[i] = byte(i * 7 / 3)
	}
	errs := make(chan error, 2)
	for _, c := range []net.Conn{a, b} {
		go func() {
			n, err := c.Write(text)
			if n != len(text) {
				err = errors.Join(err, io.ErrShortWrite)
			}
			errs <- err
		}()
	}
	for _, c := range []net.Conn{a, b} {
		got := make([]byte, len(text))
		if _, err := io.ReadFull(c, got); err != nil || !bytes.Equal(got, text) {
			t.Errorf("read: %v, the same: %v", err, bytes.Equal(got, text))
		}
	}
	for range 2 {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
}

// A socket ends, fails and loses patience as any connection: net/http tells
// these from each other by type.
func TestSocketsFailLikeAnyConnection(t *testing.T) {
	var p [8]byte
	wrong := func(t *testing.T, err error, op string, want error) {
		t.Helper()
		if e, ok := errors.AsType[*net.OpError](err); !ok || e.Op != op || !errors.Is(err, want) {
			t.Errorf("%T %v, want %s of %v", err, err, op, want)
		}
	}
	t.Run("end", func(t *testing.T) {
		a, b := ends(t)
		_, _ = b.Write([]byte("ab"))
		_ = b.(interface{ CloseWrite() error }).CloseWrite()
		if got, err := io.ReadAll(a); string(got) != "ab" || err != nil {
			t.Errorf("%q, %v", got, err)
		}
		if n, err := a.Read(p[:]); n != 0 || err != io.EOF { //nolint:errorlint // io.Reader's contract is the bare value
			t.Errorf("%d, %v", n, err)
		}
	})
	t.Run("nothing", func(t *testing.T) {
		a, _ := ends(t)
		if n, err := a.Read(nil); n != 0 || err != nil {
			t.Errorf("read %d, %v", n, err)
		}
		if n, err := a.Write(nil); n != 0 || err != nil {
			t.Errorf("wrote %d, %v", n, err)
		}
	})
	t.Run("deadlines", func(t *testing.T) {
		a, b := ends(t)
		_ = a.SetDeadline(time.Unix(1, 0))
		_, err := a.Read(p[:])
		wrong(t, err, "read", os.ErrDeadlineExceeded)
		if !isTimeout(err) {
			t.Error("no timeout")
		}
		_, err = a.Write(p[:])
		wrong(t, err, "write", os.ErrDeadlineExceeded)
		_ = a.SetDeadline(time.Now().Add(limit))
		_, _ = b.Write([]byte("x"))
		if n, err := a.Read(p[:]); n != 1 || err != nil {
			t.Errorf("afterwards: %d, %v", n, err)
		}
		// Of a write that has begun.
		much := make([]byte, 64<<20)
		_ = a.SetWriteDeadline(time.Now().Add(time.Second))
		n, err := a.Write(much)
		wrong(t, err, "write", os.ErrDeadlineExceeded)
		if n == 0 || n == len(much) {
			t.Errorf("%d bytes to somebody who reads none", n)
		}
	})
	t.Run("closed", func(t *testing.T) {
		a, _ := ends(t)
		reads := make(chan error, 1)
		go func() {
			_, err := a.Read(p[:])
			reads <- err
		}()
		_ = a.Close()
		wrong(t, <-reads, "read", net.ErrClosed)
		_, err := a.Write(p[:])
		wrong(t, err, "write", net.ErrClosed)
	})
	t.Run("reset", func(t *testing.T) {
		a, b := ends(t)
		_ = b.(interface{ SetLinger(int) error }).SetLinger(0)
		_ = b.Close()
		_, err := a.Read(p[:])
		if e, ok := errors.AsType[*net.OpError](err); !ok || e.Op != "read" {
			t.Errorf("%T %v", err, err)
		}
	})
}
