package identity

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func newID(t *testing.T) *Identity {
	t.Helper()
	id, err := New()
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// serve runs a peer listener of id and returns its address.
func serve(t *testing.T, id *Identity, allow func(NodeID) bool, h http.Handler) netip.AddrPort {
	t.Helper()
	srv := httptest.NewUnstartedServer(h)
	srv.TLS = id.ServerTLS(allow)
	srv.EnableHTTP2 = true
	srv.Config.ErrorLog = log.New(io.Discard, "", 0)
	ConfigureServer(srv.Config)
	srv.StartTLS()
	t.Cleanup(srv.Close)
	return netip.MustParseAddrPort(srv.Listener.Addr().String())
}

// client returns a client of id that finds every node at addr.
func client(t *testing.T, id *Identity, addr netip.AddrPort, opts TransportOptions) *http.Client {
	t.Helper()
	tr := id.Transport(func(NodeID) (netip.AddrPort, error) { return addr, nil }, opts)
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr}
}

func anyone(NodeID) bool { return true }

func get(c *http.Client, id NodeID) (string, error) {
	req, err := http.NewRequestWithContext(context.Background(), http.MethodGet, "https://"+string(id)+"/", nil)
	if err != nil {
		return "", err
	}
	resp, err := c.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return resp.Proto + " " + string(b), err
}

// What goes in bulk is pinned as all the rest.
func TestPeersKnowEachOtherInBulk(t *testing.T) {
	server, caller := newID(t), newID(t)
	addr := serve(t, server, anyone, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id, ok := PeerID(r)
		fmt.Fprintf(w, "%s %v", id, ok)
	}))
	c := client(t, caller, addr, TransportOptions{Bulk: true})
	got, err := get(c, server.ID())
	if want := fmt.Sprintf("HTTP/1.1 %s true", caller.ID()); err != nil || got != want {
		t.Errorf("got %q, %v, want %q", got, err, want)
	}
	if _, err := get(c, newID(t).ID()); !errors.Is(err, ErrPeer) {
		t.Errorf("another node than the one asked for: %v", err)
	}
}

func TestPeersKnowEachOther(t *testing.T) {
	server, caller := newID(t), newID(t)
	addr := serve(t, server, anyone, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id, ok := PeerID(r)
		fmt.Fprintf(w, "%s %v", id, ok)
	}))
	got, err := get(client(t, caller, addr, TransportOptions{}), server.ID())
	if err != nil {
		t.Fatal(err)
	}
	if want := fmt.Sprintf("HTTP/2.0 %s true", caller.ID()); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestPeerIDOfAPlainRequest(t *testing.T) {
	if id, ok := PeerID(httptest.NewRequest(http.MethodGet, "/", nil)); ok {
		t.Errorf("a plain request has peer %q", id)
	}
}

func TestAnotherNodeAtTheAddressIsRefused(t *testing.T) {
	wanted, squatter, caller := newID(t), newID(t), newID(t)
	var served atomic.Int32
	addr := serve(t, squatter, anyone, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { served.Add(1) }))
	_, err := get(client(t, caller, addr, TransportOptions{}), wanted.ID())
	var pe *PeerError
	if !errors.As(err, &pe) || !errors.Is(err, ErrPeer) {
		t.Fatalf("got error %v", err)
	}
	if pe.Got != squatter.ID() || pe.Want != wanted.ID() {
		t.Errorf("error names %s and %s", pe.Got, pe.Want)
	}
	if served.Load() > 0 {
		t.Error("the request reached the wrong node")
	}
}

// A thief of an id has the certificate (it is public) but not the key.
func TestStolenCertificateIsRefused(t *testing.T) {
	victim, thief, caller := newID(t), newID(t), newID(t)
	stolen := *thief
	stolen.id = victim.id
	stolen.cert = victim.cert
	stolen.cert.PrivateKey = thief.key

	t.Run("as server", func(t *testing.T) {
		addr := serve(t, &stolen, anyone, http.NotFoundHandler())
		if _, err := get(client(t, caller, addr, TransportOptions{}), victim.ID()); err == nil {
			t.Error("a server without the key was taken for the node")
		}
	})
	t.Run("as client", func(t *testing.T) {
		var served atomic.Int32
		addr := serve(t, caller, anyone, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { served.Add(1) }))
		if _, err := get(client(t, &stolen, addr, TransportOptions{}), caller.ID()); err == nil || served.Load() > 0 {
			t.Errorf("a client without the key was let in (error %v)", err)
		}
	})
}

func TestStrangersAreRefused(t *testing.T) {
	server, member, stranger := newID(t), newID(t), newID(t)
	var served atomic.Int32
	addr := serve(t, server, func(id NodeID) bool { return id == member.ID() },
		http.HandlerFunc(func(http.ResponseWriter, *http.Request) { served.Add(1) }))

	if _, err := get(client(t, stranger, addr, TransportOptions{}), server.ID()); err == nil {
		t.Error("a stranger was answered")
	}
	t.Run("no certificate", func(t *testing.T) {
		tr := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
		defer tr.CloseIdleConnections()
		if resp, err := (&http.Client{Transport: tr}).Get("https://" + addr.String() + "/"); err == nil {
			resp.Body.Close()
			t.Error("answered without a certificate")
		}
	})
	t.Run("other algorithm", func(t *testing.T) {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
		der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
		if err != nil {
			t.Fatal(err)
		}
		tr := &http.Transport{TLSClientConfig: &tls.Config{
			InsecureSkipVerify: true,
			Certificates:       []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}},
		}}
		defer tr.CloseIdleConnections()
		if resp, err := (&http.Client{Transport: tr}).Get("https://" + addr.String() + "/"); err == nil {
			resp.Body.Close()
			t.Error("answered with an ECDSA key")
		}
	})
	t.Run("TLS 1.2", func(t *testing.T) {
		cfg := member.ClientTLS(server.ID())
		cfg.MinVersion, cfg.MaxVersion = tls.VersionTLS12, tls.VersionTLS12
		if conn, err := tls.Dial("tcp", addr.String(), cfg); err == nil {
			conn.Close()
			t.Error("TLS 1.2 was spoken")
		}
	})
	if served.Load() > 0 {
		t.Fatal("a stranger's request reached the handler")
	}
	if _, err := get(client(t, member, addr, TransportOptions{}), server.ID()); err != nil {
		t.Errorf("the member was refused: %v", err)
	}
}

// resumed makes two connections one after the other with one session cache and
// reports the error of the second and whether it was resumed.
func resumed(t *testing.T, cfg *tls.Config, addr netip.AddrPort, between func()) (bool, error) {
	t.Helper()
	exchange := func() (bool, error) {
		conn, err := tls.Dial("tcp", addr.String(), cfg)
		if err != nil {
			return false, err
		}
		defer conn.Close()
		// The ticket comes after the handshake: read an answer to have it.
		if _, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"); err != nil {
			return false, err
		}
		b, err := io.ReadAll(conn)
		if err == nil && !strings.HasPrefix(string(b), "HTTP/1.1 200") {
			err = fmt.Errorf("answer %.40q", b)
		}
		return conn.ConnectionState().DidResume, err
	}
	if did, err := exchange(); err != nil || did {
		t.Fatalf("first connection: resumed %v, error %v", did, err)
	}
	between()
	return exchange()
}

func TestResumedSessionsAreChecked(t *testing.T) {
	ok := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "hi") })
	server, caller := newID(t), newID(t)

	t.Run("resumption works", func(t *testing.T) {
		addr := serve(t, server, anyone, ok)
		cfg := caller.ClientTLS(server.ID())
		cfg.NextProtos = []string{"http/1.1"}
		did, err := resumed(t, cfg, addr, func() {})
		if err != nil || !did {
			t.Errorf("resumed %v, error %v: the checks below would prove nothing", did, err)
		}
	})
	t.Run("server asks again", func(t *testing.T) {
		var evicted atomic.Bool
		addr := serve(t, server, func(NodeID) bool { return !evicted.Load() }, ok)
		cfg := caller.ClientTLS(server.ID())
		cfg.NextProtos = []string{"http/1.1"}
		if _, err := resumed(t, cfg, addr, func() { evicted.Store(true) }); err == nil {
			t.Error("a node evicted meanwhile came in by its old session")
		}
	})
	t.Run("client asks again", func(t *testing.T) {
		addr := serve(t, server, anyone, ok)
		cfg := caller.ClientTLS(server.ID())
		cfg.NextProtos = []string{"http/1.1"}
		check := cfg.VerifyConnection
		var calls []bool
		cfg.VerifyConnection = func(cs tls.ConnectionState) error {
			calls = append(calls, cs.DidResume)
			return check(cs)
		}
		if _, err := resumed(t, cfg, addr, func() {}); err != nil {
			t.Fatal(err)
		}
		if len(calls) != 2 || !calls[1] {
			t.Errorf("checks by resumption: %v, want [false true]", calls)
		}
	})
}

func TestManyStreamsOnOneConnection(t *testing.T) {
	const n = 600
	server, caller := newID(t), newID(t)
	var mu sync.Mutex
	conns := map[string]bool{}
	var arrived sync.WaitGroup
	arrived.Add(n)
	all := make(chan struct{})
	addr := serve(t, server, anyone, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodHead {
			return
		}
		mu.Lock()
		conns[r.RemoteAddr] = true
		mu.Unlock()
		arrived.Done()
		<-all // all of them are open at once
		fmt.Fprint(w, "ok")
	}))
	go func() { arrived.Wait(); close(all) }()
	c := client(t, caller, addr, TransportOptions{DialTimeout: time.Minute})
	if resp, err := c.Head("https://" + string(server.ID()) + "/"); err != nil { // one connection for all
		t.Fatal(err)
	} else {
		resp.Body.Close()
	}
	errs := make(chan error, n)
	for range n {
		go func() { _, err := get(c, server.ID()); errs <- err }()
	}
	for range n {
		if err := <-errs; err != nil {
			t.Fatal(err)
		}
	}
	if len(conns) != 1 {
		t.Errorf("%d connections were used for %d streams, want 1", len(conns), n)
	}
}

// Requests that wait at the owner with their bodies unread must leave room for
// others on the same connection.
func TestUnreadBodiesDoNotBlockOthers(t *testing.T) {
	const waiting, size = 30, 512 << 10
	server, caller := newID(t), newID(t)
	release := make(chan struct{})
	var arrived sync.WaitGroup
	arrived.Add(waiting)
	addr := serve(t, server, anyone, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/wait" {
			arrived.Done()
			<-release
		}
		n, err := io.Copy(io.Discard, r.Body)
		fmt.Fprintf(w, "%d %v", n, err)
	}))
	c := client(t, caller, addr, TransportOptions{DialTimeout: time.Minute})
	post := func(path string) error {
		resp, err := c.Post("https://"+string(server.ID())+path, "", strings.NewReader(strings.Repeat("x", size)))
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		if want := fmt.Sprintf("%d <nil>", size); err == nil && string(b) != want {
			err = fmt.Errorf("got %q, want %q", b, want)
		}
		return err
	}
	if err := post("/"); err != nil { // one connection for all
		t.Fatal(err)
	}
	errs := make(chan error, waiting)
	for range waiting {
		go func() { errs <- post("/wait") }()
	}
	arrived.Wait()
	through := make(chan error, 1)
	go func() { through <- post("/") }()
	select {
	case err := <-through:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(20 * time.Second):
		t.Error("an upload stands still behind requests that wait")
	}
	close(release)
	for range waiting {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
}

// A black hole: the peer's machine is gone, no reset ever comes.
func TestBlackHoledPeerIsRecognised(t *testing.T) {
	server, caller := newID(t), newID(t)
	started := make(chan struct{})
	addr := serve(t, server, anyone, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, "first")
		w.(http.Flusher).Flush()
		close(started)
		<-r.Context().Done()
	}))
	var hole atomic.Bool
	c := client(t, caller, addr, TransportOptions{
		SendPing: 100 * time.Millisecond, PingTimeout: 100 * time.Millisecond,
		Dial: func(ctx context.Context, network, addr string) (net.Conn, error) {
			conn, err := (&net.Dialer{}).DialContext(ctx, network, addr)
			if err != nil {
				return nil, err
			}
			return &holeConn{Conn: conn, hole: &hole, closed: make(chan struct{})}, nil
		},
	})
	resp, err := c.Get("https://" + string(server.ID()) + "/")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	<-started
	hole.Store(true)
	done := make(chan error, 1)
	go func() { _, err := io.ReadAll(resp.Body); done <- err }()
	select {
	case err := <-done:
		if err == nil {
			t.Error("the stream of a vanished peer ended cleanly")
		}
	case <-time.After(20 * time.Second):
		t.Error("a vanished peer was not recognised")
	}
}

// holeConn loses everything once hole is set, as a network without the peer does.
type holeConn struct {
	net.Conn
	hole   *atomic.Bool
	once   sync.Once
	closed chan struct{}
}

func (c *holeConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if c.hole.Load() {
		<-c.closed
		return 0, net.ErrClosed
	}
	return n, err
}

func (c *holeConn) Write(p []byte) (int, error) {
	if c.hole.Load() {
		return len(p), nil
	}
	return c.Conn.Write(p)
}

func (c *holeConn) Close() error {
	c.once.Do(func() { close(c.closed) })
	return c.Conn.Close()
}

func TestDialErrors(t *testing.T) {
	caller, other := newID(t), newID(t)
	noMember := errors.New("no such member")
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	refused := netip.MustParseAddrPort(ln.Addr().String())
	ln.Close()
	silent, err := net.Listen("tcp", "127.0.0.1:0") // accepts in the kernel, never answers
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()

	tests := []struct {
		name    string
		url     string
		resolve func(NodeID) (netip.AddrPort, error)
		check   func(error) bool
	}{
		{"not an id", "https://192.0.2.1/", nil, func(err error) bool { return strings.Contains(err.Error(), "no node id") }},
		{"plain http", "http://" + string(other.ID()) + "/", nil, func(err error) bool { return errors.Is(err, errPlain) }},
		{"unknown node", "https://" + string(other.ID()) + "/", func(NodeID) (netip.AddrPort, error) {
			return netip.AddrPort{}, noMember
		}, func(err error) bool { return errors.Is(err, noMember) }},
		{
			"refused", "https://" + string(other.ID()) + "/", func(NodeID) (netip.AddrPort, error) { return refused, nil },
			func(err error) bool { var op *net.OpError; return errors.As(err, &op) && op.Op == "dial" },
		},
		{"silent", "https://" + string(other.ID()) + "/", func(NodeID) (netip.AddrPort, error) {
			return netip.MustParseAddrPort(silent.Addr().String()), nil
		}, func(err error) bool { return errors.Is(err, context.DeadlineExceeded) }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tr := caller.Transport(tt.resolve, TransportOptions{DialTimeout: 200 * time.Millisecond})
			defer tr.CloseIdleConnections()
			resp, err := (&http.Client{Transport: tr}).Get(tt.url)
			if err == nil {
				resp.Body.Close()
				t.Fatal("no error")
			}
			if !tt.check(err) {
				t.Errorf("got error %v", err)
			}
		})
	}
}

// The certificate ignores the calendar: a laptop with a dead clock battery is
// still itself.
func TestCertificateNeverExpires(t *testing.T) {
	leaf := newID(t).cert.Leaf
	for _, at := range []time.Time{time.Unix(1, 0), time.Date(2400, 1, 1, 0, 0, 0, 0, time.UTC)} {
		if at.Before(leaf.NotBefore) || at.After(leaf.NotAfter) {
			t.Errorf("not valid at %v", at)
		}
	}
}
