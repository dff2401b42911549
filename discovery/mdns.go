package discovery

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/grandcat/zeroconf"
)

// DefaultService is the DNS-SD service type of a node.
const DefaultService = "_kage-mesh._tcp"

// MDNSConfig says what [NewMDNS] announces and where. Instance, Protocol and
// Port must be set.
type MDNSConfig struct {
	Instance string // own node id
	Cluster  string // own cluster, at most 64 bytes; other clusters' nodes are offered with theirs
	Protocol int    // own protocol version, from 1; nodes that speak another are not offered
	Port     int    // gossip port as bound, so never 0
	Service  string // "" is DefaultService

	// Advertise are the addresses to announce instead of those of the
	// interfaces, for a gossip port that is not bound to all of them.
	Advertise []netip.Addr

	// Interfaces lists this machine's interfaces, from which the fit ones are
	// taken. Nil is net.Interfaces.
	Interfaces func() ([]net.Interface, error)

	Poll   time.Duration // between looks for a change of the network; 0 is 3 s. A look is two system calls per interface
	Logger *slog.Logger  // nil discards
}

// MDNS is the [Source] for the local network: it announces this node and
// browses for others, on every fit interface, over IPv4 and IPv6, for as long
// as it runs. Where there is no fit interface it waits for one.
type MDNS struct {
	cfg   MDNSConfig
	log   *slog.Logger
	self  record
	addrs func(net.Interface) ([]net.Addr, error)

	mu    sync.Mutex
	odd   map[string]bool // what has been told once already
	peers map[string]bool // node ids heard in this window
}

// NewMDNS checks cfg and starts nothing.
func NewMDNS(cfg MDNSConfig) (*MDNS, error) {
	self := record{cluster: cfg.Cluster, protocol: cfg.Protocol, id: cfg.Instance, port: cfg.Port}
	if got, err := parseTXT(self.txt()); err != nil || got != self {
		return nil, cmp.Or(err, fmt.Errorf("%w: cannot say %+v", errTXT, self))
	}
	cfg.Service = cmp.Or(cfg.Service, DefaultService)
	if cfg.Interfaces == nil {
		cfg.Interfaces = net.Interfaces
	}
	if cfg.Poll <= 0 {
		cfg.Poll = 3 * time.Second
	}
	return &MDNS{
		cfg: cfg, log: logger(cfg.Logger), self: self,
		addrs: func(i net.Interface) ([]net.Addr, error) { return i.Addrs() },
		odd:   map[string]bool{},
	}, nil
}

// errChanged ends a session because the network is not what it was.
var errChanged = errors.New("discovery: network changed")

// Run announces and browses until ctx ends; then it says goodbye, closes its
// sockets and returns nil. One goroutine of the mDNS library may sleep on for
// at most 3.5 s from the last announcement's start; see DESIGN.md.
func (m *MDNS) Run(ctx context.Context, found func(Peer)) error {
	for told := false; ctx.Err() == nil; {
		ls := m.links()
		if len(ls) == 0 {
			if !told {
				m.log.Info("no network for mdns, waiting for one")
			}
			told = true
			sleep(ctx, m.cfg.Poll)
			continue
		}
		told = false
		m.session(ctx, ls, found)
	}
	return nil
}

// links are the interfaces to use right now.
func (m *MDNS) links() []link {
	ifs, err := m.cfg.Interfaces()
	if err != nil {
		m.once("interfaces", "network interfaces cannot be listed", "err", err)
		return nil
	}
	return usable(ifs, m.addrs)
}

// session announces and browses on ls until that is no longer what the machine
// has, or ctx ends.
func (m *MDNS) session(ctx context.Context, ls []link, found func(Peer)) {
	ctx, cancel := context.WithCancelCause(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel(nil)
	tried := make(chan struct{})
	wg.Go(func() { m.announce(ctx, ls, tried) })
	// Announce first: of two nodes that start together, the one that asks
	// later then always finds the other one answering.
	wg.Go(func() { <-tried; m.browse(ctx, ls, found) })
	for was := fingerprint(ls); sleep(ctx, m.cfg.Poll); {
		if now := m.links(); fingerprint(now) != was {
			m.log.Debug("network changed", "links", len(now))
			cancel(errChanged)
			return
		}
	}
}

// announce keeps this node on the air until ctx ends, and closes tried after
// the first try. That fails where another program holds port 5353 for itself,
// which may pass.
func (m *MDNS) announce(ctx context.Context, ls []link, tried chan<- struct{}) {
	ips := m.cfg.Advertise
	if len(ips) == 0 {
		ips = advertised(ls)
	}
	var addrs []string
	for _, ip := range ips {
		addrs = append(addrs, ip.Unmap().WithZone("").String())
	}
	for n := 1; n == 1 || ctx.Err() == nil; n++ {
		a, err := announce(m.self, m.cfg.Service, ls, addrs)
		if n == 1 {
			close(tried)
		}
		if err == nil {
			<-ctx.Done()
			a.stop()
			return
		}
		m.once("announce", "this node cannot be announced by mdns, trying again", "err", err)
		sleep(ctx, backoff(n, m.cfg.Poll, time.Minute, rand.Float64()))
	}
}

// browse looks for others until ctx ends.
func (m *MDNS) browse(ctx context.Context, ls []link, found func(Peer)) {
	for round, peers := 0, 0; ctx.Err() == nil; round++ {
		m.mu.Lock()
		m.peers = map[string]bool{}
		m.mu.Unlock()
		listen, pause := window(round, peers)
		flooded, err := browse(ctx, m.cfg.Service, ls, spread(listen, rand.Float64()),
			func(e *zeroconf.ServiceEntry) { m.entry(ls, e, found) })
		m.mu.Lock()
		peers = len(m.peers)
		m.mu.Unlock()
		switch {
		case err != nil:
			m.once("browse", "mdns cannot be listened to, trying again", "err", err)
			pause = backoff(round+1, m.cfg.Poll, time.Minute, rand.Float64())
		case flooded:
			m.once("flood", "mdns is flooded with forged or broken answers, listening less", "limit", maxEntries)
			pause, peers = floodPause, 0
		}
		if pause > 0 {
			sleep(ctx, spread(pause, rand.Float64()))
		}
	}
}

// entry offers what one answer says, once per address.
func (m *MDNS) entry(ls []link, e *zeroconf.ServiceEntry, found func(Peer)) {
	r, err := parseTXT(e.Text)
	switch {
	case err != nil:
		m.log.Debug("mdns answer ignored", "instance", clip(e.Instance), "err", clip(err.Error()))
		return
	case r.id == m.self.id:
		return
	case r.protocol != m.self.protocol:
		m.once("protocol "+r.id, "a node on this network speaks another protocol version, it is left out",
			"node", r.id, "theirs", r.protocol, "ours", m.self.protocol)
		return
	}
	m.mu.Lock()
	m.peers[r.id] = true
	m.mu.Unlock()
	for _, addr := range candidates(ls, addresses(e), r.port, m.self.port) {
		found(Peer{Addr: addr, Source: SourceMDNS, ID: r.id, Cluster: r.cluster})
	}
}

// once warns of something once per run. Keys that come off the wire hold a
// blank; the memory of those is bounded, and beyond that there is silence.
func (m *MDNS) once(key, msg string, attrs ...any) {
	const limit = 32
	m.mu.Lock()
	told := m.odd[key] || len(m.odd) >= limit && strings.Contains(key, " ")
	if !told {
		m.odd[key] = true
	}
	m.mu.Unlock()
	if !told {
		m.log.Warn(msg, attrs...) //nolint:sloglint // the callers' messages are constants
	}
}
