package discovery

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"github.com/grandcat/zeroconf"
	"github.com/miekg/dns"
)

func TestParseTXT(t *testing.T) {
	good := record{cluster: "home", protocol: 1, id: "abc", port: 11437}
	for _, tt := range []struct {
		name string
		txt  []string
		want record // zero: refused
	}{
		{"ours", []string{"c=home", "v=1", "id=abc", "p=11437"}, good},
		{"any order, any case, unknown keys", []string{"x=1", "P=11437", "flag", "", "ID=abc", "V=1", "C=home"}, good},
		{"first of repeated keys", []string{"c=home", "c=other", "v=1", "id=abc", "id=def", "p=11437", "p=0"}, good},
		{"escaped", []string{`c=h\111me`, "v=1", "id=abc", "p=11437"}, good},
		{"empty cluster", []string{"c=", "v=1", "id=abc", "p=11437"}, record{"", 1, "abc", 11437}},
		{"value with equals sign", []string{"c=a=b", "v=1", "id=abc", "p=11437"}, record{"a=b", 1, "abc", 11437}},
		{"nothing", nil, record{}},
		{"no cluster", []string{"v=1", "id=abc", "p=11437"}, record{}},
		{"no version", []string{"c=home", "id=abc", "p=11437"}, record{}},
		{"version 0", []string{"c=home", "v=0", "id=abc", "p=11437"}, record{}},
		{"version with sign", []string{"c=home", "v=+1", "id=abc", "p=11437"}, record{}},
		{"no id", []string{"c=home", "v=1", "p=11437"}, record{}},
		{"id with control bytes", []string{"c=home", "v=1", `id=a\010b`, "p=11437"}, record{}},
		{"id too long", []string{"c=home", "v=1", "id=" + strings.Repeat("a", maxID+1), "p=11437"}, record{}},
		{"no port", []string{"c=home", "v=1", "id=abc"}, record{}},
		{"port too high", []string{"c=home", "v=1", "id=abc", "p=65536"}, record{}},
		{"cluster with control bytes", []string{`c=a\027[2J`, "v=1", "id=abc", "p=11437"}, record{}},
		{"cluster not utf-8", []string{`c=\255`, "v=1", "id=abc", "p=11437"}, record{}},
		{"cluster too long", []string{"c=" + strings.Repeat("a", maxCluster+1), "v=1", "id=abc", "p=11437"}, record{}},
		{"lost among others", append(slices.Repeat([]string{"x=1"}, maxTXT), "c=home", "v=1", "id=abc", "p=11437"), record{}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := parseTXT(tt.txt)
			if got != tt.want || (err == nil) != (tt.want != record{}) || err != nil && !errors.Is(err, errTXT) {
				t.Errorf("= %+v, %v; want %+v", got, err, tt.want)
			}
		})
	}
}

// overTheWire packs txt into a DNS message and reads it again, as the library
// does at both ends.
func overTheWire(t *testing.T, txt []string) []string {
	t.Helper()
	m := new(dns.Msg)
	m.Answer = []dns.RR{&dns.TXT{Hdr: dns.RR_Header{Name: "x.", Rrtype: dns.TypeTXT, Class: dns.ClassINET}, Txt: txt}}
	b, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	m = new(dns.Msg)
	if err := m.Unpack(b); err != nil {
		t.Fatal(err)
	}
	return m.Answer[0].(*dns.TXT).Txt
}

func TestTXTCarriesAnyClusterName(t *testing.T) {
	for _, cluster := range []string{"home", "büro 3", `back\slash`, `\065`, `"quoted"`, "日本", `ends with \`, "a=b;c"} {
		r := record{cluster: cluster, protocol: 65535, id: "n-1", port: 1}
		got, err := parseTXT(overTheWire(t, r.txt()))
		if err != nil || got != r {
			t.Errorf("%q came back as %+v, %v", cluster, got, err)
		}
	}
	keys := ""
	for _, s := range (record{cluster: "home", protocol: 1, id: "a", port: 2}).txt() {
		k, _, _ := strings.Cut(s, "=")
		keys += k + " "
	}
	if keys != "c v id p " {
		t.Errorf("txt tells %s, want nothing but cluster, version, id and port", keys)
	}
}

func FuzzTXT(f *testing.F) {
	f.Add("c=home\nv=1\nid=abc\np=11437")
	f.Add(`c=b\195\188ro` + "\nv=1\nid=abc\np=11437")
	f.Add(`\`)
	f.Add(`c=\9`)
	f.Add("=\n==\nc")
	f.Fuzz(func(t *testing.T, s string) {
		r, err := parseTXT(strings.Split(s, "\n"))
		if err != nil {
			if r != (record{}) {
				t.Fatalf("error and %+v", r)
			}
			return
		}
		if !validID(r.id) || !utf8.ValidString(r.cluster) || len(r.cluster) > maxCluster || r.port < 1 || r.port > 65535 || r.protocol < 1 {
			t.Fatalf("let through %+v", r)
		}
		if again, err := parseTXT(overTheWire(t, r.txt())); err != nil || again != r {
			t.Fatalf("%+v came back as %+v, %v", r, again, err)
		}
	})
}

func TestLabelAndClip(t *testing.T) {
	if got := label("Ab.1:" + strings.Repeat("x", 80)); len(got) != 63 || !strings.HasPrefix(got, "Ab-1-xx") {
		t.Errorf("label = %q", got)
	}
	if got := clip(strings.Repeat("ü", 60)); !utf8.ValidString(got) || len(got) > 83 {
		t.Errorf("clip = %q", got)
	}
}

const fit = net.FlagUp | net.FlagRunning | net.FlagMulticast

// machine makes interfaces, in order, from "name flags-to-drop addr addr ...".
func machine(specs ...string) ([]net.Interface, func(net.Interface) ([]net.Addr, error)) {
	var ifs []net.Interface
	addrs := map[int][]net.Addr{}
	for i, spec := range specs {
		f := strings.Fields(spec)
		ifi := net.Interface{Index: i + 1, Name: f[0], Flags: fit}
		for _, s := range f[1:] {
			switch s {
			case "down":
				ifi.Flags &^= net.FlagUp
			case "nocarrier":
				ifi.Flags &^= net.FlagRunning
			case "nomulticast":
				ifi.Flags &^= net.FlagMulticast
			case "ptp":
				ifi.Flags |= net.FlagPointToPoint
			case "loop":
				ifi.Flags |= net.FlagLoopback
			default:
				ip, n, err := net.ParseCIDR(s)
				if err != nil {
					panic(err)
				}
				addrs[ifi.Index] = append(addrs[ifi.Index], &net.IPNet{IP: ip, Mask: n.Mask})
			}
		}
		ifs = append(ifs, ifi)
	}
	return ifs, func(i net.Interface) ([]net.Addr, error) {
		if i.Name == "gone" {
			return nil, errors.New("no such device")
		}
		return addrs[i.Index], nil
	}
}

func testLinks(specs ...string) []link { return usable(machine(specs...)) }

func TestUsableInterfaces(t *testing.T) {
	var many []string
	for i := range 30 {
		many = append(many, fmt.Sprintf("br-%d 172.18.%d.1/24", i, i))
	}
	for _, tt := range []struct {
		name  string
		specs []string
		want  string
	}{
		{"laptop", []string{"lo loop 127.0.0.1/8", "eth0 nocarrier", "wlan0 192.168.1.5/24 fe80::1/64"}, "wlan0"},
		{"nothing", []string{"lo loop nomulticast 127.0.0.1/8 ::1/128"}, ""},
		{"no address yet", []string{"eth0"}, ""},
		{"unfit", []string{"a down 10.0.0.1/8", "b nomulticast 10.0.0.1/8", "tailscale0 ptp 100.64.0.1/32", "awdl0 fe80::1/64", "gone 10.0.0.1/8"}, ""},
		{"docker host", []string{"docker0 172.17.0.1/16", "veth12 fe80::1/64", "eth0 10.0.0.1/24"}, "eth0 docker0"},
		{"cable without dhcp", []string{"eth0 fe80::1/64", "eth1 fe80::2/64"}, "eth0 eth1"},
		{"two networks", []string{"eth1 10.1.0.1/24", "eth0 10.0.0.1/24"}, "eth1 eth0"},
		{"more than a socket can join", append(many, "eth0 10.0.0.1/24"), "eth0 br-0 br-1 br-2 br-3 br-4 br-5 br-6 br-7 br-8 br-9 br-10 br-11 br-12 br-13 br-14"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var got []string
			for _, l := range testLinks(tt.specs...) {
				got = append(got, l.ifi.Name)
			}
			if s := strings.Join(got, " "); s != tt.want {
				t.Errorf("= %q, want %q", s, tt.want)
			}
		})
	}
}

func TestFingerprintChangesWithTheNetwork(t *testing.T) {
	base := fingerprint(testLinks("eth0 10.0.0.1/24"))
	if again := fingerprint(testLinks("eth0 10.0.0.1/24", "docker0 nocarrier 172.17.0.1/16")); again != base {
		t.Error("differs for an interface that does not count")
	}
	for _, spec := range []string{"eth0 10.0.0.2/24", "eth0 10.0.0.1/16", "eth1 10.0.0.1/24", "eth0 10.0.0.1/24 fd00::1/64", "eth0 down 10.0.0.1/24"} {
		if fingerprint(testLinks(spec)) == base {
			t.Errorf("same for %q", spec)
		}
	}
}

func TestAdvertisedAddresses(t *testing.T) {
	for _, tt := range []struct {
		name  string
		specs []string
		want  string
	}{
		{"real link first, no link-local", []string{"docker0 172.17.0.1/16", "eth0 10.0.0.1/24 fd00::1/64 fe80::1/64"}, "[10.0.0.1 fd00::1 172.17.0.1]"},
		{"link-local if nothing else", []string{"eth0 fe80::1/64"}, "[fe80::1]"},
	} {
		if got := fmt.Sprint(advertised(testLinks(tt.specs...))); got != tt.want {
			t.Errorf("%s: %s, want %s", tt.name, got, tt.want)
		}
	}
}

func TestCandidates(t *testing.T) {
	home := []string{"eth0 192.168.1.5/24 fd00:1::5/64 fe80::5/64", "docker0 172.17.0.1/16"}
	cable := []string{"eth0 fe80::5/64", "eth1 fe80::6/64"}
	for _, tt := range []struct {
		name  string
		links []string
		ips   string
		port  int
		want  string
	}{
		{"same subnet first", home, "172.17.0.2 10.0.0.3 fd00:1::7 192.168.1.7", 9, "192.168.1.7:9 [fd00:1::7]:9 172.17.0.2:9 10.0.0.3:9"},
		{"own docker address is not the peer", home, "192.168.1.7 172.17.0.1", 9, "192.168.1.7:9"},
		{"another node on this machine", home, "192.168.1.5 172.17.0.1", 10, "192.168.1.5:10 172.17.0.1:10"},
		{"behind a reflector", home, "10.20.0.7 fd00:9::7", 9, "10.20.0.7:9 [fd00:9::7]:9"},
		{"carrier-grade nat", home, "100.64.0.7", 9, "100.64.0.7:9"},
		{"not our business", home, "8.8.8.8 2001:db8::1 0.0.0.0 127.0.0.1 ::1 224.0.0.251 ff02::fb 255.255.255.255", 9, ""},
		{"public but in our subnet", []string{"eth0 203.0.113.5/24"}, "203.0.113.7 203.0.114.7", 9, "203.0.113.7:9"},
		{"link-local only as a last resort", home, "192.168.1.7 fe80::7", 9, "192.168.1.7:9"},
		{"link-local with every zone it may be in", cable, "fe80::7", 9, "[fe80::7%eth0]:9 [fe80::7%eth1]:9"},
		{"link-local where only one link has ipv6", home, "fe80::7", 9, "[fe80::7%eth0]:9"},
		{"own link-local", cable, "fe80::5", 9, "[fe80::5%eth1]:9"},
		{"repeated", home, "192.168.1.7 192.168.1.7 ::ffff:192.168.1.7", 9, "192.168.1.7:9"},
		{
			"a forger's many", home, "10.0.0.1 10.0.0.2 10.0.0.3 10.0.0.4 10.0.0.5 10.0.0.6 10.0.0.7 10.0.0.8 10.0.0.9 192.168.1.7", 9,
			"192.168.1.7:9 10.0.0.1:9 10.0.0.2:9 10.0.0.3:9 10.0.0.4:9 10.0.0.5:9 10.0.0.6:9 10.0.0.7:9",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var ips []netip.Addr
			for s := range strings.FieldsSeq(tt.ips) {
				ips = append(ips, netip.MustParseAddr(s))
			}
			got := candidates(testLinks(tt.links...), ips, tt.port, 9)
			if s := strings.Join(got, " "); s != tt.want {
				t.Errorf("\n got %s\nwant %s", s, tt.want)
			}
			for _, a := range got {
				if _, err := netip.ParseAddrPort(a); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

func TestWindow(t *testing.T) {
	const s = time.Second
	for _, tt := range []struct {
		round, peers  int
		listen, pause time.Duration
	}{
		{0, 0, s * 5 / 4, 0},
		{1, 0, s * 5 / 2, 0},
		{3, 3, 10 * s, 0},
		{6, 3, 60 * s, 0},
		{1000, 3, 60 * s, 0},
		{6, 16, 64 * s, 0},
		{6, 17, 2 * s, 66 * s},
		{9, 100, 2 * s, 298 * s},
		{1000, 100000, 2 * s, 298 * s},
		{0, 100, s * 5 / 4, 0},
	} {
		if l, p := window(tt.round, tt.peers); l != tt.listen || p != tt.pause {
			t.Errorf("window(%d, %d) = %v, %v; want %v, %v", tt.round, tt.peers, l, p, tt.listen, tt.pause)
		}
	}
}

func testMDNS(t *testing.T, log *bytes.Buffer) *MDNS {
	t.Helper()
	m, err := NewMDNS(MDNSConfig{Instance: "self", Cluster: "home", Protocol: 1, Port: 9, Logger: slog.New(slog.NewTextHandler(log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	m.peers = map[string]bool{}
	return m
}

func TestEntry(t *testing.T) {
	var log bytes.Buffer
	m := testMDNS(t, &log)
	ls := testLinks("eth0 192.168.1.5/24")
	ask := func(ip string, txt ...string) []Peer {
		var got []Peer
		m.entry(ls, &zeroconf.ServiceEntry{Text: txt, AddrIPv4: []net.IP{net.ParseIP(ip), {1, 2, 3}}}, func(p Peer) { got = append(got, p) })
		return got
	}
	for _, tt := range []struct {
		name string
		got  []Peer
		want []Peer
	}{
		{"peer", ask("192.168.1.7", "c=home", "v=1", "id=a", "p=8"), []Peer{{"192.168.1.7:8", SourceMDNS, "a", "home"}}},
		{"other cluster is for others to judge", ask("192.168.1.7", "c=x", "v=1", "id=a", "p=8"), []Peer{{"192.168.1.7:8", SourceMDNS, "a", "x"}}},
		{"self", ask("192.168.1.5", "c=home", "v=1", "id=self", "p=9"), nil},
		{"other protocol", ask("192.168.1.7", "c=home", "v=2", "id=b", "p=8"), nil},
		{"malformed", ask("192.168.1.7", "c=home"), nil},
		{"no txt", ask("192.168.1.7"), nil},
	} {
		if !reflect.DeepEqual(tt.got, tt.want) {
			t.Errorf("%s: %v, want %v", tt.name, tt.got, tt.want)
		}
	}
	for i := range 1000 {
		ask("192.168.1.7", "c=home", "v=2", fmt.Sprint("id=x", i), "p=8")
	}
	m.once("browse", "still told")
	if n := strings.Count(log.String(), "level=WARN"); n > 33 || !strings.Contains(log.String(), "still told") {
		t.Errorf("%d warnings after a flood of protocol versions", n)
	}
}

func TestWaitsWhereThereIsNoNetwork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		m := testMDNS(t, &log)
		looks := 0
		m.cfg.Interfaces = func() ([]net.Interface, error) {
			looks++
			if looks > 10 {
				return nil, errors.New("netlink: no")
			}
			return nil, nil
		}
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() { done <- m.Run(ctx, func(Peer) { t.Error("found a peer on no network") }) }()
		after(time.Minute + time.Second)
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run = %v", err)
		}
		if looks != 21 { // each 3 s
			t.Errorf("%d looks, want 21", looks)
		}
		if n := strings.Count(log.String(), "waiting for one"); n != 1 {
			t.Errorf("told %d times:\n%s", n, log.String())
		}
	})
}

func TestNewMDNSRefusesWhatItCouldNotSay(t *testing.T) {
	ok := MDNSConfig{Instance: "abc", Cluster: "home", Protocol: 1, Port: 1}
	if _, err := NewMDNS(ok); err != nil {
		t.Fatal(err)
	}
	for name, edit := range map[string]func(*MDNSConfig){
		"no id":       func(c *MDNSConfig) { c.Instance = "" },
		"port 0":      func(c *MDNSConfig) { c.Port = 0 },
		"port":        func(c *MDNSConfig) { c.Port = 65536 },
		"protocol 0":  func(c *MDNSConfig) { c.Protocol = 0 },
		"cluster":     func(c *MDNSConfig) { c.Cluster = strings.Repeat("x", 65) },
		"cluster nul": func(c *MDNSConfig) { c.Cluster = "a\x00" },
	} {
		t.Run(name, func(t *testing.T) {
			cfg := ok
			edit(&cfg)
			if _, err := NewMDNS(cfg); !errors.Is(err, errTXT) {
				t.Errorf("err = %v", err)
			}
		})
	}
}
