package mesh_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh/identity"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh/meshtest"
)

func TestMain(m *testing.M) { os.Exit(meshtest.Main(m)) }

func status(id mesh.NodeID, want mesh.Status) func(*mesh.View) bool {
	return func(v *mesh.View) bool { return meshtest.StatusOf(v, id) == want }
}

func member(t *testing.T, n *meshtest.Node, id mesh.NodeID) *mesh.Member {
	t.Helper()
	m, ok := n.View().Member(id)
	if !ok {
		t.Fatalf("%s is unknown", id)
	}
	return m
}

func ended(t *testing.T, ctx context.Context, want error) {
	t.Helper()
	select {
	case <-ctx.Done():
	case <-time.After(meshtest.Patience):
		t.Fatal("the member's context did not end")
	}
	if got := context.Cause(ctx); !errors.Is(got, want) {
		t.Errorf("the member's context ended with %v, want %v", got, want)
	}
}

func TestCardsAndLoadsSpread(t *testing.T) {
	for _, keyed := range []bool{false, true} {
		t.Run(fmt.Sprintf("keyed=%v", keyed), func(t *testing.T) {
			key := mesh.NewKey()
			nodes := meshtest.Start(t, 4, meshtest.WithConfig(func(_ int, c *mesh.Config) {
				if keyed {
					c.Keys = []mesh.Key{key}
				}
			}))
			if err := nodes[2].Announce(meshtest.Card("qwen3:8b", "llama3.2:3b")); err != nil {
				t.Fatal(err)
			}
			nodes[2].Publish(mesh.Load{Up: true, Running: 3, Models: []mesh.ModelLoad{
				{Key: "qwen3:8b", Resident: true, Running: 3, Decode: 42.5},
			}})
			for _, n := range nodes {
				v := n.Await("card and load", func(v *mesh.View) bool {
					m, ok := v.Member(nodes[2].ID())
					return ok && m.Card != nil && m.Load != nil && m.Load.Running == 3
				})
				if got := fmt.Sprint(v.Models()); got != "[llama3.2:3b qwen3:8b]" {
					t.Errorf("models %v", got)
				}
				m, _ := v.Member(nodes[2].ID())
				if got := m.Load.Model("qwen3:8b"); got == nil || got.Decode != 42.5 {
					t.Errorf("load of the model: %+v", got)
				}
				if !m.Serving() {
					t.Error("it is not serving")
				}
			}
			// A change of the card reaches everyone, too.
			if err := nodes[2].Announce(meshtest.Card("gemma3:4b")); err != nil {
				t.Fatal(err)
			}
			for _, n := range nodes {
				n.Await("the new card", func(v *mesh.View) bool { return fmt.Sprint(v.Models()) == "[gemma3:4b]" })
			}
		})
	}
}

func TestDrainingIsSeen(t *testing.T) {
	nodes := meshtest.Start(t, 3)
	for _, on := range []bool{true, false} {
		nodes[1].SetDraining(on)
		for _, n := range nodes {
			n.Await("draining by report and by tag", func(v *mesh.View) bool {
				m, ok := v.Member(nodes[1].ID())
				return ok && m.Load != nil && m.Load.Draining == on && m.Info.Draining == on
			})
		}
	}
}

func TestLeaveIsSeen(t *testing.T) {
	nodes := meshtest.Start(t, 4)
	life := member(t, nodes[0], nodes[3].ID()).Context()
	begin := time.Now()
	left := make(chan error, 1)
	go func() { left <- nodes[3].Leave(t.Context()) }()
	for _, n := range nodes[:3] {
		n.Await("leave", status(nodes[3].ID(), mesh.Left))
	}
	t.Logf("a leave was seen by all of 3 members after %v", time.Since(begin).Round(time.Millisecond))
	ended(t, life, mesh.ErrMemberLeft)
	if err := <-left; err != nil {
		t.Error(err)
	}
	if _, err := nodes[3].Join(t.Context(), nodes[0].Addr().String()); !errors.Is(err, mesh.ErrLeft) {
		t.Errorf("join after leave: %v", err)
	}
	nodes[3].Kill()
	if err := nodes[3].Err(); err != nil {
		t.Errorf("Run ended with %v", err)
	}
	for _, n := range nodes[:3] {
		if got := meshtest.StatusOf(n.View(), nodes[3].ID()); got != mesh.Left {
			t.Errorf("a member that left became %s", got)
		}
	}
	// And it can come back.
	nodes[3].Restart()
	nodes[3].MustJoin(nodes[1])
	meshtest.WaitAll(t, nodes)
}

// The promise is 2.5 s; the test only bounds it by what would be another
// profile, since a busy machine starves the probers.
func TestKillIsSeen(t *testing.T) {
	const trials = 3
	nodes := meshtest.Start(t, 5)
	var first, last []time.Duration
	for i := range trials {
		victim := nodes[4]
		lives := make([]context.Context, 4)
		for k, n := range nodes[:4] {
			lives[k] = member(t, n, victim.ID()).Context()
		}
		victim.Kill()
		begin := time.Now()
		for k, n := range nodes[:4] {
			n.Await("failure", status(victim.ID(), mesh.Failed))
			ended(t, lives[k], mesh.ErrMemberFailed)
			if k == 0 {
				first = append(first, time.Since(begin).Round(time.Millisecond))
			}
		}
		last = append(last, time.Since(begin).Round(time.Millisecond))
		if took := time.Since(begin); took > 20*time.Second {
			t.Errorf("trial %d: a crash was seen by all only after %v", i, took)
		}
		victim.Restart()
		victim.MustJoin(nodes[i%4])
		meshtest.WaitAll(t, nodes)
		if life := member(t, nodes[0], victim.ID()).Context(); life.Err() != nil {
			t.Error("the member that returned has a context that is over")
		}
	}
	t.Logf("a crash was seen by one member after %v, by all of 4 after %v", first, last)
}

// A process that dies and is back before anybody noticed: what ran in the old
// one is gone all the same.
func TestQuickRestartEndsTheOldLifetime(t *testing.T) {
	nodes := meshtest.Start(t, 3)
	for _, n := range nodes[:2] {
		n.Await("a first report", func(v *mesh.View) bool { m, _ := v.Member(nodes[2].ID()); return m.Load != nil })
	}
	life := member(t, nodes[0], nodes[2].ID()).Context()
	nodes[2].Restart()
	nodes[2].MustJoin(nodes[1])
	ended(t, life, mesh.ErrMemberFailed)
	meshtest.WaitAll(t, nodes)
}

func TestRestartOnOtherPorts(t *testing.T) {
	nodes := meshtest.Start(t, 3)
	old := nodes[2].Addr()
	nodes[2].Move()
	if nodes[2].Addr() == old {
		t.Fatal("the address is the same: the test proves nothing")
	}
	nodes[2].MustJoin(nodes[0])
	if err := nodes[2].Announce(meshtest.Card("phi4:14b")); err != nil {
		t.Fatal(err)
	}
	for _, n := range nodes {
		n.Await("the new address and a card from there", func(v *mesh.View) bool {
			m, ok := v.Member(nodes[2].ID())
			return ok && m.Status == mesh.Alive && m.Addr == nodes[2].Addr() && len(v.Holders("phi4:14b")) == 1
		})
	}
}

// A whole mesh that was switched off finds itself by remembered addresses.
func TestAllRestartFromRememberedAddresses(t *testing.T) {
	nodes := meshtest.Start(t, 4)
	remembered := make([][]string, len(nodes))
	for i, n := range nodes {
		for _, a := range n.Addrs() {
			remembered[i] = append(remembered[i], a.String())
		}
		if len(remembered[i]) != 3 {
			t.Fatalf("node %d remembers %v", i, remembered[i])
		}
	}
	for _, n := range nodes {
		n.Kill()
	}
	for _, n := range nodes {
		n.Restart()
	}
	for i, n := range nodes {
		if got, err := n.Join(t.Context(), remembered[i]...); got != 3 || err != nil {
			t.Errorf("node %d joined %d: %v", i, got, err)
		}
	}
	meshtest.WaitAll(t, nodes)
}

func TestEqualHostnamesCoexist(t *testing.T) {
	nodes := meshtest.Start(t, 3, meshtest.WithConfig(func(_ int, c *mesh.Config) { c.Info.Hostname = "ubuntu" }))
	names := map[string]bool{}
	for _, m := range nodes[0].View().Members() {
		names[m.Name] = true
		if !strings.HasPrefix(m.Name, "ubuntu-") {
			t.Errorf("name %q", m.Name)
		}
	}
	if len(names) != 3 {
		t.Errorf("names %v", names)
	}
}

func TestStrangersCannotJoin(t *testing.T) {
	key, other := mesh.NewKey(), mesh.NewKey()
	tests := []struct {
		name    string
		inside  func(*mesh.Config)
		outside func(*mesh.Config)
		want    error
	}{
		{"no key", func(c *mesh.Config) { c.Keys = []mesh.Key{key} }, func(*mesh.Config) {}, mesh.ErrKeyNeeded},
		{"wrong key", func(c *mesh.Config) { c.Keys = []mesh.Key{key} }, func(c *mesh.Config) { c.Keys = []mesh.Key{other} }, mesh.ErrWrongKey},
		{"key for an open mesh", func(*mesh.Config) {}, func(c *mesh.Config) { c.Keys = []mesh.Key{key} }, mesh.ErrKeyMissing},
		{"other name", func(*mesh.Config) {}, func(c *mesh.Config) { c.Cluster = "office" }, mesh.ErrOtherCluster},
		{"other name, same key", func(c *mesh.Config) { c.Keys = []mesh.Key{key} }, func(c *mesh.Config) { c.Keys, c.Cluster = []mesh.Key{key}, "office" }, mesh.ErrOtherCluster},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			nodes := meshtest.Start(t, 2, meshtest.Apart(), meshtest.WithConfig(func(i int, c *mesh.Config) {
				[]func(*mesh.Config){tt.inside, tt.outside}[i](c)
			}))
			for i, n := range nodes {
				o := nodes[1-i]
				got, err := n.Join(t.Context(), o.Addr().String())
				if got != 0 || err == nil {
					t.Fatalf("joined %d, error %v", got, err)
				}
				if i == 1 && !errors.Is(err, tt.want) {
					t.Errorf("error %v, want %v", err, tt.want)
				}
				var je *mesh.JoinError
				if !errors.As(err, &je) || je.Addr != o.Addr().String() {
					t.Errorf("the error does not name the address: %v", err)
				}
			}
			for _, n := range nodes {
				if len(n.View().Members()) != 1 {
					t.Errorf("a stranger is in: %s", meshtest.Describe(n.View()))
				}
			}
		})
	}
}

func TestJoinErrors(t *testing.T) {
	n := meshtest.Start(t, 1)[0]
	if got, err := n.Join(t.Context(), n.Addr().String()); got != 0 || err != nil {
		t.Errorf("joining oneself: %d, %v", got, err)
	}
	other := meshtest.Start(t, 1)[0]
	web := &http.Server{Handler: http.NotFoundHandler()}
	ln := listen(t)
	go func() { _ = web.Serve(ln) }()
	defer web.Close()
	got, err := n.Join(t.Context(), ":::", "127.0.0.1:1", ln.Addr().String(), "no-such-host.invalid", other.Addr().String())
	if got != 1 {
		t.Errorf("joined %d, want the one that works", got)
	}
	for _, part := range []string{":::", "127.0.0.1:1", ln.Addr().String(), "no-such-host.invalid"} {
		if err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("no word about %s in: %v", part, err)
		}
	}
	if !errors.Is(err, mesh.ErrNoMesh) {
		t.Errorf("a web server was not recognised as no mesh: %v", err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("enough"))
	if _, err := n.Join(ctx, "192.0.2.1"); err == nil {
		t.Error("joined under a context that is over")
	}
}

func TestCopiedStateDirectory(t *testing.T) {
	nodes := meshtest.Start(t, 4, meshtest.Apart())
	copyOf, original := nodes[3], nodes[0]
	// The copy starts later, with the original's key.
	raw, err := os.ReadFile(filepath.Join(original.Dir, identity.KeyFile))
	if err != nil {
		t.Fatal(err)
	}
	copyOf.Kill()
	if err := os.WriteFile(filepath.Join(copyOf.Dir, identity.KeyFile), raw, 0o600); err != nil {
		t.Fatal(err)
	}
	copyOf.Restart()
	if copyOf.ID() != original.ID() {
		t.Fatal("the copy has another id")
	}
	nodes[1].MustJoin(original)
	nodes[2].MustJoin(original)
	meshtest.WaitAll(t, nodes[:3])

	if _, err := copyOf.Join(t.Context(), nodes[1].Addr().String()); err != nil {
		t.Log("join:", err)
	}
	deadline := time.After(meshtest.Patience)
	for copyOf.Err() == nil {
		select {
		case <-deadline:
			t.Fatal("the copy goes on")
		case <-time.After(10 * time.Millisecond):
		}
	}
	if err := copyOf.Err(); !errors.Is(err, mesh.ErrIdentityConflict) || !strings.Contains(err.Error(), original.Addr().String()) {
		t.Errorf("the copy ended with %v", err)
	}
	for _, n := range nodes[:3] {
		if n.Err() != nil {
			t.Errorf("a member ended: %v", n.Err())
		}
		if m := member(t, n, original.ID()); m.Status != mesh.Alive || m.Addr != original.Addr() {
			t.Errorf("the original is %s at %s", m.Status, m.Addr)
		}
	}
}

func TestObserveBelievesOnlyTheNodeItself(t *testing.T) {
	nodes := meshtest.Start(t, 3)
	a, b, c := nodes[0], nodes[1], nodes[2]
	a.Await("reports", func(v *mesh.View) bool {
		x, _ := v.Member(b.ID())
		y, _ := v.Member(c.ID())
		return x.Load != nil && y.Load != nil
	})
	// Reports numbered far ahead of what b and c will reach by themselves.
	of := func(n *meshtest.Node, running int) *mesh.Load {
		l := *n.Load()
		l.Seq += 1 << 40
		l.Running = running
		return &l
	}
	a.Observe(c.ID(), of(b, 666)) // c speaks for b
	a.Observe(b.ID(), nil)
	a.Observe(a.ID(), of(a, 666))
	a.Observe(c.ID(), of(c, 7))
	v := a.Await("the honest report", func(v *mesh.View) bool { m, _ := v.Member(c.ID()); return m.Load.Running == 7 })
	for _, m := range v.Members() {
		if m.Load.Running == 666 {
			t.Errorf("a report about %s by somebody else was believed", m.ID)
		}
	}
}

func TestPeerPortServesMembersOnly(t *testing.T) {
	nodes := meshtest.Start(t, 2, meshtest.WithHandler(func(i int) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			id, _ := identity.PeerID(r)
			fmt.Fprintf(w, "%d %s", i, id)
		})
	}))
	if err := nodes[1].Announce(meshtest.Card("a:1b")); err != nil {
		t.Fatal(err)
	}
	get := func(rt http.RoundTripper, path string) (int, string, error) {
		resp, err := (&http.Client{Transport: rt}).Get("https://" + string(nodes[1].ID()) + path)
		if err != nil {
			return 0, "", err
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		return resp.StatusCode, string(b), err
	}
	if _, body, err := get(nodes[0].PeerTransport(), "/x"); err != nil || body != "1 "+string(nodes[0].ID()) {
		t.Errorf("a member got %q, %v", body, err)
	}
	if code, body, err := get(nodes[0].PeerTransport(), "/mesh/v1/card"); err != nil || code != 200 || !strings.Contains(body, "a:1b") {
		t.Errorf("the card: %d %q %v", code, body, err)
	}
	stranger, err := identity.New()
	if err != nil {
		t.Fatal(err)
	}
	tr := stranger.Transport(func(mesh.NodeID) (netip.AddrPort, error) { return nodes[1].Peer, nil }, identity.TransportOptions{})
	defer tr.CloseIdleConnections()
	if code, body, err := get(tr, "/mesh/v1/card"); err == nil {
		t.Errorf("a stranger got %d %q", code, body)
	}
	t.Run("without TLS", func(t *testing.T) {
		w := &recorder{header: http.Header{}}
		req, _ := http.NewRequest(http.MethodGet, "/mesh/v1/card", nil)
		nodes[1].Handler().ServeHTTP(w, req)
		if w.code != http.StatusForbidden {
			t.Errorf("status %d", w.code)
		}
	})
	if _, _, err := get(nodes[0].PeerTransport(), "/"); err != nil {
		t.Error(err)
	}
	if _, err := (&http.Client{Transport: nodes[0].PeerTransport()}).Get("https://" + string(stranger.ID()) + "/"); !errors.Is(err, mesh.ErrNoMember) {
		t.Errorf("a request to nobody: %v", err)
	}
}

type recorder struct {
	header http.Header
	code   int
	bytes.Buffer
}

func (r *recorder) Header() http.Header { return r.header }
func (r *recorder) WriteHeader(c int)   { r.code = c }

func TestManyWritersAtOnce(t *testing.T) {
	nodes := meshtest.Start(t, 3)
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			for i := range 100 {
				if err := nodes[0].Announce(meshtest.Card(fmt.Sprintf("m%d:%d", w, i))); err != nil {
					t.Error(err)
				}
				nodes[0].Publish(mesh.Load{Up: true, Running: i, Models: []mesh.ModelLoad{{Key: "x", Running: i}}})
				nodes[0].SetDraining(i%2 == 0)
				nodes[1].Observe(nodes[0].ID(), nodes[0].Load())
				_ = nodes[0].View().Models()
			}
		})
	}
	wg.Wait()
	if err := nodes[0].Announce(meshtest.Card("last:1b")); err != nil {
		t.Fatal(err)
	}
	nodes[0].Publish(mesh.Load{Up: true, Running: 12345})
	nodes[0].SetDraining(false)
	for _, n := range nodes {
		n.Await("the last word", func(v *mesh.View) bool {
			m, _ := v.Member(nodes[0].ID())
			return len(v.Holders("last:1b")) == 1 && m.Load != nil && m.Load.Running == 12345 && !m.Draining()
		})
	}
}

func TestPortInUse(t *testing.T) {
	n := meshtest.Start(t, 1)[0]
	id, err := identity.New()
	if err != nil {
		t.Fatal(err)
	}
	cfg := mesh.DefaultConfig()
	cfg.Identity, cfg.Bind = id, n.Addr()
	_, err = mesh.New(cfg)
	var pe *mesh.PortInUseError
	if !errors.Is(err, mesh.ErrPortInUse) || !errors.As(err, &pe) || pe.Addr.Port() != n.Addr().Port() {
		t.Fatalf("got error %v", err)
	}
}

func TestNewChecksItsConfig(t *testing.T) {
	id, err := identity.New()
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name   string
		change func(*mesh.Config)
		want   string
	}{
		{"no identity", func(c *mesh.Config) { c.Identity = nil }, "identity"},
		{"no name", func(c *mesh.Config) { c.Cluster = "" }, "name of the mesh"},
		{"long name", func(c *mesh.Config) { c.Cluster = strings.Repeat("x", 65) }, "name of the mesh"},
		{"control characters", func(c *mesh.Config) { c.Cluster = "a\x1b[2J" }, "name of the mesh"},
		{"peer port", func(c *mesh.Config) { c.Info.PeerPort = 70000 }, "peer port"},
		{"empty key", func(c *mesh.Config) { c.Keys = []mesh.Key{{}} }, "key 1"},
		{"no profile", func(c *mesh.Config) { c.Profile = mesh.Profile{} }, "profile"},
		{"slow probe", func(c *mesh.Config) { c.Profile.ProbeTimeout = time.Second }, "probe timeout"},
		{"advertise everything", func(c *mesh.Config) { c.Advertise = netip.MustParseAddrPort("0.0.0.0:0") }, "cannot be advertised"},
		{"foreign address", func(c *mesh.Config) { c.Bind = netip.MustParseAddrPort("192.0.2.1:0") }, "192.0.2.1"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			cfg := mesh.DefaultConfig()
			cfg.Identity, cfg.Bind = id, netip.MustParseAddrPort("127.0.0.1:0")
			tt.change(&cfg)
			m, err := mesh.New(cfg)
			if err == nil {
				m.Close()
				t.Fatal("no error")
			}
			if !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %q does not speak of %q", err, tt.want)
			}
		})
	}
}

func TestLifeOfAMesh(t *testing.T) {
	id, err := identity.New()
	if err != nil {
		t.Fatal(err)
	}
	cfg := mesh.DefaultConfig()
	cfg.Identity, cfg.Bind = id, netip.MustParseAddrPort("127.0.0.1:0")
	m, err := mesh.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if self := m.View().Self(); self == nil || self.ID != id.ID() || self.Addr.Port() == 0 || self.Load == nil {
		t.Errorf("before Run the View shows %+v", self)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	if _, err := m.Join(ctx, "127.0.0.1"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("join before Run: %v", err)
	}
	if _, err := m.Wait(ctx, func(*mesh.View) bool { return false }); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("wait in vain: %v", err)
	}
	cancel()
	m.Close()
	if err := m.Run(t.Context()); err == nil {
		t.Error("Run after Close")
	}
	if _, err := m.Join(t.Context(), "127.0.0.1"); !errors.Is(err, mesh.ErrNotRunning) {
		t.Errorf("join after Close: %v", err)
	}
	if err := m.Leave(t.Context()); !errors.Is(err, mesh.ErrNotRunning) {
		t.Errorf("leave after Close: %v", err)
	}
	// The port is free again.
	cfg.Bind = m.Addr()
	again, err := mesh.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	again.Close()
}

// Leave and the end of Run at once must neither hang nor panic (the gossip
// library panics when it is told to leave after shutdown).
func TestLeaveWhileEnding(t *testing.T) {
	nodes := meshtest.Start(t, 2)
	left := make(chan error, 1)
	go func() { left <- nodes[1].Leave(t.Context()) }()
	nodes[1].Kill()
	if err := <-left; err != nil && !errors.Is(err, mesh.ErrNotRunning) {
		t.Error(err)
	}
}

func TestLogSpeaksOfMembers(t *testing.T) {
	var out lockedBuffer
	nodes := meshtest.Start(t, 2, meshtest.WithConfig(func(i int, c *mesh.Config) {
		if i == 0 {
			c.Log = slog.New(slog.NewTextHandler(&out, nil))
		}
	}))
	id := string(nodes[1].ID())
	nodes[1].Kill()
	nodes[0].Await("failure", status(nodes[1].ID(), mesh.Failed))
	for _, want := range []string{"member joined", "member failed", id, "component=mesh"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in the log:\n%s", want, out.String())
		}
	}
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
