//go:build linux

package machine

import (
	"net"
	"net/netip"
	"strconv"

	"github.com/miekg/dns"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh"
)

// ForgedAnswer is an mDNS answer that nobody asked for: the node id, of a mesh
// called forged, is at ip.
func ForgedAnswer(id string, ip netip.Addr) ([]byte, error) {
	const service = "_kage-mesh._tcp.local."
	name, target := id+"."+service, "forged.local."
	header := func(n string, typ uint16) dns.RR_Header {
		return dns.RR_Header{Name: n, Rrtype: typ, Class: dns.ClassINET, Ttl: 120}
	}
	m := new(dns.Msg)
	m.Response, m.Authoritative = true, true
	m.Answer = []dns.RR{
		&dns.PTR{Hdr: header(service, dns.TypePTR), Ptr: name},
		&dns.SRV{Hdr: header(name, dns.TypeSRV), Port: 11437, Target: target},
		&dns.TXT{Hdr: header(name, dns.TypeTXT), Txt: []string{"c=forged", "v=" + strconv.Itoa(mesh.Protocol), "id=" + id, "p=11437"}},
		&dns.A{Hdr: header(target, dns.TypeA), A: net.IP(ip.AsSlice())},
	}
	return m.Pack()
}
