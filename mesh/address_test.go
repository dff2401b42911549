package mesh

import (
	"net/netip"
	"slices"
	"testing"
)

func at(iface, addr string) local { return local{Interface: iface, Addr: netip.MustParseAddr(addr)} }

func viaDefault(l local) local { l.Default = true; return l }

func TestAdvertised(t *testing.T) {
	lo := at("lo", "127.0.0.1")
	tests := []struct {
		name  string
		addrs []local
		want  string
	}{
		{"a laptop", []local{lo, at("lo", "::1"), viaDefault(at("wlan0", "192.168.1.20")), at("wlan0", "fe80::1")}, "192.168.1.20"},
		{"containers beside", []local{lo, at("docker0", "172.17.0.1"), at("br-12ab", "172.18.0.1"), viaDefault(at("eth0", "10.0.0.5"))}, "10.0.0.5"},
		{"no default route", []local{lo, at("docker0", "172.17.0.1"), at("eth0", "10.77.0.5")}, "10.77.0.5"},
		{"tailnet beside", []local{lo, at("tailscale0", "100.101.102.103"), viaDefault(at("eth0", "192.168.1.7"))}, "192.168.1.7"},
		{"tailnet and containers only", []local{lo, at("docker0", "172.17.0.1"), at("tailscale0", "100.101.102.103")}, "100.101.102.103"},
		{"public machine", []local{lo, viaDefault(at("eth0", "203.0.113.9")), at("virbr0", "192.168.122.1")}, "203.0.113.9"},
		{"IPv6 only", []local{at("lo", "::1"), viaDefault(at("eth0", "2001:db8::5")), at("eth0", "fe80::5")}, "2001:db8::5"},
		{"no network", []local{lo, at("lo", "::1")}, "127.0.0.1"},
		{"self-assigned", []local{lo, at("en0", "169.254.3.4")}, "169.254.3.4"},
		{"two of a kind", []local{at("eth1", "192.168.2.2"), at("eth0", "192.168.1.2")}, "192.168.1.2"},
		{"nothing", nil, "invalid IP"},
		{"only what is of no use", []local{at("eth0", "fe80::1"), at("x", "224.0.0.1"), at("y", "0.0.0.0")}, "invalid IP"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := advertised(tt.addrs).String(); got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
			back := slices.Clone(tt.addrs)
			slices.Reverse(back)
			if got := advertised(back).String(); got != tt.want {
				t.Errorf("in another order %s, want %s", got, tt.want)
			}
		})
	}
}

func TestMoved(t *testing.T) {
	lo, wifi, lan := at("lo", "127.0.0.1"), at("wlan0", "192.168.1.20"), viaDefault(at("eth0", "10.0.0.5"))
	tests := []struct {
		name  string
		cur   string
		addrs []local
		want  string
		moved bool
	}{
		{"as it was", "192.168.1.20", []local{lo, wifi}, "192.168.1.20", false},
		{"a better one came", "192.168.1.20", []local{lo, wifi, lan}, "192.168.1.20", false},
		{"it is gone", "192.168.1.20", []local{lo, lan}, "10.0.0.5", true},
		{"network came up", "127.0.0.1", []local{lo, wifi}, "192.168.1.20", true},
		{"network went away", "192.168.1.20", []local{lo}, "127.0.0.1", true},
		{"still none", "127.0.0.1", []local{lo}, "127.0.0.1", false},
		{"no addresses at all", "192.168.1.20", nil, "192.168.1.20", false},
	}
	for _, tt := range tests {
		got, ok := moved(netip.MustParseAddr(tt.cur), tt.addrs)
		if got.String() != tt.want || ok != tt.moved {
			t.Errorf("%s: %s, %v", tt.name, got, ok)
		}
	}
}

func TestThisMachineHasAnAddress(t *testing.T) {
	if got := advertised(locals()); !got.IsValid() {
		t.Errorf("of %v none is of use", locals())
	}
}

func TestSplitAddr(t *testing.T) {
	tests := []struct {
		in, host string
		port     uint16
		ok       bool
	}{
		{"192.168.1.2", "192.168.1.2", DefaultPort, true},
		{"192.168.1.2:7000", "192.168.1.2", 7000, true},
		{" box.local ", "box.local", DefaultPort, true},
		{"box:1", "box", 1, true},
		{"fd00::1", "fd00::1", DefaultPort, true},
		{"[fd00::1]", "fd00::1", DefaultPort, true},
		{"[fd00::1]:9", "fd00::1", 9, true},
		{"", "", 0, false},
		{"box:", "", 0, false},
		{"box:0", "", 0, false},
		{"box:99999", "", 0, false},
		{":11437", "", 0, false},
		{"http://box:1", "", 0, false},
	}
	for _, tt := range tests {
		host, port, err := splitAddr(tt.in)
		if (err == nil) != tt.ok || host != tt.host || port != tt.port {
			t.Errorf("%q: %q %d %v", tt.in, host, port, err)
		}
	}
}
