package doctor

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/discovery"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh"
)

func node(f Facts) []Finding {
	if f.Node == nil {
		return []Finding{warning(startNode(f.OS), "Only what can be seen without a node was checked.", "%s", f.NodeError)}
	}
	m := f.Node.Members
	online := len(f.alive())
	return passed("%s answers at %s, kage-mesh %s, %d of the mesh %q alive", m.Self, f.Endpoint, f.Node.Checkup.Version, online, m.Cluster)
}

// address checks what the others are told of where this node is.
func address(f Facts) []Finding {
	if f.Node == nil {
		return nil
	}
	ap, err := netip.ParseAddrPort(f.Node.Checkup.Advertise)
	if err != nil {
		return nil
	}
	ip := ap.Addr()
	fix := fmt.Sprintf("kage-mesh join --advertise %s   # or 'advertise: %s' in its configuration; without it the node picks one", f.lanAddr(), f.lanAddr())
	switch {
	case f.own(ip):
		for _, i := range f.Interfaces {
			if i.virtual() && slices.ContainsFunc(i.Addrs, func(p netip.Prefix) bool { return p.Addr() == ip }) {
				return []Finding{warning(fix, "It leads to containers of this machine only.", "the others are told %s, of the virtual interface %s", ip, i.Name)}
			}
		}
		if ip.IsLoopback() && f.lanAddr() != "ADDRESS" {
			return []Finding{warning(fix, "No other machine reaches it.", "the others are told %s, which is this machine's loopback", ip)}
		}
	case f.reachesUs():
		// Behind a router that forwards the ports: seen to work.
	case len(f.Node.Checkup.Peers) > 0:
		return []Finding{failed(fix, "What other nodes send this one goes elsewhere.", "the others are told %s, which is no address of this machine, and no node reaches this one there", ip)}
	default:
		return []Finding{warning(fix, "No other node can tell yet whether it leads here.", "the others are told %s, which is no address of this machine", ip)}
	}
	return passed("the others are told %s", f.Node.Checkup.Advertise)
}

// reachesUs reports whether some node reached this one's ports.
func (f Facts) reachesUs() bool {
	return f.Node != nil && slices.ContainsFunc(f.Node.Checkup.Peers, func(r mesh.Reach) bool {
		return r.Asked && r.BackLink.Kind == "" && r.BackGossip.Kind == ""
	})
}

// misled reports whether the others are told an address that is not this
// machine's and leads nowhere.
func (f Facts) misled() bool {
	ap, err := netip.ParseAddrPort(f.Node.Checkup.Advertise)
	return err == nil && !f.own(ap.Addr()) && !f.reachesUs()
}

// minMTU is IPv6's least, which the nodes' datagrams are made for.
const minMTU = 1280

func interfaces(f Facts) (out []Finding) {
	var good []string
	for _, i := range f.Interfaces {
		switch {
		case i.Loopback || len(i.Addrs) == 0 || i.virtual():
		case i.MTU < minMTU:
			out = append(out, warning(
				byOS(f.OS, "sudo ip link set dev "+i.Name+" mtu 1500", "sudo ifconfig "+i.Name+" mtu 1500", fmt.Sprintf(`netsh interface ipv4 set subinterface "%s" mtu=1500 store=persistent`, i.Name)),
				"The nodes' datagrams have up to 1232 bytes and are cut, or lost.", "%s has an MTU of %d, below %d", i.Name, i.MTU, minMTU))
		default:
			good = append(good, fmt.Sprintf("%s (MTU %d)", i.Name, i.MTU))
		}
	}
	switch {
	case out != nil:
		return out
	case good == nil:
		return []Finding{failed(byOS(f.OS, "ip addr   # which interface should have an address?", "networksetup -listallhardwareports", "ipconfig /all"),
			"Without a network there is no mesh.", "this machine has no network address but loopback")}
	}
	return passed("%s", strings.Join(good, ", "))
}

func docker(f Facts) []Finding {
	var bridges []string
	for _, i := range f.Interfaces {
		if i.virtual() && len(i.Addrs) > 0 && !strings.HasPrefix(i.Name, "veth") {
			bridges = append(bridges, i.Name)
		}
	}
	if bridges == nil {
		return nil
	}
	return passed("bridges of containers (%s): other nodes are not told their addresses", strings.Join(bridges, ", "))
}

func wsl(f Facts) []Finding {
	switch f.WSL {
	case "":
		return nil
	case "mirrored":
		return passed("WSL with mirrored networking; Windows' Hyper-V firewall may still need a rule, see deploy/guides/wsl.md")
	}
	return []Finding{warning(
		"printf '[wsl2]\\nnetworkingMode=mirrored\\n' >> /mnt/c/Users/$USER/.wslconfig   # your Windows user; then in Windows: wsl --shutdown\nkage-mesh join ADDRESS   # of another node: multicast does not reach WSL",
		"In WSL's own network no other machine reaches this node, and mDNS hears nobody.",
		"WSL with networking mode %s", f.WSL)}
}

// tailnet are Tailscale's addresses, 100.64.0.0/10 (RFC 6598).
var tailnet = netip.MustParsePrefix("100.64.0.0/10")

func tailscale(f Facts) []Finding {
	t := f.Tailscale
	needed := false
	if f.Node != nil {
		for _, m := range f.Node.Members.Members {
			ap, err := netip.ParseAddrPort(m.Address)
			needed = needed || err == nil && tailnet.Contains(ap.Addr()) && m.Status != "left"
		}
		for _, seed := range f.Node.Checkup.Seeds {
			ap, err := netip.ParseAddrPort(seed)
			needed = needed || err == nil && tailnet.Contains(ap.Addr())
		}
	}
	switch {
	case t.State == "Running":
		return passed("Tailscale runs, %d machines online", t.Peers)
	case needed && t.Installed:
		return []Finding{failed(byOS(f.OS, "sudo tailscale up", "tailscale up", "tailscale up"), "Some nodes are reached over it only.", "Tailscale is %s, and nodes of this mesh have its addresses", strings.ToLower(t.State))}
	case t.Installed && t.State != "":
		return passed("Tailscale is %s; no node needs it", strings.ToLower(t.State))
	}
	return nil
}

func firewall(f Facts) []Finding {
	fw := f.Firewall
	switch {
	case !fw.Active:
		return nil
	case f.reachesUs():
		return passed("%s is active and lets other nodes in", fw.Tool)
	case f.Node != nil && len(f.Node.Checkup.Peers) > 0:
		return nil // the findings about the peers say which port
	}
	fix := strings.Join([]string{f.allow("tcp", "11435-11437"), f.allow("udp", "11437"), f.allow("udp", "5353")}, "\n")
	switch fw.Tool {
	case "ufw":
		fix = "sudo ufw allow 11435:11437/tcp && sudo ufw allow 11437/udp && sudo ufw allow 5353/udp"
	case "iptables":
		fix = strings.ReplaceAll(fix, "11435-11437", "11435:11437")
	}
	return []Finding{warning(fix, "No other node has reached this one yet, so whether it lets them in is not known.", "%s is active", fw.Tool)}
}

// mdns looks at what a survey of the local network heard.
func mdns(f Facts) []Finding {
	s := f.MDNS
	if f.Node != nil && !f.Node.Checkup.MDNS {
		return passed("off (--no-mdns); nodes are found by address")
	}
	if !s.Ran {
		return nil
	}
	if s.Error != "" {
		return []Finding{warning("kage-mesh join ADDRESS   # of another node", "Nodes find each other by address only.", "%s", s.Error)}
	}
	if f.Node == nil {
		return passed("%d nodes heard on %s", len(s.Heard), strings.Join(s.Links, ", "))
	}
	heard := func(id string) bool {
		return slices.ContainsFunc(s.Heard, func(h discovery.Heard) bool { return h.ID == id })
	}
	self := f.self()
	if !heard(self.ID) {
		return []Finding{warning(f.allow("udp", "5353")+"\n"+whoHas(f.OS, "udp", "5353")+"   # shows who else has the port",
			"This node's own announcement does not even come back to this machine: port 5353 is filtered, or another program has it for itself.",
			"mDNS: this node cannot be heard on %s", strings.Join(s.Links, ", "))}
	}
	var missing []string
	example := "ADDRESS"
	here := 0
	for _, m := range f.alive() {
		if m.Self || !f.onLAN(m.Address) {
			continue
		}
		here++
		if !heard(m.ID) {
			missing = append(missing, m.Name)
			example = m.Address
		}
	}
	switch {
	case len(missing) == 0 || len(missing) < here:
		return passed("announced and heard on %s, %d other nodes heard", strings.Join(s.Links, ", "), len(s.Heard)-1)
	case len(f.Node.Checkup.Seeds) > 0:
		return passed("multicast does not pass here (%s not heard); this node was told %s", strings.Join(missing, ", "), strings.Join(f.Node.Checkup.Seeds, ", "))
	}
	return []Finding{warning(
		fmt.Sprintf("kage-mesh join %s   # or 'seed: [%s]' in its configuration, then reload it", example, example),
		"Multicast does not pass (a guest network, a switch that filters it, a firewall): a node that starts anew finds the others only where it remembers them.",
		"mDNS: %s not heard, though on this network", strings.Join(missing, ", "))}
}

// onLAN reports whether an address is in a subnet of this machine.
func (f Facts) onLAN(addr string) bool {
	ap, err := netip.ParseAddrPort(addr)
	if err != nil {
		return false
	}
	for _, i := range f.Interfaces {
		if i.Loopback || i.virtual() {
			continue
		}
		if slices.ContainsFunc(i.Addrs, func(p netip.Prefix) bool { return p.Contains(ap.Addr()) }) {
			return true
		}
	}
	return false
}

// strangers are nodes on the network that are not in this mesh, with what they
// say to a join.
func strangers(f Facts) (out []Finding) {
	if f.Node == nil {
		return nil
	}
	members := map[string]bool{}
	for _, m := range f.Node.Members.Members {
		members[m.ID] = m.Status != "left"
	}
	for _, h := range f.MDNS.Heard {
		if members[h.ID] || len(h.Addrs) == 0 {
			continue
		}
		at := h.Addrs[0]
		if h.Protocol != mesh.Protocol {
			w := warning("go install github.com/AI-Prompt-Ops-Kitchen/kage-mesh/cmd/kage-mesh@latest   # on the older of the two, then start it again",
				"Nodes of different protocols do not join.", "the node at %s speaks protocol %d, this one %d", at, h.Protocol, mesh.Protocol)
			out = append(out, w)
			continue
		}
		said, asked := f.Node.Checkup.Greeted[at]
		if !asked {
			continue
		}
		out = append(out, stranger(f, at, said))
	}
	return out
}

func stranger(f Facts, at, said string) Finding {
	is := func(err error) bool { return strings.Contains(said, err.Error()) }
	alone := len(f.alive()) < 2
	switch {
	case said == "":
		return warning("kage-mesh join "+at, "It will be joined by itself within seconds, unless it was evicted: then 'kage-mesh trust NODE' takes it back.", "the node at %s could be joined and is not a member yet", at)
	case is(mesh.ErrKeyNeeded):
		return warning("kage-mesh join --key-file FILE   # a file with the key of that mesh", "Its mesh has a key, and this node has none.", "the node at %s is in a mesh with a key", at)
	case is(mesh.ErrKeyMissing):
		w := warning("kage-mesh join --key-file FILE   # a file with the key of this mesh", "Without the key it cannot be in this mesh.", "the node at %s has no mesh key", at)
		w.On = at
		return w
	case is(mesh.ErrWrongKey):
		w := warning("kage-mesh join --key-file FILE   # with the key that 'kage-mesh keys rotate' or keygen printed for this mesh", "It was away when the key was changed, or was given another one.", "the node at %s has another mesh key", at)
		w.On = at
		return w
	case is(mesh.ErrOtherCluster) && alone:
		name, known := quoted(said)
		if !known { // a mesh with a key does not say
			name = "NAME"
		}
		return warning(fmt.Sprintf("kage-mesh join --cluster %s   # or 'cluster: %s' in the configuration", name, name), "Nodes of different clusters do not join.",
			"the node at %s is in another cluster than this one's %q: %s", at, f.Node.Members.Cluster, name)
	case is(mesh.ErrOtherCluster):
		return Finding{Level: Passed, Evidence: fmt.Sprintf("another mesh is on this network, at %s", at)}
	}
	w := failed(allowOn(f.OS, "tcp", port(at)), "Multicast passes and TCP does not: a firewall on that machine.", "the node at %s is heard, and cannot be joined: %s", at, said)
	w.On = at
	return w
}

// quoted is the first text in quotes.
func quoted(s string) (string, bool) {
	_, rest, ok := strings.Cut(s, `"`)
	text, _, closed := strings.Cut(rest, `"`)
	return text, ok && closed && text != ""
}

func port(addr string) string {
	ap, err := netip.ParseAddrPort(addr)
	if err != nil {
		return "11437"
	}
	return fmt.Sprint(ap.Port())
}
