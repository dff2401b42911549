package mesh

import (
	"cmp"
	"net"
	"net/netip"
	"slices"
	"strings"
)

// local is one address of this machine.
type local struct {
	Interface string
	Addr      netip.Addr
	Default   bool // packets to the internet leave from it
}

// locals lists the addresses of the interfaces that are up.
func locals() []local {
	ifaces, err := net.Interfaces()
	if err != nil {
		return nil
	}
	def := defaultSource()
	var out []local
	for _, i := range ifaces {
		if i.Flags&net.FlagUp == 0 {
			continue
		}
		addrs, err := i.Addrs()
		if err != nil {
			continue
		}
		for _, a := range addrs {
			p, err := netip.ParsePrefix(a.String())
			if err != nil {
				continue
			}
			addr := p.Addr().Unmap()
			out = append(out, local{Interface: i.Name, Addr: addr, Default: addr == def})
		}
	}
	return out
}

// defaultSource is the address that the routing table picks for the internet.
// Connecting a UDP socket sends nothing; 203.0.113.0/24 is set aside for
// documentation (RFC 5737).
func defaultSource() netip.Addr {
	conn, err := net.DialUDP("udp", nil, &net.UDPAddr{IP: net.IPv4(203, 0, 113, 1), Port: 9})
	if err != nil {
		return netip.Addr{}
	}
	defer conn.Close()
	return conn.LocalAddr().(*net.UDPAddr).AddrPort().Addr().Unmap()
}

// virtual are the names of interfaces that only this machine, its containers
// or its virtual machines can reach.
var virtual = []string{"docker", "br-", "veth", "virbr", "vmnet", "vboxnet", "lxc", "lxd", "cni", "flannel", "podman", "vethernet"}

// carrierNAT is 100.64.0.0/10 (RFC 6598), where Tailscale lives: reachable for
// the tailnet only, so a LAN address goes before it.
var carrierNAT = netip.MustParsePrefix("100.64.0.0/10")

// advertised picks the address that other nodes should reach this one at, the
// first by: no loopback, no virtual interface, on the way to the internet, on
// the LAN rather than a tailnet, IPv4, private. It is invalid when there is no
// address at all. The order of the input does not matter.
func advertised(addrs []local) netip.Addr {
	type scored struct {
		local
		score int
	}
	var all []scored
	for _, l := range addrs {
		if !l.Addr.IsValid() || l.Addr.IsMulticast() || l.Addr.IsUnspecified() ||
			(l.Addr.Is6() && l.Addr.IsLinkLocalUnicast()) { // would need a zone, which means nothing elsewhere
			continue
		}
		all = append(all, scored{l, penalty(l)})
	}
	if len(all) == 0 {
		return netip.Addr{}
	}
	best := slices.MinFunc(all, func(a, b scored) int {
		return cmp.Or(cmp.Compare(a.score, b.score), strings.Compare(a.Interface, b.Interface), a.Addr.Compare(b.Addr))
	})
	return best.Addr
}

// penalty orders addresses; each line outweighs all below it.
func penalty(l local) int {
	score := 0
	name := strings.ToLower(l.Interface)
	for bit, bad := range []bool{
		l.Addr.Is6(),
		!l.Addr.IsPrivate(),
		!l.Default,
		carrierNAT.Contains(l.Addr) || strings.HasPrefix(name, "tailscale"),
		slices.ContainsFunc(virtual, func(p string) bool { return strings.HasPrefix(name, p) }),
		l.Addr.IsLinkLocalUnicast(),
		l.Addr.IsLoopback(),
	} {
		if bad {
			score |= 1 << bit
		}
	}
	return score
}

// moved returns the address to advertise instead of cur, and true when cur is
// of no use any more: the machine has lost it, or it is the loopback address
// from a start without network and there is a better one now.
func moved(cur netip.Addr, addrs []local) (netip.Addr, bool) {
	best := advertised(addrs)
	if !best.IsValid() || best == cur {
		return cur, false
	}
	has := slices.ContainsFunc(addrs, func(l local) bool { return l.Addr == cur })
	if has && (!cur.IsLoopback() || best.IsLoopback()) {
		return cur, false
	}
	return best, true
}
