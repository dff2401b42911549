package discovery

import (
	"cmp"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
)

// Bounds of what mDNS uses of this machine's network.
const (
	maxLinks     = 16 // interfaces: Linux lets a socket join 20 groups (igmp_max_memberships) and fails silently beyond
	maxAdvertise = 16 // addresses in one answer, which keeps it within one packet
	maxZones     = 4  // interfaces a link-local address is tried on
)

// link is one interface that multicast can go through, with its addresses.
type link struct {
	ifi   net.Interface
	addrs []netip.Prefix // address and prefix length, as configured
}

// usable picks the links for mDNS: up, running, able to multicast, with an
// address. Loopback reaches nobody; point-to-point links (VPNs, tailscale0)
// carry no multicast; Apple's awdl and llw are radios that pay for every packet
// in Wi-Fi throughput. A link with nothing but an IPv6 link-local address is
// mostly a bridge port of a container, and these come and go with each
// container; it is used only if there is no other. Virtual links stand last, so
// the bound on their number and the order of attempts favour real ones.
func usable(ifs []net.Interface, addrs func(net.Interface) ([]net.Addr, error)) []link {
	const want = net.FlagUp | net.FlagRunning | net.FlagMulticast
	var routed, local []link
	for _, ifi := range ifs {
		if ifi.Flags&want != want || ifi.Flags&(net.FlagLoopback|net.FlagPointToPoint) != 0 ||
			hasPrefix(ifi.Name, "awdl", "llw") {
			continue
		}
		as, err := addrs(ifi)
		if err != nil {
			continue // gone since it was listed
		}
		l := link{ifi: ifi}
		onlyLocal := true
		for _, a := range as {
			p, ok := prefix(a)
			if !ok || !dialable(p.Addr()) || p.Addr().IsLoopback() {
				continue
			}
			l.addrs = append(l.addrs, p)
			onlyLocal = onlyLocal && isLinkLocal6(p.Addr())
		}
		switch {
		case len(l.addrs) == 0:
		case onlyLocal:
			local = append(local, l)
		default:
			routed = append(routed, l)
		}
	}
	if len(routed) == 0 {
		routed = local
	}
	slices.SortStableFunc(routed, func(a, b link) int {
		return cmp.Or(cmp.Compare(a.rank(), b.rank()), cmp.Compare(a.ifi.Index, b.ifi.Index))
	})
	return routed[:min(len(routed), maxLinks)]
}

// rank is 0 for a real link and 1 for one that only leads into this machine.
func (l link) rank() int {
	if hasPrefix(l.ifi.Name, "docker", "br-", "veth", "virbr", "vmnet", "vboxnet", "VirtualBox", "vEthernet",
		"cni", "cali", "flannel", "podman", "lxcbr", "lxdbr", "bridge1") {
		return 1
	}
	return 0
}

// has reports whether l has an address of the family.
func (l link) has(ipv6 bool) bool {
	return slices.ContainsFunc(l.addrs, func(p netip.Prefix) bool { return p.Addr().Is6() == ipv6 })
}

// interfaces are the interfaces of ls that have an address of the family.
func interfaces(ls []link, ipv6 bool) []net.Interface {
	var ifs []net.Interface
	for _, l := range ls {
		if l.has(ipv6) {
			ifs = append(ifs, l.ifi)
		}
	}
	return ifs
}

// fingerprint changes when anything does that mDNS depends on.
func fingerprint(ls []link) string {
	var b strings.Builder
	for _, l := range ls {
		fmt.Fprintf(&b, "%d %s %v\n", l.ifi.Index, l.ifi.Name, l.addrs)
	}
	return b.String()
}

// advertised lists this machine's addresses for others, best first. IPv6
// link-local ones, which mean nothing without a zone that only the other side
// can know, are told only where there is nothing better.
func advertised(ls []link) []netip.Addr {
	var good, local []netip.Addr
	for _, l := range ls {
		for _, p := range l.addrs {
			if isLinkLocal6(p.Addr()) {
				local = append(local, p.Addr())
			} else {
				good = append(good, p.Addr())
			}
		}
	}
	if len(good) == 0 {
		good = local
	}
	return good[:min(len(good), maxAdvertise)]
}

// candidates turns the addresses a peer advertised into addresses to try, best
// first: those in a subnet of ours before private ones beyond a router (an mDNS
// reflector joins subnets), IPv4 before IPv6 among equals. An IPv6 link-local
// address is the last resort, once per link it may be on.
//
// Answers can be forged, and must not make this machine knock anywhere else: an
// address outside our subnets and outside the private ranges is dropped. So is
// this very node, which a peer seems to be wherever both have a bridge with
// the same address, as all Docker hosts do.
func candidates(ls []link, ips []netip.Addr, port, ownPort int) []string {
	type candidate struct {
		ip   netip.Addr
		rank int
	}
	var good, local []candidate
	for _, ip := range ips {
		ip = ip.Unmap().WithZone("")
		if !dialable(ip) || ip.IsLoopback() {
			continue
		}
		if isLinkLocal6(ip) {
			for _, l := range ls {
				if l.has(true) && len(local) < maxZones && !(l.holds(ip) && port == ownPort) {
					local = append(local, candidate{ip: ip.WithZone(l.ifi.Name)})
				}
			}
			continue
		}
		rank, own := 4, false
		for _, l := range ls {
			own = own || l.holds(ip)
			if l.contains(ip) {
				rank = min(rank, 2*l.rank())
			}
		}
		switch {
		case own && port == ownPort:
			continue
		case rank == 4 && !ip.IsPrivate() && !isShared(ip):
			continue
		}
		if ip.Is6() {
			rank++
		}
		good = append(good, candidate{ip, rank})
	}
	if len(good) == 0 {
		good = local
	}
	slices.SortStableFunc(good, func(a, b candidate) int { return cmp.Compare(a.rank, b.rank) })
	var addrs []string
	for _, c := range good {
		addr := netip.AddrPortFrom(c.ip, uint16(port)).String() //nolint:gosec // a port
		if !slices.Contains(addrs, addr) && len(addrs) < maxAdvertise/2 {
			addrs = append(addrs, addr)
		}
	}
	return addrs
}

// holds tells whether ip is this machine's own on l.
func (l link) holds(ip netip.Addr) bool {
	return slices.ContainsFunc(l.addrs, func(p netip.Prefix) bool { return p.Addr() == ip })
}

// contains tells whether ip is in a subnet of l.
func (l link) contains(ip netip.Addr) bool {
	return slices.ContainsFunc(l.addrs, func(p netip.Prefix) bool { return p.Contains(ip) })
}

// prefix reads an interface's address.
func prefix(a net.Addr) (netip.Prefix, bool) {
	n, ok := a.(*net.IPNet)
	if !ok {
		return netip.Prefix{}, false
	}
	ip, ok := netip.AddrFromSlice(n.IP)
	if !ok {
		return netip.Prefix{}, false
	}
	ip = ip.Unmap()
	ones, bits := n.Mask.Size()
	if bits == 128 && ip.Is4() {
		ones -= 96
	}
	p := netip.PrefixFrom(ip, ones)
	return p, p.IsValid()
}

// dialable tells whether ip can be one machine's address at all. A zone has to
// look like the name of an interface: netip takes any text for one.
func dialable(ip netip.Addr) bool {
	return ip.IsValid() && !ip.IsUnspecified() && !ip.IsMulticast() && ip != netip.AddrFrom4([4]byte{255, 255, 255, 255}) &&
		!strings.ContainsFunc(ip.Zone(), func(r rune) bool { return !isAlnum(r) && !strings.ContainsRune("-_.@", r) })
}

func isLinkLocal6(ip netip.Addr) bool { return ip.Is6() && ip.IsLinkLocalUnicast() }

// isShared tells whether ip is of 100.64.0.0/10, carrier-grade NAT (RFC 6598),
// from which tailnets take their addresses.
func isShared(ip netip.Addr) bool {
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{100, 64}), 10).Contains(ip)
}

func hasPrefix(s string, prefixes ...string) bool {
	return slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(s, p) })
}
