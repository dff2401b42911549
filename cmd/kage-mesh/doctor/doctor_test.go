package doctor

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/discovery"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh/hardware"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/admin"
)

const (
	idA = "aaaaaaaaaaaaaaaaaaaaaaaaaa"
	idB = "bbbbbbbbbbbbbbbbbbbbbbbbbb"
)

// healthy is a mesh of two nodes in which nothing is wrong.
func healthy() Facts {
	member := func(id, name, addr string, self bool) admin.Member {
		return admin.Member{
			ID: id, Name: name, Self: self, Status: "alive", Role: "gpu", GPU: "nvidia", GPUName: "RTX 4090", VRAMTotal: 24 << 30,
			Address: addr + ":11437", PeerAddress: addr + ":11436", Version: "0.2.0", Ollama: "0.33.0",
			Models:   []admin.Model{{Name: "llama3.2", Size: 2 << 30, SizeVRAM: 3 << 30, Loaded: true}},
			Hardware: &hardware.Inventory{OS: "linux"},
		}
	}
	both := mesh.Datagram{There: true, Back: true}
	return Facts{
		OS: "linux",
		Interfaces: []Interface{
			{Name: "lo", MTU: 65536, Loopback: true, Addrs: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/8")}},
			{Name: "eth0", MTU: 1500, Addrs: []netip.Prefix{netip.MustParsePrefix("10.0.0.1/24")}},
		},
		Firewall: Firewall{Tool: "ufw", Active: true},
		Ollama:   Ollama{URL: "http://127.0.0.1:11434", Version: "0.33.0"},
		Disks:    []Disk{{"models", "/m", 100 << 30}, {"state", "/s", 100 << 30}},
		MDNS:     MDNS{Ran: true, Links: []string{"eth0"}, Heard: []discovery.Heard{{ID: idA, Protocol: mesh.Protocol}, {ID: idB, Protocol: mesh.Protocol}}},
		Endpoint: "http://127.0.0.1:11435",
		Node: &Node{
			Checkup: admin.Checkup{
				Version: "0.2.0", PID: 7, API: "[::]:11435", Peer: "[::]:11436", Gossip: "[::]:11437", Advertise: "10.0.0.1:11437",
				MDNS: true, DescriptorLimit: 65536,
				Peers: []mesh.Reach{{Node: idB, Name: "b", Asked: true, Small: both, Large: both, RTT: time.Millisecond}},
			},
			Members: admin.Members{Cluster: "home", Self: "a", Members: []admin.Member{
				member(idA, "a", "10.0.0.1", true), member(idB, "b", "10.0.0.2", false),
			}},
			Models: admin.Models{
				Nodes: []admin.ModelNode{{Name: "a", Self: true, FreeDisk: 100 << 30}, {Name: "b", FreeDisk: 100 << 30}},
				Models: []admin.ModelRow{{Name: "llama3.2", Size: 2 << 30, Digest: "d1", On: map[string]admin.ModelSpot{
					"a": {OnDisk: true, Digest: "d1", Fits: hardware.Full}, "b": {OnDisk: true, Digest: "d1", Fits: hardware.Full},
				}}},
			},
		},
	}
}

func everything(f Facts) []Finding { return Run(f, Connectivity, Services, Models) }

func TestAHealthyMeshHasNoFault(t *testing.T) {
	for _, f := range everything(healthy()) {
		if f.Level != Passed || f.Fix != "" || f.Evidence == "" {
			t.Errorf("%+v", f)
		}
	}
}

// Each fault alone gives one finding, with its evidence and its fix.
func TestFaults(t *testing.T) {
	peer := func(change func(*mesh.Reach)) func(*Facts) {
		return func(f *Facts) { change(&f.Node.Checkup.Peers[0]) }
	}
	tests := []struct {
		name     string
		seed     func(*Facts)
		check    string
		level    Level
		evidence string
		fix      string
		on       string
	}{
		{"no ollama", func(f *Facts) { f.Ollama = Ollama{URL: "u", Error: "refused", Refused: true} }, "ollama", Failed, "nothing listens at u", "systemctl start ollama", ""},
		{"ollama hangs", func(f *Facts) { f.Ollama = Ollama{URL: "u", Error: "timeout"} }, "ollama", Failed, "timeout", "systemctl restart ollama", ""},
		{"ollama is a node", func(f *Facts) { f.Ollama.Loop = true }, "ollama", Failed, "a kage-mesh answers", "--ollama", ""},
		{"old ollama", func(f *Facts) { f.Ollama.Version = "0.17.0" }, "ollama-version", Warning, "CVE-2026-7482", "install.sh", ""},
		{"old ollama elsewhere", func(f *Facts) { f.Node.Members.Members[1].Ollama = "0.1.33" }, "ollama-version", Warning, "CVE-2024-37032", "install.sh", "b"},
		{"exposed", func(f *Facts) { f.Ollama.Exposed = []string{"10.0.0.1:11434"} }, "ollama-exposed", Warning, "10.0.0.1:11434", "OLLAMA_HOST", ""},
		{"cpu fallback", func(f *Facts) { f.Node.Members.Members[1].Models[0].SizeVRAM = 0 }, "gpu", Failed, "b: llama3.2 runs on the CPU", "nvidia_uvm", "b"},
		{"partly on the gpu", func(f *Facts) { f.Node.Members.Members[0].Models[0].SizeVRAM = 1 << 30 }, "gpu", Warning, "only 1.0 GiB of llama3.2", "num_ctx", ""},
		{"bad configuration", func(f *Facts) { f.Config = Config{Error: "c.yaml:1: unknown setting", Fix: "did you mean"} }, "config", Failed, "c.yaml:1", "did you mean", ""},
		{"strange variable", func(f *Facts) { f.Config.Strange = []string{"KAGE_CLUSER=KAGE_CLUSTER"} }, "config", Warning, "KAGE_CLUSER", "export KAGE_CLUSTER", ""},
		{"stale configuration", func(f *Facts) {
			f.Config = Config{Path: "/c", Settings: []admin.Setting{{Name: "config", Value: "/c"}, {Name: "grace", Value: "9s", Origin: "/c:1"}}}
			f.Node.Checkup.Settings = []admin.Setting{{Name: "config", Value: "/c"}, {Name: "grace", Value: "5s", Origin: "/c:1"}}
		}, "config", Warning, `grace is "9s" in /c, the node runs with "5s"`, "reload", ""},
		{"full disk", func(f *Facts) { f.Disks[0].Free = 5 << 20 }, "disk", Failed, "only 5.0 MiB free", "ollama rm", ""},
		{"low disk", func(f *Facts) { f.Disks[0].Free = 5 << 30 }, "disk", Warning, "only 5.0 GiB free", "ollama rm", ""},
		{"full disk elsewhere", func(f *Facts) { f.Node.Models.Nodes[1].FreeDisk = 1 }, "disk", Failed, "b: only", "ollama rm", "b"},
		{"few descriptors", func(f *Facts) { f.Node.Checkup.DescriptorLimit = 256 }, "descriptors", Warning, "256 files", "LimitNOFILE=65536", ""},
		{"older node", func(f *Facts) { f.Node.Members.Members[1].Version = "0.1.9" }, "version", Warning, "update b", "go install", "b"},
		{"newer node", func(f *Facts) { f.Node.Members.Members[1].Version = "0.10.0" }, "version", Warning, "update this node", "go install", ""},
		{"same name", func(f *Facts) {
			f.Node.Members.Members[0].Name, f.Node.Members.Members[1].Name = "ubuntu-aaaa", "ubuntu-bbbb"
		}, "name", Warning, "2 nodes call themselves ubuntu", "--name ubuntu-2", "ubuntu-bbbb"},
		{"wrong address", func(f *Facts) {
			f.Node.Checkup.Advertise = "10.99.0.1:11437"
			f.Node.Checkup.Peers[0].BackLink = mesh.Fault{Kind: "timeout"}
		}, "address", Failed, "10.99.0.1", "--advertise 10.0.0.1", ""},
		{"loopback address", func(f *Facts) { f.Node.Checkup.Advertise = "127.0.0.1:11437" }, "address", Warning, "loopback", "--advertise 10.0.0.1", ""},
		{"small mtu", func(f *Facts) { f.Interfaces[1].MTU = 1000 }, "interface", Warning, "MTU of 1000", "ip link set dev eth0 mtu 1500", ""},
		{"no network", func(f *Facts) {
			f.Interfaces, f.Firewall = f.Interfaces[:1], Firewall{}
			f.Node.Checkup.Peers = nil
			f.Node.Checkup.Advertise = "127.0.0.1:1"
		}, "interface", Failed, "no network address", "ip addr", ""},
		{"wsl", func(f *Facts) { f.WSL = "nat" }, "wsl", Warning, "nat", "networkingMode=mirrored", ""},
		{"tailscale is down", func(f *Facts) {
			f.Tailscale = Tailscale{Installed: true, State: "Stopped"}
			f.Node.Checkup.Seeds = []string{"100.64.0.7:11437"}
		}, "tailscale", Failed, "stopped", "tailscale up", ""},
		{"firewall, nobody came yet", func(f *Facts) { f.Node.Checkup.Peers = nil }, "firewall", Warning, "ufw is active", "ufw allow 11437/udp", ""},
		{"mdns not even here", func(f *Facts) { f.MDNS.Heard = nil }, "mdns", Warning, "cannot be heard", "5353", ""},
		{"multicast filtered", func(f *Facts) { f.MDNS.Heard = f.MDNS.Heard[:1] }, "mdns", Warning, "b not heard", "kage-mesh join 10.0.0.2:11437", ""},
		{"clock of one", peer(func(r *mesh.Reach) { r.Offset = -time.Hour }), "clock", Warning, "b's clock is -1h0m0s", "set-ntp", "b"},
		{"dead node", func(f *Facts) {
			f.Node.Members.Members[1].Status = "failed"
			f.Node.Checkup.Peers[0] = mesh.Reach{Node: idB, Name: "b", Link: mesh.Fault{Kind: "refused"}, Gossip: mesh.Fault{Kind: "refused"}}
		}, "peer", Failed, "b does not answer", "systemctl start kage-mesh", "b"},
		{"peer port filtered", peer(func(r *mesh.Reach) { *r = mesh.Reach{Node: idB, Name: "b", Link: mesh.Fault{Kind: "timeout"}} }), "peer", Failed, "no TCP connection to b's peer port 10.0.0.2:11436", "11436/tcp", "b"},
		{"gossip port filtered", peer(func(r *mesh.Reach) { r.Gossip.Kind = "timeout" }), "peer", Failed, "gossip port", "11437/tcp", "b"},
		{"udp out", peer(func(r *mesh.Reach) { r.Small, r.Large = mesh.Datagram{}, mesh.Datagram{} }), "peer", Failed, "no datagram of this node reaches b", "11437/udp", "b"},
		{"udp in", peer(func(r *mesh.Reach) { r.Small.Back, r.Large.Back = false, false }), "peer", Failed, "no datagram of b reaches this node", "ufw allow 11437/udp", ""},
		{"large datagrams", peer(func(r *mesh.Reach) { r.Large.There = false }), "peer", Failed, "1232 bytes are lost", "mtu 1500", "b"},
		{"tls never comes", peer(func(r *mesh.Reach) {
			*r = mesh.Reach{Node: idB, Name: "b", Link: mesh.Fault{Kind: "handshake", Text: "then nothing"}}
		}), "peer", Failed, "then nothing", "mtu 1500", "b"},
		{"stalls", peer(func(r *mesh.Reach) { r.Link = mesh.Fault{Kind: "stalled", Text: "32768 bytes do not get through"} }), "peer", Failed, "32768", "mtu 1500", "b"},
		{"evicted", peer(func(r *mesh.Reach) { *r = mesh.Reach{Node: idB, Name: "b", Link: mesh.Fault{Kind: "forbidden"}} }), "peer", Failed, "does not take this node", "kage-mesh trust a", "b"},
		{"peer port filtered here", peer(func(r *mesh.Reach) { r.BackLink.Kind = "timeout" }), "peer", Failed, "b cannot connect to this node's peer port", "ufw allow 11436/tcp", ""},
		{"gossip port filtered here", peer(func(r *mesh.Reach) { r.BackGossip.Kind = "timeout" }), "peer", Failed, "b cannot connect to this node's gossip port", "ufw allow 11437/tcp", ""},
		{"digest", func(f *Facts) {
			f.Node.Models.Models[0].On["b"] = admin.ModelSpot{OnDisk: true, Digest: "d2", Differs: true, Fits: hardware.Full}
		}, "digest", Warning, "d2 on b, d1 (the newest) on a", "kage-mesh models sync", ""},
		{"fits nowhere", func(f *Facts) {
			f.Node.Models.Models = append(f.Node.Models.Models, admin.ModelRow{Name: "big", Size: 400 << 30, Digest: "x", On: map[string]admin.ModelSpot{"b": {OnDisk: true, Digest: "x"}}})
		}, "fit", Warning, "no node has the memory for big", "kage-mesh models rm big", "b"},
		{"no models", func(f *Facts) { f.Node.Models.Models = nil }, "models", Warning, "no node has a model", "ollama pull", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := healthy()
			tt.seed(&f)
			var found []Finding
			for _, x := range everything(f) {
				if x.Level != Passed {
					found = append(found, x)
				}
			}
			if len(found) != 1 {
				t.Fatalf("%d findings: %+v", len(found), found)
			}
			x := found[0]
			if x.Check != tt.check || x.Level != tt.level || !strings.Contains(x.Evidence, tt.evidence) || !strings.Contains(x.Fix, tt.fix) || x.On != tt.on || x.Why == "" && tt.check != "config" {
				t.Errorf("%+v", x)
			}
		})
	}
}

func TestStrangers(t *testing.T) {
	for said, want := range map[string]struct {
		level Level
		fix   string
		alone bool
	}{
		"":                                       {Warning, "kage-mesh join 10.0.0.3:11437", false},
		mesh.ErrKeyNeeded.Error():                {Warning, "--key-file", true},
		mesh.ErrKeyMissing.Error():               {Warning, "--key-file", false},
		mesh.ErrWrongKey.Error():                 {Warning, "--key-file", false},
		mesh.ErrOtherCluster.Error() + ": \"x\"": {Warning, "--cluster x ", true},
		"dial tcp: i/o timeout":                  {Failed, "11437/tcp", false},
	} {
		f := healthy()
		f.MDNS.Heard = append(f.MDNS.Heard, discovery.Heard{ID: "c", Protocol: mesh.Protocol, Addrs: []string{"10.0.0.3:11437"}})
		f.Node.Checkup.Greeted = map[string]string{"10.0.0.3:11437": said}
		if want.alone {
			f.Node.Members.Members = f.Node.Members.Members[:1]
		}
		got := strangers(f)
		if len(got) != 1 || got[0].Level != want.level || !strings.Contains(got[0].Fix, want.fix) {
			t.Errorf("%q: %+v", said, got)
		}
	}
	f := healthy()
	f.MDNS.Heard = append(f.MDNS.Heard, discovery.Heard{ID: "c", Protocol: mesh.Protocol + 1, Addrs: []string{"10.0.0.3:11437"}})
	if got := strangers(f); len(got) != 1 || !strings.Contains(got[0].Evidence, "protocol") {
		t.Errorf("%+v", got)
	}
}

// Without a node everything that needs none is checked.
func TestWithoutANode(t *testing.T) {
	f := healthy()
	f.Node, f.NodeError, f.Firewall = nil, "no kage-mesh node answers", Firewall{}
	f.Ports = []Port{
		{What: "api", Network: "tcp", Addr: ":11435", PID: 812, Process: "nginx", Error: "in use"},
		{What: "peer", Network: "tcp", Addr: ":11436", Free: true},
		{What: "gossip", Network: "udp", Addr: ":11437", Error: "in use"},
	}
	want := map[string]string{"node": "kage-mesh join", "ports": "kill 812"}
	for _, x := range everything(f) {
		if x.Level == Passed {
			continue
		}
		if fix, ok := want[x.Check]; ok && strings.Contains(x.Fix, fix) {
			delete(want, x.Check)
		} else if !strings.Contains(x.Fix, "ss -lnup 'sport = :11437'") {
			t.Errorf("%+v", x)
		}
	}
	if len(want) > 0 {
		t.Errorf("not found: %v", want)
	}
}

// The words are those of the system that they are for.
func TestFixesAreOfTheirSystem(t *testing.T) {
	for os, words := range map[string][]string{
		"linux": {"systemctl start ollama"}, "darwin": {"open -a Ollama"}, "windows": {`%LOCALAPPDATA%\Programs\Ollama`},
	} {
		f := healthy()
		f.OS, f.Ollama = os, Ollama{URL: "u", Error: "x", Refused: true}
		for _, x := range Run(f, Services) {
			if x.Level == Failed && !strings.Contains(x.Fix, words[0]) {
				t.Errorf("%s: %s", os, x.Fix)
			}
		}
	}
	for tool, want := range map[string]string{
		"ufw":       "sudo ufw allow 11437/udp",
		"firewalld": "sudo firewall-cmd --permanent --add-port=11437/udp\nsudo firewall-cmd --reload",
		"nftables":  "sudo nft insert rule inet filter input udp dport 11437 accept",
		"iptables":  "sudo iptables -I INPUT -p udp --dport 11437 -j ACCEPT",
	} {
		f := Facts{OS: "linux", Firewall: Firewall{Tool: tool, Active: true, Chain: "inet filter input"}}
		if got := f.allow("udp", "11437"); got != want {
			t.Errorf("%s: %s", tool, got)
		}
	}
}

func TestHole(t *testing.T) {
	for version, want := range map[string]string{
		"0.1.33": "CVE-2024-37032", "0.1.34": "CVE-2026-7482", "0.17.0": "CVE-2026-7482", "v0.9.6": "CVE-2026-7482",
		"0.17.1": "", "0.33.0-rc2": "", "1.0.0": "", "0.0.0": "", "": "", "unknown": "", "0.17": "",
	} {
		if got := hole(version); want == "" && got != "" || !strings.HasPrefix(got, want) {
			t.Errorf("%s: %q", version, got)
		}
	}
}

func TestOwnersAreReadFromWhatTheSystemsSay(t *testing.T) {
	table := "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n" +
		"   0: 0100007F:2CAB 0100007F:9999 01 00000000:00000000 00:00000000 00000000     0        0 111 1 0 100 0 0 10 0\n" +
		"   1: 00000000:2CAB 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4242 1 0 100 0 0 10 0\n"
	if got := socketInode(table, "tcp", "11435"); got != "4242" {
		t.Errorf("inode %q", got)
	}
	if got := socketInode(table, "tcp", "11436"); got != "" {
		t.Errorf("inode %q of a port that nobody has", got)
	}
	if pid, name := lsofOwner("p812\ncnginx\nf6\n"); pid != 812 || name != "nginx" {
		t.Error(pid, name)
	}
	netstat := "\r\nAktive Verbindungen\r\n\r\n  Proto  Lokale Adresse         Remoteadresse          Status           PID\r\n" +
		"  TCP    127.0.0.1:11435        127.0.0.1:50000        HERGESTELLT      5\r\n" +
		"  TCP    0.0.0.0:11435          0.0.0.0:0              ABHÖREN          4711\r\n  UDP    0.0.0.0:11437          *:*                                    4712\r\n"
	if got := netstatOwner(netstat, "tcp", "11435"); got != 4711 {
		t.Error(got)
	}
	if got := netstatOwner(netstat, "udp", "11437"); got != 4712 {
		t.Error(got)
	}
	if got := taskName("\"herd.exe\",\"4711\",\"Console\",\"1\",\"10 K\"\r\n"); got != "herd.exe" {
		t.Error(got)
	}
}

func TestFirewallIsReadFromTheRuleset(t *testing.T) {
	chain := `{"chain":{"family":"inet","table":"filter","name":"input","type":"filter","hook":"input","prio":0,"policy":"%"}}`
	for _, c := range []struct {
		ruleset string
		want    Firewall
	}{
		{`{"nftables":[]}`, Firewall{}},
		{`not json`, Firewall{}},
		{`{"nftables":[` + strings.ReplaceAll(chain, "%", "accept") + `]}`, Firewall{}},
		{`{"nftables":[` + strings.ReplaceAll(chain, "%", "drop") + `]}`, Firewall{"nftables", true, "inet filter input"}},
		{`{"nftables":[` + strings.ReplaceAll(chain, "%", "accept") + `,{"rule":{"family":"inet","table":"filter","chain":"input","expr":[{"drop":null}]}}]}`, Firewall{"nftables", true, "inet filter input"}},
		{`{"nftables":[{"chain":{"family":"ip","table":"filter","name":"INPUT","hook":"input","policy":"drop"}}]}`, Firewall{"iptables", true, "ip filter INPUT"}},
	} {
		if got := nftFirewall([]byte(c.ruleset)); got != c.want {
			t.Errorf("%s: %+v", c.ruleset, got)
		}
	}
	if !ufwEnabled("# x\nENABLED=yes\n") || ufwEnabled("ENABLED=no") || ufwEnabled("#ENABLED=yes") {
		t.Error("ufw.conf misread")
	}
}

func TestRedact(t *testing.T) {
	text := "key kage1-abcDEF_123 and kma-abcdefghij234567 Authorization: Bearer abc.def x-api-key: zzz " +
		"http://me:secret@host/ -----BEGIN PRIVATE KEY-----\nMIIE\n-----END PRIVATE KEY----- /home/ann/x 10.0.0.1 llama3.2"
	got := Redact(text, "/home/ann")
	for _, secret := range []string{"abcDEF", "abcdefghij", "abc.def", "zzz", "secret", "MIIE", "ann"} {
		if strings.Contains(got, secret) {
			t.Errorf("%s is still in %s", secret, got)
		}
	}
	for _, kept := range []string{"10.0.0.1", "llama3.2", "~/x"} {
		if !strings.Contains(got, kept) {
			t.Errorf("%s is gone from %s", kept, got)
		}
	}
}

func TestCompare(t *testing.T) {
	c, found := Compare([]Rate{{Runner{"a", "m"}, 10, 10, ""}, {Runner{"b", "m"}, 5, 5, ""}})
	if c.Share != 1 || c.SpeedUp != 1.5 || Worst(found) != Passed || len(found) != 3 {
		t.Errorf("%+v %+v", c, found)
	}
	c, found = Compare([]Rate{{Runner{"a", "m"}, 10, 5, ""}, {Runner{"b", "m"}, 10, 9, ""}})
	if c.Share != 0.7 || Worst(found) != Warning || !strings.Contains(found[0].Evidence, "a lost most") {
		t.Errorf("%+v %+v", c, found)
	}
	if _, found = Compare([]Rate{{Runner{"a", "m"}, 0, 0, "refused"}}); Worst(found) != Failed {
		t.Errorf("%+v", found)
	}
	if _, found = Compare(nil); Worst(found) != Warning {
		t.Errorf("%+v", found)
	}
}

func TestRunnersTakeASmallModelThatAllHave(t *testing.T) {
	spot := func(nodes ...string) map[string]admin.ModelSpot {
		on := map[string]admin.ModelSpot{}
		for _, n := range nodes {
			on[n] = admin.ModelSpot{OnDisk: true, Fits: hardware.Full}
		}
		return on
	}
	m := admin.Models{Nodes: []admin.ModelNode{{Name: "a"}, {Name: "b"}}, Models: []admin.ModelRow{
		{Name: "embed", Size: 1, Embeds: true, On: spot("a", "b")},
		{Name: "only-a", Size: 2, On: spot("a")},
		{Name: "big", Size: 9, On: spot("a", "b")},
		{Name: "small", Size: 5, On: spot("a", "b")},
	}}
	if got := Runners(m); !slices.Equal(got, []Runner{{"a", "small"}, {"b", "small"}}) {
		t.Errorf("%+v", got)
	}
	m.Models = m.Models[:2]
	if got := Runners(m); !slices.Equal(got, []Runner{{"a", "only-a"}}) {
		t.Errorf("%+v", got)
	}
}
