package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"

	"github.com/urfave/cli/v2"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/discovery"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/node"
)

// newDiscovery looks for peers in every way that this machine has.
func newDiscovery(c *cli.Context, n *node.Node, joiner discovery.Joiner, config node.Config, seeds discovery.Source, remembered *discovery.Remembered, log *slog.Logger) (*discovery.Discovery, error) {
	gossip := n.Mesh().Addr()
	sources := []discovery.Source{
		seeds, remembered,
		discovery.NewTailnet(discovery.TailnetConfig{Logger: log}),
	}
	if !c.Bool("no-mdns") {
		mdns := discovery.MDNSConfig{
			Instance: string(n.ID()), Cluster: n.Mesh().Tag(), Protocol: protocol,
			Port: int(gossip.Port()), Logger: log,
		}
		if ip := gossip.Addr(); ip.IsValid() && !ip.IsUnspecified() {
			mdns.Advertise = []netip.Addr{ip.Unmap()}
		}
		source, err := discovery.NewMDNS(mdns)
		if err != nil {
			return nil, err
		}
		sources = append(sources, undecided{source})
	}
	return discovery.New(discovery.Config{
		Self: string(n.ID()), Cluster: config.Cluster, Joiner: joiner, Sources: sources, Logger: log,
		Known: func(p discovery.Peer) bool { return known(n.Mesh().View(), gossip.Port(), p) },
	})
}

// known reports whether a peer that discovery found is this node or an alive
// member.
func known(v *mesh.View, ownPort uint16, p discovery.Peer) bool {
	if p.ID != "" {
		m, ok := v.Member(mesh.NodeID(p.ID))
		return ok && (m.Self || m.Status == mesh.Alive)
	}
	addr, err := netip.ParseAddrPort(p.Addr)
	if err != nil {
		return false
	}
	for _, m := range v.Members() {
		if m.Status == mesh.Alive && m.Addr == addr {
			return true
		}
	}
	return addr.Port() == ownPort && ownAddress(addr.Addr())
}

// ownAddress reports whether ip is one of this machine's.
func ownAddress(ip netip.Addr) bool {
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return false
	}
	for _, a := range addrs {
		if prefix, err := netip.ParsePrefix(a.String()); err == nil && prefix.Addr().Unmap() == ip.Unmap().WithZone("") {
			return true
		}
	}
	return false
}

// remember writes the members' addresses down whenever they change, so that a
// mesh that was switched off finds itself again without mDNS.
func remember(ctx context.Context, m *mesh.Mesh, file *discovery.Remembered, log *slog.Logger) error {
	var seen uint64
	for {
		v, err := m.Wait(ctx, func(v *mesh.View) bool { return v.Generation > seen })
		if err != nil {
			return nil // ctx has ended
		}
		seen = v.Generation
		var peers []discovery.Peer
		for _, member := range v.Members() {
			if !member.Self && member.Status == mesh.Alive {
				peers = append(peers, discovery.Peer{Addr: member.Addr.String(), ID: string(member.ID)})
			}
		}
		if len(peers) == 0 {
			continue
		}
		if err := file.Save(peers...); err != nil {
			log.Warn("cannot remember peers", "err", err)
		}
	}
}

// errNameTaken says that another node has the name that was asked for.
var errNameTaken = errors.New("name is taken")

// nameClash stops a node whose name was chosen by hand and is another's
// already. Two machines that merely share a hostname go on: each is shown with
// four letters of its id.
func nameClash(ctx context.Context, n *node.Node, chosen bool) error {
	if !chosen {
		return nil
	}
	v, err := n.Mesh().Wait(ctx, func(v *mesh.View) bool { return taken(v) != nil })
	if err != nil {
		return nil // ctx has ended
	}
	other := taken(v)
	return &failure{
		code:  codeFailure,
		cause: fmt.Errorf("%w: '%s' is the node at %s", errNameTaken, other.Info.Hostname, other.Addr),
		fix:   "choose another with --name, or leave --name out",
	}
}

// taken is the alive member that has this node's name and had it first.
func taken(v *mesh.View) *mesh.Member {
	self := v.Self()
	if self == nil {
		return nil
	}
	for _, m := range v.Members() {
		if !m.Self && m.Status == mesh.Alive && m.Info.Hostname == self.Info.Hostname && m.Load != nil &&
			(self.Load == nil || m.Load.Incarnation < self.Load.Incarnation) {
			return m
		}
	}
	return nil
}
