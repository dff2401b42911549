package lane

import (
	"net"
	"net/http"
	"os"
	"sync/atomic"
	"syscall"
	"testing"
)

// tired has no descriptor for the first few connections.
type tired struct {
	net.Listener
	left atomic.Int32
}

func (l *tired) Accept() (net.Conn, error) {
	if l.left.Add(-1) >= 0 {
		return nil, &net.OpError{Op: "accept", Net: "tcp", Err: os.NewSyscallError("accept4", syscall.EMFILE)}
	}
	return l.Listener.Accept()
}

// A node without descriptors waits for some, as net/http does; it used to end.
func TestTooManyOpenFilesIsNoEnd(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	few := &tired{Listener: l}
	few.left.Store(3)
	s := &Server{HTTP: &http.Server{Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}), ReadHeaderTimeout: limit}}
	done := make(chan error, 1)
	go func() { done <- s.Serve(few) }()
	tr := client()
	if resp, _ := ask(t, tr, http.MethodGet, "http://"+l.Addr().String()+"/", ""); resp.StatusCode != http.StatusOK {
		t.Errorf("status %d", resp.StatusCode)
	}
	tr.CloseIdleConnections()
	_ = s.Close()
	<-done //nolint:errcheck // it was closed
}
