package meshtest

import (
	"net/netip"
	"time"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh/hardware"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh/identity"
)

// Epoch is the time of Views made here.
var Epoch = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)

// ID is a valid node id, the same for the same name.
func ID(name string) mesh.NodeID { return identity.FromSPKI([]byte("meshtest " + name)) }

// MemberOption changes a member made by [Member].
type MemberOption func(*mesh.Member)

// Member is a member that is alive, called name, whose Ollama answers and has
// no model and no work. Its hardware is unknown.
func Member(name string, opts ...MemberOption) *mesh.Member {
	id := ID(name)
	card := Card()
	m := &mesh.Member{
		ID: id, Status: mesh.Alive, Since: Epoch,
		Addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, 1 + id[0]%200}), mesh.DefaultPort),
		Info: mesh.Info{Protocol: mesh.Protocol, Version: "test", Hostname: name, Role: hardware.RoleCPU, PeerPort: 11436, Ollama: card.Ollama},
		Card: &card,
		Load: &mesh.Load{Node: id, Incarnation: 1, Seq: 1, Up: true}, Heard: Epoch,
	}
	for _, opt := range opts {
		opt(m)
	}
	return m
}

// Self makes it the member that is the node itself.
func Self() MemberOption { return func(m *mesh.Member) { m.Self = true } }

// With changes anything.
func With(f func(*mesh.Member)) MemberOption { return f }

// Gone gives it a status other than alive.
func Gone(s mesh.Status) MemberOption { return func(m *mesh.Member) { m.Status = s } }

// Models puts models on its disk, of 4 GiB each, replacing those before.
func Models(keys ...string) MemberOption {
	return func(m *mesh.Member) { m.Card.Catalog = Card(keys...).Catalog }
}

// Hardware says what it runs on.
func Hardware(inv hardware.Inventory) MemberOption {
	return func(m *mesh.Member) {
		m.Card.Hardware = inv
		m.Info.Role, m.Info.GPU = inv.Role, inv.GPUKind()
		m.Info.VRAM, m.Info.RAM, m.Info.Unified = inv.VRAM.N, inv.RAM.N, inv.Unified
		m.Info.Big = inv.Capable72B()
	}
}

// LoadOf changes its load report.
func LoadOf(f func(*mesh.Load)) MemberOption { return func(m *mesh.Member) { f(m.Load) } }

// NoCard makes it a member whose card has not been fetched yet.
func NoCard() MemberOption { return func(m *mesh.Member) { m.Card = nil } }

// View is a View of members.
func View(members ...*mesh.Member) *mesh.View { return mesh.NewView(1, Epoch, members) }

// Card is a card with models of 4 GiB each.
func Card(keys ...string) mesh.Card {
	c := mesh.Card{Ollama: "0.11.4", Parallel: 1}
	for _, k := range keys {
		c.Catalog = append(c.Catalog, mesh.Model{
			Key: k, Name: k, Digest: "sha256:" + string(ID(k)), Size: 4 << 30, Modified: Epoch,
			Layers: 32, KVHeads: 8, HeadDim: 128, ContextLength: 8192,
		})
	}
	return c
}
