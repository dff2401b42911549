package lane

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// serveTrunk runs a lane in front of h whose client has one trunk, and counts
// the connections.
func serveTrunk(t testing.TB, h http.HandlerFunc) (url string, tr *Transport, s *Server, dials *atomic.Int32) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server, client := pinned(t)
	server.NextProtos, client.NextProtos = []string{Trunk}, []string{Trunk}
	s = &Server{HTTP: &http.Server{Handler: h, ReadHeaderTimeout: limit}, TLS: server}
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()
	dials = new(atomic.Int32)
	trunks := &Trunks{Dial: func(ctx context.Context, host string) (net.Conn, error) {
		dials.Add(1)
		return dialTLS(ctx, host, client)
	}}
	tr = &Transport{Dial: trunks.Conn}
	t.Cleanup(func() {
		tr.CloseIdleConnections()
		trunks.Close()
		_ = s.Close()
		if err := <-done; !errors.Is(err, http.ErrServerClosed) {
			t.Errorf("Serve returned %v", err)
		}
		if err := s.Shutdown(context.Background()); err != nil { // waits for the conversations
			t.Error(err)
		}
	})
	return "http://" + l.Addr().String(), tr, s, dials
}

// Requests at once, small and large, over one connection: each gets its own
// answer, and a stream its pieces as they come.
func TestATrunkCarriesMany(t *testing.T) {
	url, tr, _, dials := serveTrunk(t, func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		for len(body) > 0 {
			n := min(len(body), 30_000)
			_, _ = w.Write(body[:n])
			if err := http.NewResponseController(w).Flush(); err != nil {
				return
			}
			body = body[n:]
		}
		w.Header().Set(http.TrailerPrefix+"X-Load", r.Header.Get("X-A"))
	})
	var wg sync.WaitGroup
	for i := range 60 {
		wg.Go(func() {
			random := rand.New(rand.NewPCG(uint64(i), 1))
			for j := range 5 {
				body := strings.Repeat(fmt.Sprintf("%d.%d ", i, j), 1+random.IntN(1<<random.IntN(17)))
				req, err := http.NewRequestWithContext(within(t), http.MethodPost, url+"/api/chat", strings.NewReader(body))
				if err != nil {
					t.Error(err)
					return
				}
				req.Header.Set("X-A", fmt.Sprint(i))
				resp, err := tr.RoundTrip(req)
				if err != nil {
					t.Error(err)
					return
				}
				var got []byte
				if i%2 == 0 {
					got, err = io.ReadAll(resp.Body)
				} else {
					Flow(resp.Body, func(p []byte, end error) bool {
						got = append(got, p...)
						if end != io.EOF { //nolint:errorlint // io.Reader's contract is the bare value
							err = end
						}
						return true
					})
				}
				if err != nil || string(got) != body || resp.Trailer.Get("X-Load") != fmt.Sprint(i) {
					t.Errorf("%v, %d bytes of %d, trailer %v", err, len(got), len(body), resp.Trailer)
				}
				_ = resp.Body.Close()
			}
		})
	}
	wg.Wait()
	if n := dials.Load(); n != 1 {
		t.Errorf("%d connections", n)
	}
}

// A reader that does not read holds up its own stream and nothing else, and a
// bounded part of that.
func TestASlowReaderHoldsUpItself(t *testing.T) {
	var wrote atomic.Int64
	url, tr, _, _ := serveTrunk(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/quick" {
			_, _ = io.WriteString(w, "here")
			return
		}
		p := make([]byte, 10_000)
		for {
			n, err := w.Write(p)
			if wrote.Add(int64(n)); err != nil || http.NewResponseController(w).Flush() != nil {
				return
			}
		}
	})
	slow := open(t, within(t), tr, url+"/slow")
	for i := 0; i < 20 || wrote.Load() < strandWindow/2; i++ {
		if _, got := ask(t, tr, http.MethodPost, url+"/quick", "x"); got != "here" {
			t.Fatalf("got %q", got)
		}
	}
	if n := wrote.Load(); n > strandWindow+100_000 {
		t.Errorf("%d bytes are on their way to a reader that does not read", n)
	}
	before := wrote.Load()
	if n, err := io.CopyN(io.Discard, slow.Body, 4*strandWindow); err != nil {
		t.Errorf("%d bytes and %v", n, err)
	}
	if wrote.Load() == before {
		t.Error("nothing more came")
	}
	_ = slow.Body.Close()
}

// Who leaves one stream ends that one at the other side, at once.
func TestAStrandIsGivenUp(t *testing.T) {
	gone := make(chan string, 2)
	url, tr, _, _ := serveTrunk(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		_, _ = io.WriteString(w, "abc")
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
		gone <- r.URL.Path
	})
	stays := open(t, within(t), tr, url+"/stays")
	ctx, cancel := context.WithCancel(within(t))
	leaves := open(t, ctx, tr, url+"/leaves")
	cancel()
	if got := <-gone; got != "/leaves" {
		t.Errorf("%s is gone", got)
	}
	_ = leaves.Body.Close()
	if n, err := io.ReadFull(stays.Body, make([]byte, 3)); err != nil {
		t.Errorf("the other one: %d bytes, %v", n, err)
	}
	_ = stays.Body.Close()
	<-gone
}

// An aborted answer is no whole one, and a trunk that breaks breaks all that it
// carries; the next request makes a new one.
func TestABrokenTrunk(t *testing.T) {
	url, tr, s, dials := serveTrunk(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		_, _ = io.WriteString(w, "abc")
		_ = http.NewResponseController(w).Flush()
		switch r.URL.Path {
		case "/abort":
			panic(http.ErrAbortHandler)
		case "/hang":
			<-r.Context().Done()
		}
	})
	resp := open(t, within(t), tr, url+"/abort")
	if text, err := io.ReadAll(resp.Body); err == nil {
		t.Errorf("an aborted answer looks whole: %q", text)
	}
	a, b := open(t, within(t), tr, url+"/hang"), open(t, within(t), tr, url+"/hang")
	s.mu.Lock()
	for x := range s.conns {
		if x.trunk.Load() != nil {
			_ = x.conn.Close()
		}
	}
	s.mu.Unlock()
	for _, resp := range []*http.Response{a, b} {
		if text, err := io.ReadAll(resp.Body); err == nil {
			t.Errorf("an answer over a broken trunk looks whole: %q", text)
		}
	}
	if _, got := ask(t, tr, http.MethodPost, url+"/", "x"); got != "abc" || dials.Load() != 2 {
		t.Errorf("got %q over connection %d", got, dials.Load())
	}
}

// What runs over a trunk ends in peace when its server stops.
func TestShutdownLetsStrandsEnd(t *testing.T) {
	enough := make(chan struct{})
	url, tr, s, _ := serveTrunk(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, "abc")
		_ = http.NewResponseController(w).Flush()
		<-enough
		_, _ = io.WriteString(w, "def")
	})
	runs := open(t, within(t), tr, url)
	down := make(chan error, 1)
	go func() { down <- s.Shutdown(within(t)) }()
	for tick := time.NewTicker(time.Millisecond); !s.isClosing(); {
		<-tick.C
	}
	close(enough)
	if text, err := io.ReadAll(runs.Body); err != nil || string(text) != "abcdef" {
		t.Errorf("%q, %v", text, err)
	}
	if err := <-down; err != nil {
		t.Error(err)
	}
}

func TestStrandsHaveDeadlines(t *testing.T) {
	a, b := net.Pipe()
	strands := make(chan *strand, 1)
	client, server := newTrunk(a, nil), newTrunk(b, func(s *strand) { strands <- s })
	var wg sync.WaitGroup
	wg.Go(client.run)
	wg.Go(server.run)
	defer wg.Wait()
	defer client.fail(net.ErrClosed)
	s := client.open()
	if _, err := s.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	for _, at := range []time.Time{time.Unix(1, 0), time.Now().Add(10 * time.Millisecond)} {
		_ = s.SetDeadline(at)
		if n, err := s.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) || !isTimeout(err) {
			t.Errorf("read %d, %v", n, err)
		}
	}
	if n, err := s.Write(make([]byte, 2*strandWindow)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("wrote %d, %v", n, err)
	}
	_ = s.SetDeadline(time.Time{})
	other := <-strands
	if _, err := other.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	_ = other.CloseWrite()
	if text, err := io.ReadAll(s); err != nil || string(text) != "hello" {
		t.Errorf("%q, %v", text, err)
	}
	_ = s.Close()
	if _, err := io.Copy(io.Discard, other); !errors.Is(err, errStrand) {
		t.Errorf("given up, the other side reads %v", err)
	}
}

// Whatever comes over a trunk, it takes or ends; what it takes is what was sent.
func FuzzTrunk(f *testing.F) {
	f.Add(appendFrame(appendFrame(nil, frameData, 1, []byte("abc")), frameEnd, 1, nil), 3)
	f.Add(appendFrame(appendFrame(nil, frameData, 2, nil), frameCredit, 2, []byte{0, 0, 1, 0}), 1)
	f.Add(appendFrame(appendFrame(nil, frameData, 7, []byte("a")), frameReset, 7, nil), 100)
	f.Fuzz(func(t *testing.T, come []byte, step int) {
		got := map[uint32][]byte{}
		tr := newTrunk(&canned{rest: bytes.Clone(come), step: max(step, 1)}, nil)
		tr.accept = func(s *strand) { got[s.id] = nil }
		strands := tr.strands
		tr.run()
		want := map[uint32][]byte{}
		last := uint32(0)
		for rest := come; ; {
			frame, n, ok := cutFrame(rest)
			if n == 0 || !ok {
				break
			}
			rest = rest[n:]
			if _, known := want[frame.id]; !known && frame.kind == frameData && frame.id > last {
				want[frame.id], last = nil, frame.id
			}
		}
		for id := range got {
			if _, ok := want[id]; !ok {
				t.Errorf("strand %d came from nowhere", id)
			}
		}
		for id, s := range strands {
			if len(s.in) > strandWindow {
				t.Errorf("strand %d holds %d bytes", id, len(s.in))
			}
		}
	})
}
