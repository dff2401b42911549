package lane

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
)

// flowServer is a server by h, plain and with TLS, and clients of it. dials
// counts their connections.
func flowServers(t testing.TB, h http.HandlerFunc) (urls []string, tr *Transport, dials *atomic.Int32) {
	plain, secure := httptest.NewServer(h), httptest.NewTLSServer(h)
	t.Cleanup(plain.Close)
	t.Cleanup(secure.Close)
	config := secure.Client().Transport.(*http.Transport).TLSClientConfig.Clone()
	config.ServerName, config.NextProtos = "example.com", []string{"http/1.1"}
	dials = new(atomic.Int32)
	tr = &Transport{Dial: func(ctx context.Context, host string) (net.Conn, error) {
		dials.Add(1)
		raw, err := new(net.Dialer).DialContext(ctx, "tcp", host)
		if err != nil || host != secure.Listener.Addr().String() {
			return raw, err
		}
		c := tls.Client(Socket(raw), config)
		return c, c.HandshakeContext(ctx)
	}}
	t.Cleanup(tr.CloseIdleConnections)
	return []string{plain.URL, strings.Replace(secure.URL, "https", "http", 1)}, tr, dials
}

// open begins an answer.
func open(t testing.TB, ctx context.Context, tr *Transport, url string) *http.Response {
	t.Helper()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader("x"))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := tr.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	return resp
}

func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	t.Cleanup(cancel)
	return ctx
}

// What flows is what is read, however large the pieces are and whenever they
// come, and the connection carries the next answer.
func TestBodiesFlow(t *testing.T) {
	sizes := []int{1, 150, 3, 5000, mostRead, 3*mostRead + 1, 2}
	next := make(chan struct{}, len(sizes))
	urls, tr, dials := flowServers(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/length" {
			_, _ = w.Write(bytes.Repeat([]byte("z"), 1000))
			return
		}
		out := http.NewResponseController(w)
		for i, n := range sizes {
			_, _ = w.Write(bytes.Repeat([]byte{byte('a' + i)}, n))
			_ = out.Flush()
			<-next // one that is taken
		}
	})
	for _, url := range urls {
		for range 2 {
			var want []byte
			for i, n := range sizes {
				want = append(want, bytes.Repeat([]byte{byte('a' + i)}, n)...)
			}
			resp := open(t, within(t), tr, url)
			var got []byte
			var ends []error
			told := 0
			Flow(resp.Body, func(p []byte, err error) bool {
				got = append(got, p...)
				for sum := 0; told < len(sizes); told++ {
					if sum = sumOf(sizes[:told+1]); sum > len(got) {
						break
					}
					next <- struct{}{}
				}
				if err != nil {
					ends = append(ends, err)
				}
				return true
			})
			if !bytes.Equal(got, want) || len(ends) != 1 || ends[0] != io.EOF { //nolint:errorlint // io.Reader's contract is the bare value
				t.Errorf("%d bytes of %d, ends %v", len(got), len(want), ends)
			}
			_ = resp.Body.Close()
		}
		resp := open(t, within(t), tr, url+"/length")
		n := 0
		Flow(resp.Body, func(p []byte, err error) bool { n += len(p); return err == nil })
		if n != 1000 {
			t.Errorf("%d bytes of a body with a length", n)
		}
		_ = resp.Body.Close()
	}
	if n := int(dials.Load()); n != len(urls) {
		t.Errorf("%d connections", n)
	}
}

func sumOf(list []int) (sum int) {
	for _, n := range list {
		sum += n
	}
	return sum
}

// The end of a connection that comes together with the last bytes is told
// together with them, once.
func TestABrokenFlowEnds(t *testing.T) {
	urls, tr, _ := flowServers(t, func(w http.ResponseWriter, _ *http.Request) {
		conn, out, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		fmt.Fprint(out, ok+"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
		_ = out.Flush()
		_ = conn.Close()
	})
	for _, url := range urls {
		for range 20 {
			resp := open(t, within(t), tr, url)
			got, end := "", error(nil)
			Flow(resp.Body, func(p []byte, err error) bool {
				got, end = got+string(p), err
				return true
			})
			if got != "abc" || !errors.Is(end, io.ErrUnexpectedEOF) {
				t.Errorf("%q, %v", got, end)
			}
			_ = resp.Body.Close()
		}
	}
}

func TestAFlowIsCancelledOrLeft(t *testing.T) {
	gone := make(chan struct{}, 4)
	urls, tr, _ := flowServers(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, "abc")
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
		gone <- struct{}{}
	})
	why := errors.New("enough")
	for _, url := range urls {
		ctx, cancel := context.WithCancelCause(within(t))
		resp := open(t, ctx, tr, url)
		var end error
		Flow(resp.Body, func(_ []byte, err error) bool {
			if end = err; err == nil {
				cancel(why)
			}
			return true
		})
		if !errors.Is(end, why) {
			t.Errorf("cancelled, it ends in %v", end)
		}
		if _, err := resp.Body.Read(make([]byte, 1)); !errors.Is(err, why) {
			t.Errorf("and then reads %v", err)
		}
		<-gone
		resp = open(t, within(t), tr, url)
		calls := 0
		Flow(resp.Body, func([]byte, error) bool { calls++; return false })
		_ = resp.Body.Close()
		<-gone
		if calls != 1 {
			t.Errorf("%d calls", calls)
		}
	}
}

// A token's way through a client: what Flow spares beside Read.
func BenchmarkToken(b *testing.B) {
	token := []byte(`{"model":"tiny","created_at":"2026-11-24T02:16:02.285932184Z","response":" kero","done":false}` + "\n")
	send, taken := make(chan bool), make(chan struct{})
	urls, tr, _ := flowServers(b, func(w http.ResponseWriter, _ *http.Request) {
		out := http.NewResponseController(w)
		_ = out.Flush()
		for <-send {
			_, _ = w.Write(token)
			_ = out.Flush()
		}
	})
	for i, over := range []string{"tcp", "tls"} {
		for _, way := range []string{"read", "flow"} {
			b.Run(over+"/"+way, func(b *testing.B) {
				resp := open(b, b.Context(), tr, urls[i])
				take := func(_ []byte, err error) bool {
					if err == nil {
						taken <- struct{}{}
					}
					return err == nil
				}
				done := make(chan struct{})
				go func() {
					defer close(done)
					if way == "flow" {
						Flow(resp.Body, take)
					} else {
						Flow(struct{ io.Reader }{resp.Body}, take)
					}
				}()
				b.ReportAllocs()
				for b.Loop() {
					send <- true
					<-taken
				}
				send <- false
				<-done
				_ = resp.Body.Close()
			})
		}
	}
}

// pinned are configurations of a server and a client that know each other.
func pinned(t testing.TB) (server, client *tls.Config) {
	t.Helper()
	s := httptest.NewTLSServer(http.NotFoundHandler())
	defer s.Close()
	client = s.Client().Transport.(*http.Transport).TLSClientConfig.Clone()
	client.ServerName = "example.com"
	return &tls.Config{Certificates: s.TLS.Certificates, MinVersion: tls.VersionTLS13}, client
}

func dialTLS(ctx context.Context, host string, config *tls.Config) (net.Conn, error) {
	raw, err := new(net.Dialer).DialContext(ctx, "tcp", host)
	if err != nil {
		return nil, err
	}
	c := tls.Client(Socket(raw), config)
	return c, c.HandshakeContext(ctx)
}
