package discovery

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestParseAddr(t *testing.T) {
	for _, tt := range []struct {
		in, host string
		port     int // 0: refused
	}{
		{"gpu", "gpu", 11437},
		{"gpu.lan.", "gpu.lan.", 11437},
		{"my_box:7", "my_box", 7},
		{"10.0.0.7", "10.0.0.7", 11437},
		{" 10.0.0.7:80 ", "10.0.0.7", 80},
		{"::ffff:10.0.0.7", "10.0.0.7", 11437},
		{"fd00::7", "fd00::7", 11437},
		{"[fd00::7]", "fd00::7", 11437},
		{"[fd00::7]:80", "fd00::7", 80},
		{"fe80::1%eth0", "fe80::1%eth0", 11437},
		{"[fe80::1%eth0]:80", "fe80::1%eth0", 80},
		{"", "", 0},
		{":80", "", 0},
		{"gpu:", "", 0},
		{"gpu:0", "", 0},
		{"gpu:65536", "", 0},
		{"gpu:http", "", 0},
		{"gpu:+80", "", 0},
		{"http://gpu:80", "", 0},
		{"a/b", "", 0},
		{"a b", "", 0},
		{"-x", "", 0},
		{"a..b", "", 0},
		{"[gpu", "", 0},
		{"[gpu]", "", 0},
		{"[fd00::7", "", 0},
		{"fd00::7]", "", 0},
		{"[fe80::1%a/b]:80", "", 0},
		{"0.0.0.0:80", "", 0},
		{"1.2.3.4.5.6", "1.2.3.4.5.6", 11437}, // a host name by the letter; the resolver will say no
		{"1:2:3", "", 0},
	} {
		t.Run(tt.in, func(t *testing.T) {
			host, port, err := ParseAddr(tt.in)
			if tt.port == 0 {
				if !errors.Is(err, ErrAddr) {
					t.Errorf("= %q, %d, %v; want ErrAddr", host, port, err)
				}
				return
			}
			if err != nil || host != tt.host || port != tt.port {
				t.Errorf("= %q, %d, %v; want %q, %d", host, port, err, tt.host, tt.port)
			}
		})
	}
}

func TestParseSeeds(t *testing.T) {
	got, err := ParseSeeds("gpu, 10.0.0.7:80", "", "gpu:11437 fd00::7")
	if want := (Static{"gpu:11437", "10.0.0.7:80", "[fd00::7]:11437"}); err != nil || !slices.Equal(got, want) {
		t.Errorf("= %q, %v; want %q", got, err, want)
	}
	got, err = ParseSeeds("a/b", "ok", "c:99999")
	if !errors.Is(err, ErrAddr) || !slices.Equal(got, Static{"ok:11437"}) {
		t.Errorf("= %q, %v; want the good one and ErrAddr", got, err)
	}
}

// offers collects what a source offers, with the time since start.
type offers struct {
	mu    sync.Mutex
	start time.Time
	list  []string
}

func (o *offers) found(p Peer) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.list = append(o.list, time.Since(o.start).Round(time.Second).String()+" "+p.Source+" "+p.Addr)
}

func (o *offers) addrs() []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Clone(o.list)
}

// runSource runs s in the test's bubble until the test ends.
func runSource(t *testing.T, run func(context.Context, func(Peer)) error) *offers {
	t.Helper()
	o := &offers{start: time.Now()}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- run(ctx, o.found) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run = %v, want nil", err)
		}
	})
	return o
}

func TestSeedsAreResolvedAgainAndAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ip := netip.MustParseAddr("10.0.0.7")
		var mu sync.Mutex
		look := func(_ context.Context, _, host string) ([]netip.Addr, error) {
			mu.Lock()
			defer mu.Unlock()
			if host != "gpu" {
				t.Errorf("looked up %q", host)
			}
			return []netip.Addr{netip.AddrFrom16(ip.As16())}, nil // as the resolver does: mapped
		}
		o := runSource(t, func(ctx context.Context, found func(Peer)) error {
			return Static{"gpu", "fd00::7"}.run(ctx, look, found)
		})
		synctest.Wait()
		if got := o.addrs(); len(got) != 2 || !slices.Contains(got, "0s seed 10.0.0.7:11437") || !slices.Contains(got, "0s seed [fd00::7]:11437") {
			t.Errorf("at the start: %q", got)
		}
		mu.Lock()
		ip = netip.MustParseAddr("10.0.0.8") // a new lease
		mu.Unlock()
		after(75 * time.Second)
		if got := o.addrs(); len(got) != 4 || !slices.ContainsFunc(got, func(s string) bool { return s[len(s)-14:] == "10.0.0.8:11437" }) {
			t.Errorf("after a minute: %q", got)
		}
	})
}

func TestSeedThatDoesNotResolveIsOfferedAsItStands(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broken, lookups := true, 0
		var mu sync.Mutex
		look := func(context.Context, string, string) ([]netip.Addr, error) {
			mu.Lock()
			defer mu.Unlock()
			lookups++
			if broken {
				return nil, errors.New("no such host")
			}
			return []netip.Addr{netip.MustParseAddr("10.0.0.7")}, nil
		}
		o := runSource(t, func(ctx context.Context, found func(Peer)) error {
			return Static{"gpu"}.run(ctx, look, found)
		})
		after(20 * time.Second) // at 0, 1, 3, 7, 15 s, each a fifth off
		mu.Lock()
		if lookups < 4 || lookups > 6 {
			t.Errorf("%d lookups in 20 s of failure, want about 5", lookups)
		}
		broken = false
		mu.Unlock()
		got := o.addrs()
		if got[0] != "0s seed gpu:11437" {
			t.Errorf("first offer %q, want the name", got[0])
		}
		after(time.Minute)
		if got := o.addrs(); got[len(got)-1][len(got[len(got)-1])-14:] != "10.0.0.7:11437" {
			t.Errorf("offers %q, want the address at last", got)
		}
	})
}

func TestBadSeedFailsAtOnce(t *testing.T) {
	if err := (Static{"a/b"}).Run(t.Context(), func(Peer) { t.Error("offered") }); !errors.Is(err, ErrAddr) {
		t.Errorf("Run = %v, want ErrAddr", err)
	}
}

func FuzzAddr(f *testing.F) {
	for _, s := range []string{"gpu", "gpu:7", "10.0.0.7", "[fd00::7]:80", "fe80::1%eth0", "[fe80::1%eth0]:80", "::ffff:1.2.3.4", "%", "a%b:1", ":::"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		host, port, err := ParseAddr(s)
		if err != nil {
			if !errors.Is(err, ErrAddr) || host != "" || port != 0 {
				t.Fatalf("%q: %q, %d, %v", s, host, port, err)
			}
			return
		}
		// Written out as an address, it reads the same.
		again, p, err := ParseAddr(net.JoinHostPort(host, strconv.Itoa(port)))
		if err != nil || again != host || p != port {
			t.Fatalf("%q is %q, %d, which is %q, %d, %v", s, host, port, again, p, err)
		}
	})
}
