package guard

import (
	"context"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/apikeys"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/wire"
)

// Caller is who sent a request that the guard let pass.
type Caller struct {
	// Name is whom fairness counts the request for: "key:NAME", or the address
	// (of IPv6 the /64, which is one household's).
	Name string
	Addr netip.Addr
	Zone Zone
	Key  *apikeys.Key // nil without one
	// Owner reports that the caller may do what the node's owner may: manage
	// models and the node itself.
	Owner bool
}

type callerKey struct{}

// From is the caller of a request that came through a guard.
func From(ctx context.Context) (Caller, bool) {
	c, ok := ctx.Value(callerKey{}).(*Caller)
	if !ok {
		return Caller{}, false
	}
	return *c, true
}

// forwarded reports whether a header is one of those by which a proxy says that it speaks for another.
// A proxy on this machine (or a tunnel to the internet) makes every caller look
// as if it were here; a caller that is here does not send them.
func forwarded(name string) bool {
	switch name {
	case "X-Forwarded-For", "Forwarded", "X-Real-Ip", "Via", "X-Forwarded-Host", "X-Forwarded-Proto",
		"Cf-Connecting-Ip", "True-Client-Ip", "X-Client-Ip", "Tailscale-User-Login":
		return true
	}
	return false
}

// zones tells where callers are.
type zones struct {
	trusted []netip.Prefix
	subnets func() []netip.Prefix // of this machine's interfaces
}

// of finds the zone of a request, and the address that says so.
func (z zones) of(req *http.Request) (Zone, netip.Addr) {
	addr := addrOf(req)
	if !addr.IsValid() {
		return Outside, addr
	}
	proxied := false
	for name, values := range req.Header {
		proxied = proxied || len(values) > 0 && forwarded(name)
	}
	zone := z.at(addr, req)
	if !proxied {
		return zone, addr
	}
	// Believed only where it makes the caller less: what the last proxy saw.
	seen := lastHop(req.Header)
	switch {
	case seen.IsValid():
	case zone == Here: // a tunnel that does not say from where
		return Outside, addr
	default:
		return zone, addr
	}
	return min(zone, z.at(seen, nil), LAN), seen
}

// addrOf is the address that a request's connection comes from; invalid: it has
// none.
func addrOf(req *http.Request) netip.Addr {
	if c := connOf(req); c != nil {
		return c.addr
	}
	return plainAddr(req.RemoteAddr)
}

// plainAddr is the address in host:port, of IPv4 as such and without a zone.
func plainAddr(hostPort string) netip.Addr {
	ap, err := netip.ParseAddrPort(hostPort)
	if err != nil {
		return netip.Addr{}
	}
	return ap.Addr().Unmap().WithZone("")
}

// at is the zone of an address that req came from directly; nil: it did not.
func (z zones) at(addr netip.Addr, req *http.Request) Zone {
	switch {
	case addr.IsLoopback():
		return Here
	case slices.ContainsFunc(z.trusted, func(p netip.Prefix) bool { return p.Contains(addr) }):
		return Trusted
	case addr.IsPrivate(), addr.IsLinkLocalUnicast():
		return LAN
	case req != nil && shared.Contains(addr) && shared.Contains(localAddr(req)):
		return LAN // a tailnet: both ends have such an address
	}
	for _, p := range z.subnets() {
		if p.Contains(addr) && p.Bits() > 0 {
			return LAN
		}
	}
	return Outside
}

// shared is the carrier-grade NAT range (RFC 6598), which tailnets use.
var shared = netip.MustParsePrefix("100.64.0.0/10")

func localAddr(req *http.Request) netip.Addr {
	a, ok := req.Context().Value(http.LocalAddrContextKey).(net.Addr)
	if !ok {
		return netip.Addr{}
	}
	ap, err := netip.ParseAddrPort(a.String())
	if err != nil {
		return netip.Addr{}
	}
	return ap.Addr().Unmap()
}

// lastHop is the address that the nearest proxy says the request came from.
func lastHop(h http.Header) netip.Addr {
	chain := h.Values("X-Forwarded-For")
	if len(chain) == 0 {
		return netip.Addr{}
	}
	last := chain[len(chain)-1]
	if i := strings.LastIndexByte(last, ','); i >= 0 {
		last = last[i+1:]
	}
	last = strings.TrimSpace(last)
	if addr, err := netip.ParseAddr(strings.Trim(last, "[]")); err == nil {
		return addr.Unmap().WithZone("")
	}
	if ap, err := netip.ParseAddrPort(last); err == nil {
		return ap.Addr().Unmap().WithZone("")
	}
	return netip.Addr{}
}

// nameOf is what fairness counts an address for.
func nameOf(addr netip.Addr) string {
	if addr.Is6() && !addr.IsLoopback() {
		if p, err := addr.Prefix(64); err == nil {
			return p.String()
		}
	}
	return addr.String()
}

// credential is the key that a request shows: of "Authorization: Bearer" or
// "x-api-key", in that order. Both are taken off the request, so that nothing
// behind the guard sees or logs them.
func credential(h http.Header) string {
	text := ""
	if scheme, value, ok := strings.Cut(wire.Field(h, "Authorization"), " "); ok && strings.EqualFold(scheme, "Bearer") {
		text = strings.TrimSpace(value)
	}
	if text == "" {
		text = strings.TrimSpace(wire.Field(h, "X-Api-Key"))
	}
	h.Del("Authorization")
	h.Del("X-Api-Key")
	return text
}

// interfaces lists the subnets of this machine's interfaces, read anew every
// ten seconds: a laptop moves.
type interfaces struct {
	mu   sync.Mutex
	read time.Time
	list []netip.Prefix
}

func (i *interfaces) subnets() []netip.Prefix {
	i.mu.Lock()
	defer i.mu.Unlock()
	if now := time.Now(); now.Sub(i.read) > 10*time.Second {
		i.read, i.list = now, nil
		addrs, err := net.InterfaceAddrs()
		if err != nil {
			return nil
		}
		for _, a := range addrs {
			if p, err := netip.ParsePrefix(a.String()); err == nil {
				i.list = append(i.list, netip.PrefixFrom(p.Addr().Unmap(), p.Bits()).Masked())
			}
		}
	}
	return i.list
}
