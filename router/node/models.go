package node

import (
	"context"
	"errors"
	"net/http"
	"net/netip"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh/identity"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/registry"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/store"
)

// stores are the directories where the local Ollama's models may be.
func (n *Node) stores() []string {
	if n.config.Models != "" {
		return []string{n.config.Models}
	}
	return store.Usual()
}

// errNoPeer says that a node cannot be reached because it is no member now.
var errNoPeer = errors.New("node: no such member")

// bulk is a way to the peers for models. It has connections of its own, so that
// gigabytes do not stand in front of somebody's tokens.
func (n *Node) bulk() http.RoundTripper {
	return n.identity.Transport(func(id mesh.NodeID) (netip.AddrPort, error) {
		m, ok := n.mesh.View().Member(id)
		if !ok || m.Status == mesh.Left || m.Info.PeerPort == 0 {
			return netip.AddrPort{}, errNoPeer
		}
		return m.Peer(), nil
	}, identity.TransportOptions{Bulk: true})
}

func (n *Node) peering() router.Peering {
	if n.config.NoPeers {
		return nil
	}
	return n.registry
}

func (n *Node) sizes() func(context.Context, string) (uint64, error) {
	if n.config.Internet == nil {
		return nil
	}
	return func(ctx context.Context, name string) (uint64, error) {
		return registry.Size(ctx, n.config.Internet, name)
	}
}
