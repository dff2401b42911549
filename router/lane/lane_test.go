package lane

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/textproto"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// limit is for waits that only a fault makes long.
const limit = 20 * time.Second

// serve runs a lane in front of h and returns its address and a client.
func serve(t *testing.T, h http.HandlerFunc) (string, *Transport, *Server) {
	t.Helper()
	return serveWithin(t, limit, h)
}

// serveWithin is serve with a limit on how long a head may take.
func serveWithin(t *testing.T, head time.Duration, h http.HandlerFunc) (string, *Transport, *Server) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &Server{HTTP: &http.Server{Handler: h, ReadHeaderTimeout: head}}
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()
	tr := client()
	t.Cleanup(func() {
		tr.CloseIdleConnections()
		_ = s.Close()
		if err := <-done; !errors.Is(err, http.ErrServerClosed) {
			t.Errorf("Serve returned %v", err)
		}
	})
	return l.Addr().String(), tr, s
}

func client() *Transport {
	return &Transport{Dial: func(ctx context.Context, host string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp", host)
	}}
}

func ask(t *testing.T, tr http.RoundTripper, method, url, body string) (*http.Response, string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	var r io.Reader
	if body != "" {
		r = strings.NewReader(body)
	}
	req, err := http.NewRequestWithContext(ctx, method, url, r)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := tr.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(text)
}

func echo(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	fmt.Fprintf(w, "%s %s %s %d %s", r.Method, r.URL.Path, r.Header.Get("X-A"), len(body), body[:min(len(body), 10)])
}

// The client against net/http's server and against ours, ours against
// net/http's client: the same answers.
func TestExchanges(t *testing.T) {
	addr, tr, _ := serve(t, echo)
	plainServer := httptest.NewServer(http.HandlerFunc(echo))
	t.Cleanup(plainServer.Close)
	for name, c := range map[string]struct {
		tr  http.RoundTripper
		url string
	}{
		"lane to lane":     {tr, "http://" + addr},
		"lane to net/http": {client(), plainServer.URL},
		"net/http to lane": {&http.Transport{}, "http://" + addr},
	} {
		t.Run(name, func(t *testing.T) {
			for _, body := range []string{"hello", strings.Repeat("x", 100_000), ""} {
				resp, got := ask(t, c.tr, http.MethodPost, c.url+"/api/chat", body)
				want := fmt.Sprintf("POST /api/chat  %d %s", len(body), body[:min(len(body), 10)])
				if resp.StatusCode != 200 || got != want || resp.ContentLength != int64(len(want)) || resp.Header.Get("Date") == "" ||
					!strings.HasPrefix(resp.Header.Get("Content-Type"), "text/plain") {
					t.Errorf("got %d %q %v", resp.StatusCode, got, resp.Header)
				}
			}
			if _, got := ask(t, c.tr, http.MethodGet, c.url+"/api/tags?x=%20", ""); got != "GET /api/tags  0 " {
				t.Errorf("not plain: %q", got)
			}
		})
	}
}

func TestConnectionsAreKept(t *testing.T) {
	addr, _, _ := serve(t, echo)
	var dials atomic.Int32
	tr := &Transport{Dial: func(ctx context.Context, host string) (net.Conn, error) {
		dials.Add(1)
		return new(net.Dialer).DialContext(ctx, "tcp", host)
	}}
	defer tr.CloseIdleConnections()
	for range 5 {
		ask(t, tr, http.MethodPost, "http://"+addr+"/a", "x")
	}
	if n := dials.Load(); n != 1 {
		t.Errorf("%d connections for 5 requests", n)
	}
}

// A kept connection that its server has closed costs no request.
func TestAClosedConnectionIsSeen(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(echo))
	defer s.Close()
	tr := client()
	defer tr.CloseIdleConnections()
	for range 3 {
		ask(t, tr, http.MethodPost, s.URL+"/a", "x")
		s.CloseClientConnections()
	}
}

func TestSignsOfLifeAndTrailers(t *testing.T) {
	addr, tr, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("X-Phase", "queued")
		w.WriteHeader(http.StatusProcessing)
		w.Header().Del("X-Phase")
		w.Header().Set("Content-Type", "application/x-ndjson")
		for i := range 3 {
			fmt.Fprintf(w, "%d\n", i)
			_ = http.NewResponseController(w).Flush()
		}
		w.Header().Set(http.TrailerPrefix+"X-Load", "7")
	})
	var phase string
	ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{Got1xxResponse: func(_ int, h textproto.MIMEHeader) error {
		phase = h.Get("X-Phase")
		return nil
	}})
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+addr+"/a", strings.NewReader("x"))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := tr.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil || string(text) != "0\n1\n2\n" || phase != "queued" || resp.Header.Get("X-Phase") != "" || resp.Trailer.Get("X-Load") != "7" {
		t.Errorf("%q, %v, phase %q, header %v, trailer %v", text, err, phase, resp.Header, resp.Trailer)
	}
}

// Tokens arrive when they are flushed, and the client's leaving ends the
// handler's context, whether it left before the answer or inside it.
func TestAClientThatLeavesIsSeen(t *testing.T) {
	for _, streaming := range []bool{false, true} {
		t.Run(fmt.Sprint(streaming), func(t *testing.T) {
			began, ended := make(chan struct{}), make(chan error, 1)
			addr, tr, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {
				_, _ = io.Copy(io.Discard, r.Body)
				if streaming {
					_, _ = io.WriteString(w, "token\n")
					_ = http.NewResponseController(w).Flush()
				}
				close(began)
				<-r.Context().Done()
				ended <- context.Cause(r.Context())
			})
			ctx, leave := context.WithCancel(t.Context())
			req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+addr+"/a", strings.NewReader("x"))
			if err != nil {
				t.Fatal(err)
			}
			go func() { <-began; leave() }()
			resp, err := tr.RoundTrip(req)
			if err == nil {
				if _, err = io.ReadAll(resp.Body); err == nil {
					t.Error("a cut answer looks whole")
				}
				_ = resp.Body.Close()
			}
			if !errors.Is(err, context.Canceled) {
				t.Errorf("the client got %v", err)
			}
			select {
			case <-ended: //nolint:errcheck // that it ends is the point
			case <-time.After(limit):
				t.Fatal("the handler never knew")
			}
		})
	}
}

// A head that trickles has as long as one that does not come.
func TestATricklingHeadIsCutOff(t *testing.T) {
	addr, _, _ := serveWithin(t, 200*time.Millisecond, echo)
	c, err := new(net.Dialer).DialContext(t.Context(), "tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := io.WriteString(c, "GET /api/tags HTTP/1.1\r\nHost: a\r\nX-A: "); err != nil {
		t.Fatal(err)
	}
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for range int(limit / (50 * time.Millisecond)) {
		<-tick.C
		if _, err := io.WriteString(c, "x"); err != nil {
			return
		}
	}
	t.Errorf("still open after %v", limit)
}

// An answer that its handler breaks off does not look whole.
func TestAbortIsSeen(t *testing.T) {
	addr, tr, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		_, _ = io.WriteString(w, "half")
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	})
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+addr+"/a", strings.NewReader("x"))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := tr.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if text, err := io.ReadAll(resp.Body); err == nil || string(text) != "half" {
		t.Errorf("%q, %v", text, err)
	}
}

// Requests in one piece, in pieces and back to back; those that are not plain
// go over to net/http with all that was read, and so does what follows them.
func TestRawConversations(t *testing.T) {
	addr, _, _ := serve(t, echo)
	post := "POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi"
	chunked := "POST /c HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n"
	for _, tt := range []struct {
		name, bytes string
		statuses    string
	}{
		{"one", post, "200"},
		{"pipelined", post + post + post, "200 200 200"},
		{"handed over", post + chunked + post, "200 200 200"},
		{"1.0", "GET / HTTP/1.0\r\n\r\n", "200"},
		{"nonsense", "nonsense\r\n\r\n", "400"},
		{"closes", strings.Replace(post, "Host", "Connection: close\r\nHost", 1) + post, "200"},
	} {
		for _, size := range []int{len(tt.bytes), 7, 1} {
			t.Run(fmt.Sprintf("%s by %d", tt.name, size), func(t *testing.T) {
				c, err := net.Dial("tcp", addr)
				if err != nil {
					t.Fatal(err)
				}
				defer c.Close()
				_ = c.SetDeadline(time.Now().Add(limit))
				go func() {
					for rest := tt.bytes; rest != ""; rest = rest[min(size, len(rest)):] {
						if _, err := io.WriteString(c, rest[:min(size, len(rest))]); err != nil {
							return
						}
					}
					_ = c.(*net.TCPConn).CloseWrite()
				}()
				var got []string
				for in := bufio.NewReader(c); ; {
					resp, err := http.ReadResponse(in, nil)
					if err != nil {
						break
					}
					_, _ = io.Copy(io.Discard, resp.Body)
					_ = resp.Body.Close()
					got = append(got, fmt.Sprint(resp.StatusCode))
				}
				if s := strings.Join(got, " "); s != tt.statuses {
					t.Errorf("answers %s, want %s", s, tt.statuses)
				}
			})
		}
	}
}

// Shutdown ends idle connections, and waits for what runs.
func TestShutdownLetsRequestsEnd(t *testing.T) {
	began, finish := make(chan struct{}), make(chan struct{})
	addr, tr, s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		if r.URL.Path == "/slow" {
			close(began)
			<-finish
		}
		_, _ = io.WriteString(w, "done")
	})
	ask(t, tr, http.MethodPost, "http://"+addr+"/quick", "x")
	other := client()
	defer other.CloseIdleConnections()
	answer := make(chan string, 1)
	go func() {
		_, text := ask(t, other, http.MethodPost, "http://"+addr+"/slow", "x")
		answer <- text
	}()
	<-began
	down := make(chan error, 1)
	go func() { down <- s.Shutdown(t.Context()) }()
	for !s.isClosing() {
		select {
		case err := <-down:
			t.Fatalf("returned before the request had ended: %v", err)
		default:
		}
	}
	close(finish)
	if err := <-down; err != nil {
		t.Error(err)
	}
	if got := <-answer; got != "done" {
		t.Errorf("the running request got %q", got)
	}
}

// A listener that its owner has closed, so that nobody new comes, is no failure of
// the Shutdown that follows.
func TestShutdownAfterTheListenerWasClosed(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &Server{HTTP: &http.Server{Handler: http.NotFoundHandler(), ReadHeaderTimeout: time.Second}}
	served := make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	resp, err := http.Get("http://" + l.Addr().String()) // it serves
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	_ = l.Close()
	if err := <-served; !errors.Is(err, net.ErrClosed) {
		t.Errorf("serving ended with %v", err)
	}
	if err := s.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
}

// Also behind an answer that is ready in one piece, or is none.
func TestTrailersOfShortAnswers(t *testing.T) {
	for _, text := range []string{"", "short"} {
		addr, tr, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			_, _ = io.WriteString(w, text)
			w.Header().Set(http.TrailerPrefix+"X-Load", "7")
		})
		resp, got := ask(t, tr, http.MethodPost, "http://"+addr+"/a", "x")
		if got != text || resp.Trailer.Get("X-Load") != "7" {
			t.Errorf("%q, trailer %v", got, resp.Trailer)
		}
	}
}

// Nobody has to read a body that is not wanted: the connection stays.
func TestAnUnreadBodyIsNotTheNextRequest(t *testing.T) {
	addr, tr, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/said" {
			w.Header().Set("Content-Length", "2")
		}
		w.WriteHeader(http.StatusForbidden)
		_, _ = io.WriteString(w, "no")
	})
	for name, rt := range map[string]http.RoundTripper{"net/http": &http.Transport{}, "lane": tr} {
		for _, size := range []int{1, 5000, 200_000, 1 << 20} {
			for range 10 {
				for _, path := range []string{"/said", "/unsaid"} {
					resp, text := ask(t, rt, http.MethodPost, "http://"+addr+path, strings.Repeat("x", size))
					if resp.StatusCode != http.StatusForbidden || text != "no" {
						t.Fatalf("%s, %d bytes: %d %q", name, size, resp.StatusCode, text)
					}
				}
			}
		}
	}
}

// A client that is told before it has sent all gets to see it.
func TestAnAnswerBeforeTheBodyArrives(t *testing.T) {
	addr, tr, _ := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusRequestEntityTooLarge)
		_, _ = io.WriteString(w, "too large")
	})
	huge := strings.Repeat("x", 32<<20)
	for name, rt := range map[string]http.RoundTripper{"net/http": &http.Transport{}, "lane": tr} {
		for range 20 {
			resp, text := ask(t, rt, http.MethodPost, "http://"+addr+"/a", huge)
			if resp.StatusCode != http.StatusRequestEntityTooLarge || text != "too large" {
				t.Fatalf("%s: %d %q", name, resp.StatusCode, text)
			}
		}
	}
}
