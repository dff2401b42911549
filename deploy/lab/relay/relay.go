package relay

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"
)

// Network is where the relay listens and dials; a node of the lab is one. Nil
// means this host.
type Network interface {
	Listen(network, address string) (net.Listener, error)
	ListenPacket(network, address string) (net.PacketConn, error)
	DialContext(ctx context.Context, network, address string) (net.Conn, error)
}

// Config says between whom a relay stands.
type Config struct {
	Listen string // address for TCP and UDP; "" is 127.0.0.1:0, port 0 is any free one
	Target string // host:port
	Faults Faults // at the start
	Seed   uint64 // of jitter and loss; the same seed draws the same numbers
	In     Network
}

// Stats counts since New.
type Stats struct {
	Streams, Refused, Resets int
	Datagrams, Lost          int
}

// Relay carries one port. Its methods may be called from any goroutine.
type Relay struct {
	target string
	in     Network
	tcp    net.Listener
	udp    net.PacketConn
	addr   netip.AddrPort

	mu       sync.Mutex // guards everything that follows
	faults   Faults
	changed  chan struct{} // closed and replaced by Set
	rng      *rand.Rand
	stats    Stats
	pairs    map[*pair]struct{}
	sessions map[string]*session
}

// New binds both ports and starts nothing. Whoever holds a Relay calls Run, or
// Close if it is never run.
func New(c Config) (*Relay, error) {
	if c.Listen == "" {
		c.Listen = "127.0.0.1:0"
	}
	if c.In == nil {
		c.In = host{}
	}
	tcp, udp, err := bind(c.In, c.Listen)
	if err != nil {
		return nil, fmt.Errorf("relay: %w", err)
	}
	return &Relay{
		target: c.Target, in: c.In, tcp: tcp, udp: udp,
		addr:     tcp.Addr().(*net.TCPAddr).AddrPort(),
		faults:   c.Faults,
		changed:  make(chan struct{}),
		rng:      rand.New(rand.NewPCG(c.Seed, 1)),
		pairs:    map[*pair]struct{}{},
		sessions: map[string]*session{},
	}, nil
}

// bind takes the same port for TCP and UDP. A free TCP port may be taken for
// UDP, so a port of the kernel's choice is tried a few times.
func bind(in Network, address string) (net.Listener, net.PacketConn, error) {
	var failed error
	for range 8 {
		tcp, err := in.Listen("tcp", address)
		if err != nil {
			return nil, nil, err
		}
		udp, err := in.ListenPacket("udp", tcp.Addr().String())
		if err == nil {
			return tcp, udp, nil
		}
		failed = errors.Join(err, tcp.Close())
	}
	return nil, nil, failed
}

// Start runs a relay until the test ends.
func Start(t testing.TB, c Config) *Relay {
	t.Helper()
	r, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- r.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return r
}

// Addr is where the relay listens, for TCP and UDP.
func (r *Relay) Addr() netip.AddrPort { return r.addr }

// Set replaces the faults, for open connections too.
func (r *Relay) Set(f Faults) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.faults = f
	close(r.changed)
	r.changed = make(chan struct{})
}

// Reset breaks every open connection on both sides with a TCP reset and
// returns how many there were.
func (r *Relay) Reset() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	for p := range r.pairs {
		p.abort()
	}
	n := len(r.pairs)
	r.stats.Resets += n
	return n
}

// Stats returns the counts so far.
func (r *Relay) Stats() Stats {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.stats
}

// Close frees the ports of a relay that was never run.
func (r *Relay) Close() error { return errors.Join(r.tcp.Close(), r.udp.Close()) }

// Run carries connections and datagrams until ctx ends, then breaks what is
// open, frees the ports and returns nil. It returns early with an error when a
// port fails.
func (r *Relay) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = r.Close() })
	defer stop()

	var running sync.WaitGroup
	failed := make(chan error, 2)
	for _, serve := range []func(context.Context, *sync.WaitGroup) error{r.serveStreams, r.serveDatagrams} {
		running.Go(func() {
			if err := serve(ctx, &running); err != nil && ctx.Err() == nil {
				failed <- fmt.Errorf("relay: %w", err)
			}
			cancel()
		})
	}
	running.Wait()
	select {
	case err := <-failed:
		return err
	default:
		return nil
	}
}

// line returns a direction's line and the channel that closes when it may have
// changed.
func (r *Relay) line(up bool) (Line, <-chan struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if up {
		return r.faults.Up, r.changed
	}
	return r.faults.Down, r.changed
}

func (r *Relay) draw() float64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.rng.Float64()
}

func (r *Relay) count(f func(*Stats)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f(&r.stats)
}

// wait blocks until what arrived may leave in a direction, following changes
// of the line. It returns the line by which it left, or false when ctx ended.
func (r *Relay) wait(ctx context.Context, up bool, arrived time.Time, draw float64, free time.Time) (Line, bool) {
	for {
		line, changed := r.line(up)
		var timer <-chan time.Time
		if !line.Cut {
			left := time.Until(line.due(arrived, draw, free))
			if left <= 0 {
				return line, ctx.Err() == nil
			}
			timer = time.After(left)
		}
		select {
		case <-timer:
		case <-changed:
		case <-ctx.Done():
			return line, false
		}
	}
}

// host is the network of the process itself.
type host struct{}

func (host) Listen(network, address string) (net.Listener, error) {
	return (&net.ListenConfig{}).Listen(context.Background(), network, address)
}

func (host) ListenPacket(network, address string) (net.PacketConn, error) {
	return (&net.ListenConfig{}).ListenPacket(context.Background(), network, address)
}

func (host) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	return (&net.Dialer{}).DialContext(ctx, network, address)
}
