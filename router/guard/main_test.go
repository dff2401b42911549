package guard

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/apikeys"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/lane"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// from is a listener whose connections come from an address of choice: real
// sockets, but one machine has no strangers.
type from struct {
	net.Listener
	addr netip.Addr
}

func (f from) Accept() (net.Conn, error) {
	c, err := f.Listener.Accept()
	if err != nil || !f.addr.IsValid() {
		return c, err
	}
	return fromConn{c, f.addr}, nil
}

type fromConn struct {
	net.Conn
	addr netip.Addr
}

func (c fromConn) RemoteAddr() net.Addr {
	return net.TCPAddrFromAddrPort(netip.AddrPortFrom(c.addr, 40000))
}

// door is a served guard.
type door struct {
	*Guard
	addr string
	echo *echo
}

// echo is the handler behind the guard: it notes what reached it.
type echo struct {
	mu   sync.Mutex
	seen []string
	hold chan struct{} // not nil: requests wait for it to be closed
}

func (e *echo) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	body, werr := ReadBody(req, 8<<20)
	e.mu.Lock()
	e.seen = append(e.seen, fmt.Sprintf("%s %s %d", req.Method, req.URL.Path, len(body)))
	e.mu.Unlock()
	if werr != nil {
		writeError(w, wire.Ollama, werr)
		return
	}
	if e.hold != nil && req.URL.Path != "/health" {
		select {
		case <-e.hold:
		case <-req.Context().Done():
		}
	}
	c, _ := From(req.Context())
	w.Header().Set("X-Caller", c.Name)
	w.Header().Set("X-Leaked", req.Header.Get("Authorization")+req.Header.Get("X-Api-Key"))
	_, _ = io.WriteString(w, "reached")
}

func (e *echo) took() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return append([]string(nil), e.seen...)
}

// open serves a guard on real sockets, to callers from addr (invalid: as they
// come).
func open(t testing.TB, c Config, addr string) *door {
	t.Helper()
	g, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	return serve(t, g, addr)
}

func serve(t testing.TB, g *Guard, addr string) *door {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var source netip.Addr
	if addr != "" {
		source = netip.MustParseAddr(addr)
	}
	d := &door{Guard: g, addr: l.Addr().String(), echo: &echo{}}
	var conns sync.WaitGroup // net/http lingers half a second behind a refusal
	srv := &lane.Server{HTTP: &http.Server{
		Handler: g.Handler(d.echo), ConnContext: g.ConnContext,
		ConnState: func(_ net.Conn, s http.ConnState) {
			switch s {
			case http.StateNew:
				conns.Add(1)
			case http.StateClosed:
				conns.Done()
			}
		},
		ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 120 * time.Second, MaxHeaderBytes: 64 << 10,
		ErrorLog: quietLog,
	}}
	done := make(chan struct{})
	go func() { defer close(done); _ = srv.Serve(g.Listener(from{l, source})) }()
	t.Cleanup(func() {
		_ = srv.Close()
		<-done
		conns.Wait()
	})
	return d
}

// raw sends bytes and returns the status lines of all answers until the node
// closes or stays silent.
func (d *door) raw(t testing.TB, request string) (statuses []int, rest string) {
	t.Helper()
	conn, err := net.Dial("tcp", d.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	if _, err := io.WriteString(conn, request); err != nil {
		t.Fatal(err)
	}
	_ = conn.(*net.TCPConn).CloseWrite()
	r := bufio.NewReader(conn)
	for {
		resp, err := http.ReadResponse(r, nil)
		if err != nil {
			return statuses, rest
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		statuses, rest = append(statuses, resp.StatusCode), rest+string(body)
		if err != nil || resp.Close {
			return statuses, rest
		}
	}
}

// keys makes a store with one key per scope, and their texts.
func keys(t testing.TB) (*apikeys.Store, map[apikeys.Scope]string) {
	t.Helper()
	store := apikeys.Open(filepath.Join(t.TempDir(), apikeys.File))
	texts := map[apikeys.Scope]string{}
	for _, s := range apikeys.Scopes() {
		text, err := store.Add(apikeys.Key{Name: "k-" + string(s), Scopes: []apikeys.Scope{s}}, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		texts[s] = text
	}
	return store, texts
}

func do(t testing.TB, method, url, body string, header ...string) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(context.Background(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i+1 < len(header); i += 2 {
		if header[i] == "Host" {
			req.Host = header[i+1]
			continue
		}
		req.Header.Add(header[i], header[i+1])
	}
	tr := &http.Transport{DisableKeepAlives: true}
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
