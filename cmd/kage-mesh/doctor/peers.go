package doctor

import (
	"fmt"
	"time"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/admin"
)

// peers says of each member how it is reached, each way.
func peers(f Facts) (out []Finding) {
	if f.Node == nil {
		return nil
	}
	byID := map[string]admin.Member{}
	for _, m := range f.Node.Members.Members {
		byID[m.ID] = m
	}
	for _, r := range f.Node.Checkup.Peers {
		m := byID[string(r.Node)]
		found := peer(f, r, m)
		if len(found) == 0 {
			found = passed("%s (%s): TLS, TCP and UDP both ways, %s", r.Name, m.Address, r.RTT.Round(100*time.Microsecond))
		}
		out = append(out, found...)
	}
	return out
}

// peer is what does not work with one member.
func peer(f Facts, r mesh.Reach, m admin.Member) (out []Finding) {
	os := f.osOf(m)
	there := func(w Finding) { w.On = r.Name; out = append(out, w) }
	here := func(w Finding) { out = append(out, w) }
	gossip := f.Node.Checkup.Gossip

	down := r.Link.Kind != "" && r.Gossip.Kind != "" && r.Link.Kind != "handshake"
	switch {
	case m.Status == "failed" && down, r.Link.Kind == "refused" && r.Gossip.Kind == "refused":
		why := "It crashed, was switched off, or its network is gone."
		if r.Link.Kind == "refused" {
			why = "The machine is there, the node does not run."
		}
		there(failed(startNode(os), why, "%s does not answer (%s: %s)", r.Name, m.PeerAddress, r.Link.Text))
		return out
	case r.Link.Kind == "old":
		there(warning("go install github.com/AI-Prompt-Ops-Kitchen/kage-mesh/cmd/kage-mesh@latest   # then start the node again",
			"How it reaches this node cannot be known.", "%s runs a version that cannot be asked about its paths", r.Name))
	case r.Link.Kind == "forbidden":
		there(failed("kage-mesh trust "+f.self().Name, "It was told to evict this node, or has not heard of it.", "%s does not take this node for a member", r.Name))
	case r.Link.Kind == "handshake", r.Link.Kind == "stalled":
		there(failed(mtuFix(f.OS, m), "Small packets pass and full ones are lost: a VPN, a tunnel or a switch with a smaller MTU that does not say so.",
			"%s (%s): %s", r.Name, m.PeerAddress, r.Link.Text))
	case r.Link.Kind != "":
		there(failed(allowOn(os, "tcp", port(m.PeerAddress)), "Requests for it cannot be forwarded.", "no TCP connection to %s's peer port %s: %s", r.Name, m.PeerAddress, r.Link.Text))
	}
	if r.Gossip.Kind != "" {
		there(failed(allowOn(os, "tcp", port(m.Address)), "Membership heals itself over it when datagrams are lost.", "no TCP connection to %s's gossip port %s: %s", r.Name, m.Address, r.Gossip.Text))
	}
	if !r.Asked {
		return out
	}
	switch {
	case !r.Small.There:
		there(failed(allowOn(os, "udp", port(m.Address)), "Without datagrams a death is seen late, and how busy a node is arrives late. If its firewall lets them in, this machine's may keep them from going out.",
			"no datagram of this node reaches %s (UDP %s)", r.Name, m.Address))
	case !r.Small.Back:
		here(failed(f.allow("udp", port(gossip)), "Without datagrams a death is seen late, and how busy a node is arrives late.",
			"no datagram of %s reaches this node (UDP %s)", r.Name, port(gossip)))
	case !r.Large.There || !r.Large.Back:
		there(failed(mtuFix(f.OS, m), "Small packets pass and full ones are lost: a VPN, a tunnel or a switch with a smaller MTU that does not say so.",
			"datagrams of %d bytes are lost on the way to %s and back, of %d they are not", mesh.EchoSizes[1], r.Name, mesh.EchoSizes[0]))
	}
	if f.misled() {
		return out // what the others are told is wrong, see address
	}
	if r.BackLink.Kind != "" {
		here(failed(f.allow("tcp", port(f.Node.Checkup.Peer)), "It cannot forward requests to this node.",
			"%s cannot connect to this node's peer port %s: %s", r.Name, port(f.Node.Checkup.Peer), r.BackLink.Text))
	}
	if r.BackGossip.Kind != "" {
		here(failed(f.allow("tcp", port(gossip)), "Membership heals itself over it when datagrams are lost.",
			"%s cannot connect to this node's gossip port %s: %s", r.Name, port(gossip), r.BackGossip.Text))
	}
	return out
}

// mtuFix finds the size that passes; which device is wrong only its owner knows.
func mtuFix(os string, m admin.Member) string {
	ip := m.Address
	if i := len(ip) - len(port(ip)) - 1; i > 0 {
		ip = ip[:i]
	}
	probe := byOS(os, "ping -M do -c 1 -s 1252 "+ip, "ping -D -c 1 -s 1252 "+ip, "ping -f -n 1 -l 1252 "+ip)
	return fmt.Sprintf("%s   # fails: some device between the two has an MTU below 1280; set it to 1500,\nsudo ip link set dev DEVICE mtu 1500   # or lower both machines' own to what passes", probe)
}

// skewed is the difference of clocks that is worth a word: times of two nodes'
// logs no longer line up.
const skewed = 2 * time.Second

func clocks(f Facts) (out []Finding) {
	if f.Node == nil {
		return nil
	}
	asked := 0
	var off []mesh.Reach
	for _, r := range f.Node.Checkup.Peers {
		if !r.Asked {
			continue
		}
		asked++
		if r.Offset.Abs()-r.RTT > skewed {
			off = append(off, r)
		}
	}
	switch {
	case asked == 0:
		return nil
	case len(off) == 0:
		return passed("all clocks agree to %s", skewed)
	case asked > 1 && len(off) == asked:
		return []Finding{warning(syncClock(f.OS), "Logs of two nodes do not line up. Nothing else depends on it.", "this machine's clock is off: %s of %s", off[0].Offset.Round(time.Second), off[0].Name)}
	}
	for _, r := range off {
		w := warning(syncClock(f.osOf(f.member(string(r.Node)))), "Logs of two nodes do not line up. Nothing else depends on it.", "%s's clock is %s from this one's", r.Name, r.Offset.Round(time.Second))
		w.On = r.Name
		out = append(out, w)
	}
	return out
}

func (f Facts) member(id string) admin.Member {
	for _, m := range f.Node.Members.Members {
		if m.ID == id {
			return m
		}
	}
	return admin.Member{}
}
