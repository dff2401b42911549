package discovery

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
)

// DefaultPort is the gossip port that an address without a port means.
const DefaultPort = 11437

// Names of the sources, as they stand in [Peer.Source].
const (
	SourceMDNS       = "mdns"
	SourceSeed       = "seed"
	SourceRemembered = "remembered"
	SourceTailnet    = "tailnet"
)

// ErrAddr is wrapped by every error about an address that cannot be read.
var ErrAddr = errors.New("discovery: bad address")

// Peer is one address at which a peer might be. A peer with several addresses
// is offered once per address, the likeliest first.
type Peer struct {
	Addr    string `json:"addr"`              // host:port of its gossip; an IPv6 host is bracketed and may carry a zone
	Source  string `json:"source"`            // who offered it, one of the Source constants
	ID      string `json:"id,omitempty"`      // node id where the source knows it
	Cluster string `json:"cluster,omitempty"` // cluster name where the source knows it
}

// Source is one way to learn of addresses. Run offers them through found, again
// and again for as long as they are worth a try, and returns nil when ctx ends.
// found may be called from several goroutines, may block for a short while, and
// must not be called after Run has returned.
type Source interface {
	Run(ctx context.Context, found func(Peer)) error
}

// Joiner is the mesh as discovery sees it. Join contacts every address and
// reports how many answered as a member would. It is called from several
// goroutines at once.
type Joiner interface {
	Join(ctx context.Context, addrs ...string) (int, error)
}

// ParseAddr reads an address as people write it: a host, host:port, an IPv6
// address with or without brackets, with or without a zone. Without a port it
// means [DefaultPort]. The error wraps [ErrAddr].
func ParseAddr(s string) (host string, port int, err error) {
	s = strings.TrimSpace(s)
	host, port = s, DefaultPort
	bare := s
	if inner, ok := strings.CutPrefix(s, "["); ok {
		if bare, ok = strings.CutSuffix(inner, "]"); !ok {
			bare = ""
		}
	}
	if ip, ok := parseIP(bare); ok {
		return ip.String(), port, nil
	}
	if strings.Contains(s, ":") {
		h, p, err := net.SplitHostPort(s)
		if err != nil {
			return "", 0, fmt.Errorf("%w %q: want host or host:port", ErrAddr, s)
		}
		n, err := strconv.ParseUint(p, 10, 16)
		if err != nil || n == 0 {
			return "", 0, fmt.Errorf("%w %q: port is not a number from 1 to 65535", ErrAddr, s)
		}
		host, port = h, int(n)
	}
	if ip, ok := parseIP(host); ok {
		return ip.String(), port, nil
	}
	if _, err := netip.ParseAddr(host); err == nil || !isHostname(host) {
		return "", 0, fmt.Errorf("%w %q: %q is neither a host name nor a machine's ip address", ErrAddr, s, host)
	}
	return host, port, nil
}

// parseIP reads an address that a machine could have.
func parseIP(s string) (netip.Addr, bool) {
	ip, err := netip.ParseAddr(s)
	return ip.Unmap(), err == nil && dialable(ip.Unmap())
}

// isHostname accepts what resolvers do, underscores included: at most 253
// bytes, labels of 1 to 63 letters, digits, hyphens (RFC 1123, section 2.1).
func isHostname(s string) bool {
	s = strings.TrimSuffix(s, ".")
	if s == "" || len(s) > 253 {
		return false
	}
	for label := range strings.SplitSeq(s, ".") {
		if label == "" || len(label) > 63 || strings.HasPrefix(label, "-") || strings.HasSuffix(label, "-") {
			return false
		}
		for _, c := range label {
			if c != '-' && c != '_' && !isAlnum(c) {
				return false
			}
		}
	}
	return true
}

func isAlnum(c rune) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
}

// maxID bounds a node id: it has to fit one TXT string of 255 bytes.
const maxID = 128

// validID tells whether s may be a node id. Ids come off the wire unproven and
// end in logs and reports, so the alphabet is narrow.
func validID(s string) bool {
	if s == "" || len(s) > maxID {
		return false
	}
	for _, c := range s {
		if !isAlnum(c) && !strings.ContainsRune("-_.:", c) {
			return false
		}
	}
	return true
}

// maxCluster bounds a cluster name, in bytes.
const maxCluster = 64

// validCluster tells whether s may be a cluster name: printable UTF-8, or "".
func validCluster(s string) bool {
	return len(s) <= maxCluster && !strings.ContainsFunc(s, func(r rune) bool {
		return !strconv.IsPrint(r) || r == '\uFFFD'
	})
}
