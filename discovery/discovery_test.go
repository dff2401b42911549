package discovery

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// sourceFunc is a Source made of a function.
type sourceFunc func(ctx context.Context, found func(Peer)) error

func (f sourceFunc) Run(ctx context.Context, found func(Peer)) error { return f(ctx, found) }

// once offers peers and then waits for the end.
func once(peers ...Peer) Source {
	return sourceFunc(func(ctx context.Context, found func(Peer)) error {
		for _, p := range peers {
			found(p)
		}
		<-ctx.Done()
		return nil
	})
}

// world is the rest of the mesh in a test: which addresses answer, as whom, and
// who is a member. All times are since the start.
type world struct {
	mu      sync.Mutex
	start   time.Time
	nodes   map[string]string // addr: node id that answers there
	members map[string]bool   // by id and by addr
	mute    bool              // joins succeed, membership never shows it
	probes  []string          // "1m2s addr"
	joins   []string
	hang    bool // probes answer only when their context ends
	now     int  // probes under way
	most    int
}

func newWorld() *world {
	return &world{start: time.Now(), nodes: map[string]string{}, members: map[string]bool{}}
}

func (w *world) note(list *[]string, addr string) {
	*list = append(*list, fmt.Sprintf("%v %s", time.Since(w.start), addr))
}

func (w *world) Join(_ context.Context, addrs ...string) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, a := range addrs {
		w.note(&w.joins, a)
		id, ok := w.nodes[a]
		if !ok {
			return 0, errors.New("refused")
		}
		if !w.mute {
			w.members[id], w.members[a] = true, true
		}
	}
	return len(addrs), nil
}

func (w *world) probe(ctx context.Context, addr string) error {
	w.mu.Lock()
	w.note(&w.probes, addr)
	_, ok := w.nodes[addr]
	w.now++
	w.most = max(w.most, w.now)
	hang := w.hang
	w.mu.Unlock()
	if hang {
		<-ctx.Done()
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.now--
	if hang {
		return ctx.Err()
	}
	if !ok {
		return errors.New("refused")
	}
	return nil
}

func (w *world) known(p Peer) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if p.ID != "" {
		return w.members[p.ID]
	}
	return w.members[p.Addr]
}

// set changes the world.
func (w *world) set(f func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f()
}

func (w *world) probed() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.probes)
}

func (w *world) joined() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.joins)
}

// config is a Config of w without chance in it.
func (w *world) config(sources ...Source) Config {
	return Config{
		Self: "self", Cluster: "home", Joiner: w, Known: w.known, Probe: w.probe, Sources: sources,
		Rand: func() float64 { return 0.5 },
	}
}

// start runs a Discovery until the test ends and checks that Run ends well.
func start(t *testing.T, cfg Config) *Discovery {
	t.Helper()
	d, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- d.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run = %v, want nil", err)
		}
	})
	return d
}

// inBubble runs f in a synctest bubble: exact times, and no goroutine may stay.
func inBubble(t *testing.T, f func(t *testing.T, w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { f(t, newWorld()) })
}

// after lets d pass.
func after(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

func equal(t *testing.T, what string, got, want []string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s:\n got %q\nwant %q", what, got, want)
	}
}

var (
	mdnsA = Peer{Addr: "10.0.0.1:11437", Source: SourceMDNS, ID: "a", Cluster: "home"}
	mdnsB = Peer{Addr: "10.0.0.2:11437", Source: SourceMDNS, ID: "b", Cluster: "home"}
)

func TestPeerIsJoinedAtOnceAndOnlyOnce(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.nodes[mdnsA.Addr] = "a"
		start(t, w.config(once(mdnsA, mdnsA)))
		after(time.Hour)
		equal(t, "joins", w.joined(), []string{"0s " + mdnsA.Addr})
	})
}

func TestBackOffDoublesPerAddressUpToItsLimit(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		cfg := w.config(once(mdnsA))
		cfg.Expiry = time.Hour
		start(t, cfg)
		after(9 * time.Minute)
		var want []string
		for _, at := range []time.Duration{0, 2, 6, 14, 30, 62, 126, 246, 366, 486} {
			want = append(want, fmt.Sprintf("%v %s", at*time.Second, mdnsA.Addr))
		}
		equal(t, "probes", w.probed(), want)
		equal(t, "joins of a closed port", w.joined(), nil)
	})
}

func TestRepeatedOffersDoNotResetTheBackOff(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		start(t, w.config(sourceFunc(func(ctx context.Context, found func(Peer)) error {
			for sleep(ctx, 10*time.Millisecond) {
				found(mdnsA)
			}
			return nil
		})))
		after(time.Minute)
		if n := len(w.probed()); n != 5 { // at 0, 2, 6, 14 and 30 s
			t.Errorf("%d probes in a minute of constant offers, want 5: %q", n, w.probed())
		}
	})
}

func TestPeerThatLeavesAndReturnsIsJoinedAgain(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.nodes[mdnsA.Addr] = "a"
		start(t, w.config(once(mdnsA)))
		after(61 * time.Second)
		w.set(func() { delete(w.nodes, mdnsA.Addr); delete(w.members, "a") })
		after(30 * time.Second) // noticed within Recheck, failed at 71, 73, 77, 85 s
		w.set(func() { w.nodes[mdnsA.Addr] = "a" })
		after(time.Minute)
		equal(t, "joins", w.joined(), []string{"0s " + mdnsA.Addr, "1m41s " + mdnsA.Addr})
	})
}

func TestSplitMeshesFindEachOtherWhenHealed(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		// Membership drops the peer although it lives: the link between us broke.
		w.nodes[mdnsA.Addr] = "a"
		cfg := w.config(once(mdnsA)) // its last sign of life on mDNS was before the split
		start(t, cfg)
		after(20 * time.Minute)
		w.set(func() { delete(w.nodes, mdnsA.Addr); delete(w.members, "a") })
		after(10 * time.Minute)
		w.set(func() { w.nodes[mdnsA.Addr] = "a" })
		after(2*time.Minute + time.Second)
		if !w.known(mdnsA) {
			t.Errorf("not joined within BackoffMax of the healing, probes %q", w.probed())
		}
	})
}

func TestForgottenAddressIsNotDialledAndComesBackFresh(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		d := start(t, w.config(sourceFunc(func(ctx context.Context, found func(Peer)) error {
			found(mdnsA)
			if sleep(ctx, time.Hour) {
				found(mdnsA)
			}
			<-ctx.Done()
			return nil
		})))
		after(15*time.Minute + time.Second)
		if f := d.Found(); len(f) != 0 {
			t.Errorf("found %v after expiry", f)
		}
		n := len(w.probed())
		after(44 * time.Minute)
		if got := len(w.probed()); got != n {
			t.Errorf("%d probes of a forgotten address", got-n)
		}
		w.set(func() { w.nodes[mdnsA.Addr] = "a" })
		after(time.Minute)
		equal(t, "joins", w.joined(), []string{"1h0m0s " + mdnsA.Addr})
	})
}

func TestBadAddressesOfAPeerFirstThenTheGoodOne(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.nodes["10.0.0.3:1"] = "a"
		p := func(addr string) Peer { return Peer{Addr: addr, Source: SourceMDNS, ID: "a"} }
		d := start(t, w.config(once(p("10.0.0.1:1"), p("10.0.0.2:1"), p("10.0.0.3:1"), p("10.0.0.4:1"))))
		after(20 * time.Minute)
		// The fourth is never tried: by then the node is a member.
		equal(t, "probes", w.probed(), []string{"0s 10.0.0.1:1", "0s 10.0.0.2:1", "0s 10.0.0.3:1"})
		if f := d.Found(); len(f) != 1 || f[0].Addr != "10.0.0.3:1" {
			t.Errorf("found %v, want the peer once, at the address that works", f)
		}
	})
}

func TestOneNodeIsTriedAtOneAddressAtATime(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.hang = true
		p := func(addr string) Peer { return Peer{Addr: addr, Source: SourceMDNS, ID: "a"} }
		start(t, w.config(once(p("10.0.0.1:1"), p("10.0.0.2:1"), p("10.0.0.3:1"))))
		after(5 * time.Second)
		equal(t, "probes", w.probed(), []string{"0s 10.0.0.1:1", "2s 10.0.0.2:1", "4s 10.0.0.3:1"})
	})
}

func TestAnotherNodeAtTheAddressCountsAsAFailure(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.nodes[mdnsA.Addr] = "self" // a bridge address that both hosts have
		start(t, w.config(once(mdnsA)))
		after(20 * time.Second)
		// Joined, found wanting after Settle, then the usual back-off.
		equal(t, "joins", w.joined(), []string{"0s " + mdnsA.Addr, "3s " + mdnsA.Addr, "8s " + mdnsA.Addr, "17s " + mdnsA.Addr})
	})
}

func TestSeedThatMembershipCannotNameIsJoinedNowAndThen(t *testing.T) {
	for _, tt := range []struct {
		name string
		edit func(*Config, *world)
	}{
		{"membership shows other addresses", func(_ *Config, w *world) { w.mute = true }},
		{"nobody to ask", func(c *Config, _ *world) { c.Known = nil }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				seed := Peer{Addr: "10.0.0.9:11437", Source: SourceSeed}
				w.nodes[seed.Addr] = "s"
				cfg := w.config(once(seed))
				tt.edit(&cfg, w)
				start(t, cfg)
				after(11 * time.Minute)
				equal(t, "joins", w.joined(), []string{"0s " + seed.Addr, "5m1s " + seed.Addr, "10m2s " + seed.Addr})
			})
		})
	}
}

func TestSelfAndOtherClustersAreLeftAlone(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		d := start(t, w.config(once(
			Peer{Addr: "10.0.0.1:1", Source: SourceMDNS, ID: "self", Cluster: "home"},
			Peer{Addr: "10.0.0.2:1", Source: SourceMDNS, ID: "x", Cluster: "neighbour"},
			Peer{Source: SourceMDNS, ID: "y"},
		)))
		after(time.Minute)
		equal(t, "probes", w.probed(), nil)
		if f := d.Found(); len(f) != 0 {
			t.Errorf("found %v", f)
		}
	})
}

func TestAttemptsAreBounded(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.hang = true
		var peers []Peer
		for i := range 100 {
			peers = append(peers, Peer{Addr: fmt.Sprintf("10.0.1.%d:1", i), Source: SourceTailnet})
		}
		start(t, w.config(once(peers...)))
		after(time.Second)
		w.set(func() {
			if w.most != 8 {
				t.Errorf("%d probes at once, want 8", w.most)
			}
		})
		after(8 * time.Second) // each takes ProbeTimeout
		if n := len(w.probed()); n > 40 {
			t.Errorf("%d probes in 9 s", n)
		}
	})
}

func TestSeedIsNotStarvedByAFlood(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		seed := Peer{Addr: "10.9.9.9:11437", Source: SourceSeed}
		var flood []Peer
		for i := range 5000 {
			flood = append(flood, Peer{Addr: fmt.Sprintf("10.0.%d.%d:1", i/250, i%250), Source: SourceMDNS, ID: fmt.Sprint("f", i)})
		}
		cfg := w.config(once(flood...), sourceFunc(func(ctx context.Context, found func(Peer)) error {
			sleep(ctx, time.Second)
			found(seed)
			<-ctx.Done()
			return nil
		}))
		inner := cfg.Probe
		cfg.Probe = func(ctx context.Context, addr string) error {
			if addr != seed.Addr {
				<-ctx.Done() // black holes
				return ctx.Err()
			}
			return inner(ctx, addr)
		}
		w.nodes[seed.Addr] = "s"
		d := start(t, cfg)
		after(4 * time.Second)
		equal(t, "joins", w.joined(), []string{"2s " + seed.Addr}) // the first free place
		if n := len(d.Found()); n > 257 {
			t.Errorf("%d peers kept, want at most 256 from mdns", n)
		}
	})
}

func TestFailedSourceIsStartedAgain(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		var runs []time.Duration
		start(t, w.config(sourceFunc(func(context.Context, func(Peer)) error {
			runs = append(runs, time.Since(w.start))
			if len(runs) < 3 {
				return errors.New("broken")
			}
			return nil // done early, which is its right
		})))
		after(time.Hour)
		if want := []time.Duration{0, time.Second, 3 * time.Second}; !slices.Equal(runs, want) {
			t.Errorf("runs at %v, want %v", runs, want)
		}
	})
}

func TestFoundTellsDistinctPeersBySource(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.nodes["10.0.0.7:1"], w.nodes["10.0.0.8:1"] = "s", "r"
		d := start(t, w.config(once(
			mdnsB, Peer{Addr: "[fd00::2]:11437", Source: SourceMDNS, ID: "b", Cluster: "home"}, mdnsA,
			Peer{Addr: "10.0.0.7:1", Source: SourceSeed},
			Peer{Addr: "10.0.0.8:1", Source: SourceRemembered, ID: "r"},
			Peer{Addr: "10.0.0.9:1", Source: SourceRemembered, ID: "dead"},
			Peer{Addr: "100.64.0.1:1", Source: SourceTailnet},
		)))
		after(5 * time.Second)
		var got []string
		for _, p := range d.Found() {
			got = append(got, p.Source+" "+p.ID+" "+p.Addr)
		}
		equal(t, "found", got, []string{
			"mdns a 10.0.0.1:11437", "mdns b 10.0.0.2:11437",
			"remembered r 10.0.0.8:1", "seed  10.0.0.7:1",
		})
	})
}

func TestForgedIDDoesNotHideASeed(t *testing.T) {
	for _, seedFirst := range []bool{true, false} {
		t.Run(fmt.Sprint("seed first ", seedFirst), func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				seed := Peer{Addr: "10.0.0.7:11437", Source: SourceSeed}
				forged := Peer{Addr: seed.Addr, Source: SourceMDNS, ID: "alive", Cluster: "home"}
				w.members["alive"] = true
				w.nodes[seed.Addr] = "s"
				peers := []Peer{seed, forged}
				if !seedFirst {
					slices.Reverse(peers)
				}
				start(t, w.config(once(peers...)))
				after(20 * time.Second)
				if !w.known(seed) {
					t.Error("seed never joined")
				}
			})
		})
	}
}

func TestSeedThatDoesNotAnswerIsToldOnce(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		var log bytes.Buffer
		cfg := w.config(once(Peer{Addr: "10.0.0.7:11437", Source: SourceSeed}, mdnsA))
		cfg.Logger = slog.New(slog.NewTextHandler(&log, nil)) // info and above; only the run loop writes here
		start(t, cfg)
		after(10 * time.Minute)
		if n := strings.Count(log.String(), "\n"); n != 1 || !strings.Contains(log.String(), "10.0.0.7:11437") {
			t.Errorf("log has %d lines, want one about the seed:\n%s", n, log.String())
		}
	})
}

func TestRunEndsWhileAttemptsHang(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.hang = true
		d, err := New(w.config(once(mdnsA, mdnsB)))
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() { done <- d.Run(ctx) }()
		after(time.Second)
		if err := d.Run(ctx); err == nil {
			t.Error("second Run at the same time succeeded")
		}
		cancel()
		synctest.Wait()
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("Run = %v", err)
			}
		default:
			t.Error("Run has not returned")
		}
		if took := time.Since(w.start); took != time.Second {
			t.Errorf("took %v", took)
		}
	})
}

func TestNewRefusesNonsense(t *testing.T) {
	w := newWorld()
	for name, edit := range map[string]func(*Config){
		"no id":      func(c *Config) { c.Self = "" },
		"odd id":     func(c *Config) { c.Self = "a b" },
		"no joiner":  func(c *Config) { c.Joiner = nil },
		"nil source": func(c *Config) { c.Sources = []Source{nil} },
	} {
		t.Run(name, func(t *testing.T) {
			cfg := w.config()
			edit(&cfg)
			if _, err := New(cfg); err == nil {
				t.Error("no error")
			}
		})
	}
}

// TestDefaultProbe dials real ports: an open one and one that has just closed.
func TestDefaultProbe(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var accepted atomic.Int64
	served := make(chan struct{})
	go func() {
		defer close(served)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			accepted.Add(1)
			c.Close()
		}
	}()
	if err := dial(t.Context(), l.Addr().String()); err != nil {
		t.Errorf("open port: %v", err)
	}
	l.Close()
	<-served
	if err := dial(t.Context(), l.Addr().String()); err == nil {
		t.Error("closed port answers")
	}
	if accepted.Load() != 1 {
		t.Errorf("%d connections accepted, want 1", accepted.Load())
	}
}
