package guard

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
)

// await polls until ok, or ends the test.
func await(t testing.TB, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(20 * time.Second); !ok(); <-tick.C {
		if time.Now().After(end) {
			t.Fatalf("not %s", what)
		}
	}
}

// Whoever opens connections and says nothing loses the oldest of them; nobody
// else loses anything.
func TestIdleConnectionsGiveWay(t *testing.T) {
	d := open(t, Config{Conns: 40, PerAddr: 5}, "") // loopback: 20
	var idle []net.Conn
	for range 60 {
		c, err := net.Dial("tcp", d.addr)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		idle = append(idle, c)
		resp, text := do(t, "GET", "http://"+d.addr+"/api/tags", "")
		if resp.StatusCode != 200 {
			t.Fatalf("beside %d idle connections: %s %s", len(idle), resp.Status, text)
		}
	}
	_ = idle[0].SetReadDeadline(time.Now().Add(10 * time.Second))
	if _, err := idle[0].Read(make([]byte, 1)); err != io.EOF && !isReset(err) { //nolint:errorlint // net.Conn's contract
		t.Errorf("the oldest idle connection: %v", err)
	}
}

func isReset(err error) bool { return err != nil && strings.Contains(err.Error(), "reset") }

// Connections that carry requests are never the ones to give way.
func TestBusyConnectionsStay(t *testing.T) {
	g, err := New(Config{Conns: 8, PerAddr: 1}) // loopback: 4
	if err != nil {
		t.Fatal(err)
	}
	d := serve(t, g, "")
	d.echo.hold = make(chan struct{})
	results := make(chan string, 4)
	for range 4 {
		go func() {
			req, _ := http.NewRequestWithContext(context.Background(), "GET", "http://"+d.addr+"/api/tags", nil)
			resp, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(req)
			if err != nil {
				results <- err.Error()
				return
			}
			defer resp.Body.Close()
			body, _ := io.ReadAll(resp.Body)
			results <- string(body)
		}()
	}
	await(t, "four requests inside", func() bool { return len(d.echo.took()) == 4 })
	if statuses, text := d.raw(t, "GET /api/tags HTTP/1.1\r\nHost: localhost\r\n\r\n"); len(statuses) != 1 || statuses[0] != 429 || !strings.Contains(text, "too many connections") {
		t.Errorf("the fifth: %v %q", statuses, text)
	}
	close(d.echo.hold)
	for range 4 {
		if got := <-results; got != "reached" {
			t.Errorf("a busy connection got %q", got)
		}
	}
}

func TestTooManyRequestsSayWhenToComeBack(t *testing.T) {
	d := open(t, Config{InFlight: 2}, "192.168.1.7")
	d.echo.hold = make(chan struct{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		req, _ := http.NewRequestWithContext(context.Background(), "POST", "http://"+d.addr+"/v1/chat/completions", strings.NewReader("{}"))
		resp, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(req)
		if err == nil {
			resp.Body.Close()
		}
	}()
	await(t, "one request inside", func() bool { return len(d.echo.took()) == 1 })
	resp, text := do(t, "POST", "http://"+d.addr+"/v1/chat/completions", "{}")
	if resp.StatusCode != 429 || resp.Header.Get("Retry-After") != "2" || !strings.Contains(text, "rate_limit_error") {
		t.Errorf("%s %v %s", resp.Status, resp.Header, text)
	}
	resp, _ = do(t, "GET", "http://"+d.addr+"/health", "")
	if resp.StatusCode != 200 {
		t.Errorf("a health check must never wait in the queue: %s", resp.Status)
	}
	close(d.echo.hold)
	<-done
}

// Bodies that are more than they seem.
func TestBombsAreDefused(t *testing.T) {
	d := open(t, Config{}, "")
	zeros := io.LimitReader(zero{}, 1<<30)
	var gz bytes.Buffer
	z := gzip.NewWriter(&gz)
	if _, err := io.CopyN(z, zeros, 12<<20); err != nil {
		t.Fatal(err)
	}
	_ = z.Close()
	var zs bytes.Buffer
	e, err := zstd.NewWriter(&zs)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.CopyN(e, zeros, 12<<20); err != nil {
		t.Fatal(err)
	}
	_ = e.Close()
	for _, tt := range []struct {
		name, encoding string
		body           io.Reader
		want           int
	}{
		{"12 MiB in gzip", "gzip", &gz, 413},
		{"12 MiB in zstd", "zstd", &zs, 413},
		{"no gzip", "gzip", strings.NewReader("hello"), 400},
		{"no zstd", "zstd", strings.NewReader("hello"), 400},
		{"brotli", "br", strings.NewReader("hello"), 415},
		{"1 GiB in chunks", "", io.LimitReader(zero{}, 1<<30), 413},
	} {
		t.Run(tt.name, func(t *testing.T) {
			req, err := http.NewRequestWithContext(t.Context(), "POST", "http://"+d.addr+"/api/chat", struct{ io.Reader }{tt.body})
			if err != nil {
				t.Fatal(err)
			}
			if tt.encoding != "" {
				req.Header.Set("Content-Encoding", tt.encoding)
			}
			resp, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(req)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			if resp.StatusCode != tt.want {
				t.Errorf("%s, want %d", resp.Status, tt.want)
			}
		})
	}
	if d.memory.used != 0 {
		t.Errorf("%d bytes are still held", d.memory.used)
	}
}

type zero struct{}

func (zero) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// Many large bodies at once hold no more than they may together.
func TestBodiesShareTheMemory(t *testing.T) {
	d := open(t, Config{Memory: 4 << 20}, "")
	d.echo.hold = make(chan struct{})
	var wg sync.WaitGroup
	status := make(chan int, 12)
	for range 12 {
		wg.Go(func() {
			req, _ := http.NewRequestWithContext(context.Background(), "POST", "http://"+d.addr+"/api/chat", io.LimitReader(zero{}, 1<<20))
			resp, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(req)
			if err != nil {
				t.Error(err)
				return
			}
			resp.Body.Close()
			status <- resp.StatusCode
		})
	}
	await(t, "all bodies read or refused", func() bool { return len(d.echo.took()) == 12 })
	d.memory.mu.Lock()
	used := d.memory.used
	d.memory.mu.Unlock()
	if used > 4<<20 || used == 0 {
		t.Errorf("%d bytes are held", used)
	}
	close(d.echo.hold)
	wg.Wait()
	close(status)
	counts := map[int]int{}
	for s := range status {
		counts[s]++
	}
	if counts[200] == 0 || counts[503] == 0 || counts[200]+counts[503] != 12 {
		t.Errorf("statuses %v", counts)
	}
}

// A client that leaves is noticed also after its body was read under a
// deadline, and an idle wait behind it is not cut by that deadline.
func TestLeavingClientsAreNoticed(t *testing.T) {
	d := open(t, Config{}, "")
	d.echo.hold = make(chan struct{})
	conn, err := net.Dial("tcp", d.addr)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Fprint(conn, "POST /api/chat HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\nhi"); err != nil {
		t.Fatal(err)
	}
	await(t, "inside", func() bool { return len(d.echo.took()) == 1 })
	conn.Close()
	await(t, "gone", func() bool {
		d.admission.mu.Lock()
		defer d.admission.mu.Unlock()
		return d.admission.running == 0
	})
	close(d.echo.hold)
}

// On a port with a certificate the network speaks TLS, or nothing.
func TestPlainHTTPOnATLSPort(t *testing.T) {
	g, err := New(Config{TLS: &tls.Config{}})
	if err != nil {
		t.Fatal(err)
	}
	const request = "GET /api/tags HTTP/1.1\r\nHost: localhost\r\n\r\n"
	if statuses, text := serve(t, g, "192.168.1.7").raw(t, request); len(statuses) != 1 || statuses[0] != 400 || !strings.Contains(text, "https") {
		t.Errorf("from the LAN: %v %q", statuses, text)
	}
	if statuses, text := serve(t, g, "").raw(t, request); len(statuses) != 1 || statuses[0] != 200 {
		t.Errorf("from this machine: %v %q", statuses, text)
	}
}

func TestBoundedListener(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b := Bounded(l, 100, 2)
	defer b.Close()
	accepted := make(chan net.Conn, 8)
	go func() {
		for {
			c, err := b.Accept()
			if err != nil {
				close(accepted)
				return
			}
			accepted <- c
		}
	}()
	dial := func() net.Conn {
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c
	}
	dial()
	dial()
	first, second := <-accepted, <-accepted
	_ = second
	third := dial()
	_ = third.SetReadDeadline(time.Now().Add(10 * time.Second))
	if _, err := third.Read(make([]byte, 1)); err == nil || strings.Contains(err.Error(), "timeout") {
		t.Errorf("the third: %v", err)
	}
	first.Close()
	first.Close()
	dial()
	select {
	case <-accepted:
	case <-time.After(10 * time.Second):
		t.Error("a place given back is not taken")
	}
}
