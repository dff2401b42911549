package mesh

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"time"
	"unicode/utf8"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh/identity"
)

// DefaultPort is the gossip port, TCP and UDP.
const DefaultPort = 11437

// Config is what [New] needs. Start from [DefaultConfig].
type Config struct {
	// Identity is the node's key; required.
	Identity *identity.Identity
	// Cluster is the name of the mesh: nodes of different names never join.
	// 1 to 64 bytes.
	Cluster string
	// Keys are the mesh keys, the first is used to send, all to receive (a
	// second one only while a key is rotated). Empty: the mesh is open to
	// everyone who can reach the port.
	Keys []Key
	// KeyStore is where rotations keep the keys; nil: in memory.
	KeyStore *KeyStore
	// DeniedFile is where the ids of evicted nodes are kept; "": in memory.
	DeniedFile string
	// Bind is the gossip address. Port 0 takes a free one; an invalid or
	// unspecified address means all interfaces.
	Bind netip.AddrPort
	// Advertise is the address that others reach this node at. Invalid: the
	// best one of the machine, chosen anew when the machine moves to another
	// network. Port 0: the bound one.
	Advertise netip.AddrPort
	// Info is what the node says of itself beside its Card: Version, Hostname,
	// PeerPort, APIPort, and Role when configured. The rest is filled in.
	Info Info
	// Expect is how many members the mesh had when this node last saw it, 0 when
	// that is not known. A large mesh sends news on fewer times than it would if
	// it had just grown large.
	Expect int
	// Profile tunes failure detection.
	Profile Profile
	// MaxMembers bounds the mesh against strangers that invent nodes; 0: 2048.
	MaxMembers int
	// Log receives what a person would want to know; nil: discarded.
	Log *slog.Logger
}

// Profile tunes how fast a dead member is seen and what it costs. With
// n members a crash is seen by all after about
//
//	ProbeInterval·(1.6 + SuspicionMult·max(1, log10 n)) + spreading,
//
// (1.58 probe periods until the first probe hits it: SWIM, DSN 2002), at most
// SuspicionMaxTimeoutMult times that suspicion when few members confirm it.
type Profile struct {
	// ProbeInterval is the time between two probes of a node; each probes one
	// member. Lower sees deaths sooner. Below 200 ms false deaths multiply:
	// measured with Serf 0.11 on 8 nodes at 10 % packet loss, incidents in four
	// minutes were 1 at 300 ms, 6 at 200 ms, 22 at 100 ms (all refuted).
	ProbeInterval time.Duration
	// ProbeTimeout is the wait for an answer before others are asked to probe,
	// too. It must be well below ProbeInterval and above the network's worst
	// usual round trip (Wi-Fi that saves power: 100 ms).
	ProbeTimeout time.Duration
	// SuspicionMult: a suspected member has SuspicionMult·max(1, log10
	// n)·ProbeInterval to defend itself. Higher is slower and kinder.
	SuspicionMult int
	// SuspicionMaxTimeoutMult: the time above grows by this factor as long as
	// nobody else confirms the suspicion.
	SuspicionMaxTimeoutMult int
	// AwarenessMaxMultiplier lets a node that is itself slow (inference takes
	// its CPU) probe up to so many times slower before it accuses others
	// (Lifeguard, arXiv 1707.00788).
	AwarenessMaxMultiplier int
	// IndirectChecks is the number of members asked to probe one that did not
	// answer.
	IndirectChecks int
	// GossipInterval and GossipNodes: every interval, news go to so many
	// members. Faster spreads deaths and card digests sooner.
	GossipInterval time.Duration
	GossipNodes    int
	// Retransmits is how many times each node sends a piece of news on, at least.
	// About e^-Retransmits of the members miss it, whatever the size of the mesh.
	Retransmits int
	// PushPullInterval is the time between two full exchanges with a random
	// member over TCP, which heals whatever gossip lost; it grows with
	// log2(n) above 32 members.
	PushPullInterval time.Duration
	// ReconnectInterval is the time between two tries to reach a failed
	// member again.
	ReconnectInterval time.Duration
	// Slow stretches every interval that is not named above: load reports, Views,
	// repeats after joining. 0 and 1: not at all. See [Profile.Slower].
	Slow int
}

// Slower is p with all of its time stretched, for meshes that share one machine:
// what they do in so many seconds is what they would do in one if each had that much
// more of it.
func (p Profile) Slower(times int) Profile {
	p.Slow = max(p.Slow, 1) * times
	for _, d := range []*time.Duration{&p.ProbeInterval, &p.ProbeTimeout, &p.GossipInterval, &p.PushPullInterval, &p.ReconnectInterval} {
		*d *= time.Duration(times)
	}
	return p
}

// slow stretches an interval that the profile does not name.
func (p Profile) slow(d time.Duration) time.Duration { return d * time.Duration(max(p.Slow, 1)) }

// DefaultProfile sees a crash within 2.5 s on all members. Measured with Serf
// 0.11, time until the last member has seen a kill -9: 4 nodes 1.4 s p50, 2.3 s
// max; 8 nodes 1.4 s p50, 2.0 s max; 32 nodes, all on two busy cores, 2.0 s
// p50, 2.9 s max. The library's LAN profile takes 6 to 7 s.
//
// Retransmits is thrice what the library has in a small mesh and as much as it has
// in one of hundreds: at 4, one of eight restarted nodes was unknown to some member
// until the next full exchange, 7 s later; at 12, none of 28 took longer than 0.3 s.
func DefaultProfile() Profile {
	return Profile{
		ProbeInterval:           300 * time.Millisecond,
		ProbeTimeout:            120 * time.Millisecond,
		SuspicionMult:           3,
		SuspicionMaxTimeoutMult: 2,
		AwarenessMaxMultiplier:  3,
		IndirectChecks:          4,
		GossipInterval:          60 * time.Millisecond,
		GossipNodes:             4,
		Retransmits:             12,
		PushPullInterval:        10 * time.Second,
		ReconnectInterval:       5 * time.Second,
	}
}

// DefaultConfig is a node of the mesh "home" on all interfaces and
// [DefaultPort], without a key; Identity is still to be set.
func DefaultConfig() Config {
	host, _ := os.Hostname()
	return Config{
		Cluster:    "home",
		Bind:       netip.AddrPortFrom(netip.IPv6Unspecified(), DefaultPort),
		Info:       Info{Hostname: host},
		Profile:    DefaultProfile(),
		MaxMembers: 2048,
	}
}

// checked returns c with its gaps filled, or all that is wrong with it.
func (c Config) checked() (Config, error) {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf("mesh: "+format, args...)) }
	if c.Identity == nil {
		bad("config has no identity")
	}
	if c.Cluster == "" || len(c.Cluster) > 64 || !utf8.ValidString(c.Cluster) || clean(c.Cluster, 64) != c.Cluster {
		bad("name of the mesh must be 1 to 64 printable bytes")
	}
	for _, p := range []struct {
		name string
		port int
	}{{"peer", c.Info.PeerPort}, {"api", c.Info.APIPort}} {
		if p.port < 0 || p.port > 65535 {
			bad("%s port %d is none", p.name, p.port)
		}
	}
	if a := c.Advertise.Addr(); a.IsValid() && (a.IsUnspecified() || a.IsMulticast()) {
		bad("%s cannot be advertised: it is not one machine's address", a)
	}
	p := c.Profile
	if p.ProbeInterval <= 0 || p.ProbeTimeout <= 0 || p.GossipInterval <= 0 || p.PushPullInterval <= 0 ||
		p.ReconnectInterval <= 0 || p.SuspicionMult < 1 || p.SuspicionMaxTimeoutMult < 1 || p.GossipNodes < 1 ||
		p.Retransmits < 1 || p.IndirectChecks < 0 || p.AwarenessMaxMultiplier < 1 {
		bad("profile has a zero or negative value; start from DefaultProfile")
	} else if p.ProbeTimeout >= p.ProbeInterval {
		bad("probe timeout %v must be below the probe interval %v", p.ProbeTimeout, p.ProbeInterval)
	}
	if c.MaxMembers == 0 {
		c.MaxMembers = 2048
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	c.Info.Protocol = Protocol
	return c, errors.Join(errs...)
}
