package discovery

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// Config says what [New] needs. Only Self and Joiner must be set; a duration of
// zero means its default.
type Config struct {
	Self    string   // own node id; offers with this id are dropped
	Cluster string   // own cluster; offers that name another are dropped
	Joiner  Joiner   // called from up to Parallel goroutines at once
	Sources []Source // each runs in a goroutine of its own and is started again if it fails

	// Known reports whether p is an alive member already: by p.ID where it is
	// set, by p.Addr otherwise. It should also be true for this node's own
	// addresses. It is asked often and must not block. Nil means that nobody
	// knows, and every address is joined again each Rejoin.
	Known func(p Peer) bool

	// Probe asks whether anything listens at addr, before the costlier join.
	// Nil is a TCP dial that is closed at once. The gossip port of a node drops
	// a stream that ends before its first byte without a word.
	Probe func(ctx context.Context, addr string) error

	ProbeTimeout time.Duration // 2 s: longer than a LAN or a relayed tailnet path needs, short for a black hole
	JoinTimeout  time.Duration // 10 s, memberlist's own TCP timeout
	Parallel     int           // 8 attempts under way at most

	BackoffMin time.Duration // 2 s after the first failure of an address, doubled with each further one
	BackoffMax time.Duration // 2 min at most; five times that for tailnet addresses, most of which are no node
	Settle     time.Duration // 1 s from a join until membership must show the peer
	Recheck    time.Duration // 10 s between looks at an address that is a member; bounds how late a loss is noticed
	Rejoin     time.Duration // 5 min between joins of an address that answers and of which Known knows nothing
	Expiry     time.Duration // 15 min without an offer until an address is forgotten
	MaxPeers   int           // 256 addresses of each source are kept at most

	Rand   func() float64 // in [0, 1), spreads the waits; nil is math/rand
	Logger *slog.Logger   // nil discards
}

// Discovery merges sources and joins what they find. Create it with [New].
type Discovery struct {
	cfg     Config // read-only after New
	log     *slog.Logger
	running atomic.Bool
	found   atomic.Pointer[[]Peer] // written by Run

	offers  chan Peer
	results chan result
}

// result is how one attempt ended.
type result struct {
	entry *entry
	err   error // nil: joined
}

// errNoMember is the result of a join that no member answered.
var errNoMember = errors.New("discovery: no other member answered")

// New checks cfg and starts nothing.
func New(cfg Config) (*Discovery, error) {
	if !validID(cfg.Self) {
		return nil, fmt.Errorf("discovery: own node id %q is not 1 to %d letters, digits, dashes, dots, colons or underscores", cfg.Self, maxID)
	}
	if cfg.Joiner == nil {
		return nil, errors.New("discovery: no joiner")
	}
	for i, s := range cfg.Sources {
		if s == nil {
			return nil, fmt.Errorf("discovery: source %d is nil", i)
		}
	}
	def := func(d *time.Duration, v time.Duration) {
		if *d <= 0 {
			*d = v
		}
	}
	def(&cfg.ProbeTimeout, 2*time.Second)
	def(&cfg.JoinTimeout, 10*time.Second)
	def(&cfg.BackoffMin, 2*time.Second)
	def(&cfg.BackoffMax, 2*time.Minute)
	def(&cfg.Settle, time.Second)
	def(&cfg.Recheck, 10*time.Second)
	def(&cfg.Rejoin, 5*time.Minute)
	def(&cfg.Expiry, 15*time.Minute)
	if cfg.Parallel <= 0 {
		cfg.Parallel = 8
	}
	if cfg.MaxPeers <= 0 {
		cfg.MaxPeers = 256
	}
	if cfg.Probe == nil {
		cfg.Probe = dial
	}
	if cfg.Rand == nil {
		cfg.Rand = rand.Float64
	}
	d := &Discovery{
		cfg:     cfg,
		log:     logger(cfg.Logger),
		offers:  make(chan Peer),
		results: make(chan result, cfg.Parallel), // an attempt never blocks on its result
	}
	d.found.Store(&[]Peer{})
	return d, nil
}

// Found lists the distinct peers seen and not yet expired, by source: mDNS
// peers at once, others when their port has answered. The caller owns the
// slice. It is meant for reports, and says nothing about who is alive.
func (d *Discovery) Found() []Peer {
	return append([]Peer(nil), *d.found.Load()...)
}

// Run runs the sources and joins what they find until ctx ends; then it returns
// nil, after every goroutine of its own and every source has ended. A Joiner
// that ignores its context delays that by as long as it takes.
func (d *Discovery) Run(ctx context.Context) error {
	if d.running.Swap(true) {
		return errors.New("discovery: runs already")
	}
	defer d.running.Store(false)
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()

	for _, s := range d.cfg.Sources {
		wg.Go(func() { d.source(ctx, s) })
	}
	t := newTable(&d.cfg)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for busy := 0; ; {
		select {
		case <-ctx.Done():
			for range busy { // a second Run must not read these
				<-d.results
			}
			return nil
		case p := <-d.offers:
			if !t.offer(p, time.Now()) {
				d.log.Debug("address ignored, too many from this source", "addr", p.Addr, "source", p.Source)
			}
		case r := <-d.results:
			busy--
			d.result(t, r)
		case <-timer.C:
		}
		now := time.Now()
		t.expire(now)
		for busy < d.cfg.Parallel {
			e := t.pick(now)
			if e == nil {
				break
			}
			if d.look(t, e, now) {
				busy++
				addr := e.peer.Addr // e itself stays with this loop
				wg.Go(func() { d.results <- result{e, d.attempt(ctx, addr)} })
			}
		}
		if t.dirty {
			f := t.found()
			d.found.Store(&f)
			t.dirty = false
		}
		timer.Reset(t.wait(now))
	}
}

// look decides whether e, which is due, needs an attempt, and marks it busy.
func (d *Discovery) look(t *table, e *entry, now time.Time) bool {
	switch {
	case d.cfg.Known != nil && d.cfg.Known(e.peer):
		t.known(e, now)
	case e.settling:
		if d.cfg.Known != nil && e.peer.ID != "" {
			d.log.Debug("another node answers at this address", "addr", e.peer.Addr, "node", e.peer.ID, "source", e.peer.Source)
		}
		t.unsettled(e, now, d.cfg.Rand())
	default:
		e.busy = true
		return true
	}
	return false
}

// result files how an attempt ended and tells what a person would want to know.
func (d *Discovery) result(t *table, r result) {
	e, now := r.entry, time.Now()
	attrs := []any{"addr", e.peer.Addr, "source", e.peer.Source}
	if e.peer.ID != "" {
		attrs = append(attrs, "node", e.peer.ID)
	}
	if r.err == nil {
		d.log.Info("joined a peer", attrs...)
		t.joined(e, now)
		return
	}
	t.failed(e, now, d.cfg.Rand())
	level := slog.LevelDebug
	if e.peer.Source == SourceSeed && e.failures == 1 {
		level = slog.LevelWarn // the user named it, so silence would hide a mistake; once is enough
	}
	d.log.Log(context.Background(), level, "peer does not answer", append(attrs, "err", r.err, "failures", e.failures)...)
}

// attempt probes addr and joins it.
func (d *Discovery) attempt(ctx context.Context, addr string) error {
	probe, cancel := context.WithTimeout(ctx, d.cfg.ProbeTimeout)
	defer cancel()
	if err := d.cfg.Probe(probe, addr); err != nil {
		return fmt.Errorf("discovery: probe: %w", err)
	}
	join, cancel := context.WithTimeout(ctx, d.cfg.JoinTimeout)
	defer cancel()
	n, err := d.cfg.Joiner.Join(join, addr)
	if err != nil {
		return fmt.Errorf("discovery: join: %w", err)
	}
	if n == 0 {
		return errNoMember
	}
	return nil
}

// source runs s until ctx ends, and again after a while whenever it fails.
func (d *Discovery) source(ctx context.Context, s Source) {
	found := func(p Peer) {
		if p.Addr == "" || p.ID == d.cfg.Self {
			return
		}
		if p.Cluster != "" && p.Cluster != d.cfg.Cluster {
			d.log.Debug("peer of another cluster ignored", "addr", p.Addr, "cluster", p.Cluster, "source", p.Source)
			return
		}
		select {
		case d.offers <- p:
		case <-ctx.Done():
		}
	}
	for n := 1; ; n++ {
		err := s.Run(ctx, found)
		if err == nil || ctx.Err() != nil {
			return
		}
		d.log.Warn("source of peers failed", "source", fmt.Sprintf("%T", s), "err", err)
		if !sleep(ctx, backoff(n, time.Second, time.Minute, d.cfg.Rand())) {
			return
		}
	}
}

// dial opens a TCP connection and closes it again.
func dial(ctx context.Context, addr string) error {
	c, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	return c.Close()
}

// logger names the package's part of the log; nil discards.
func logger(l *slog.Logger) *slog.Logger {
	if l == nil {
		return slog.New(slog.DiscardHandler)
	}
	return l.With("component", "discovery")
}
