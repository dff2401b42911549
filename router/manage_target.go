package router

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh/hardware"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/wire"
)

// Words for several nodes at once.
const (
	whereAll     = "all"     // every node with a running Ollama; of a model, every holder
	whereCapable = "capable" // every node whose memory could run the model
)

// diskReserve is what a pull leaves free on a disk, bytes: enough for logs and
// for the manifests of the models that are there.
const diskReserve = 1 << 30

// named finds the nodes of a list of names.
func named(v *mesh.View, where string) ([]*mesh.Member, *wire.Error) {
	var out []*mesh.Member
	for name := range strings.SplitSeq(where, ",") {
		m, ok := v.Lookup(strings.TrimSpace(name))
		switch {
		case !ok:
			return nil, noNode(v, name)
		case !m.Serving() && !m.Draining():
			return nil, wire.ErrNoNode("", m.Name+" has no running Ollama", retrySoon)
		case !slices.Contains(out, m):
			out = append(out, m)
		}
	}
	return out, nil
}

func noNode(v *mesh.View, name string) *wire.Error {
	var names []string
	for _, m := range v.Members() {
		if m.Status == mesh.Alive {
			names = append(names, m.Name)
		}
	}
	slices.Sort(names)
	return wire.ErrBadRequest(fmt.Sprintf("no node %q; the mesh has %s", name, strings.Join(names, ", ")))
}

// holdersFor are the nodes that an order about a model that is there goes to:
// its holders, or those of them that the caller named; this node first. A
// named node without the model is asked all the same: its answer says so.
func holdersFor(v *mesh.View, where, key string) ([]*mesh.Member, *wire.Error) {
	var out []*mesh.Member
	switch where {
	case "", whereAll, whereCapable:
		for _, h := range v.Holders(key) {
			if h.Member.Serving() || h.Member.Draining() {
				out = append(out, h.Member)
			}
		}
	default:
		var werr *wire.Error
		if out, werr = named(v, where); werr != nil {
			return nil, werr
		}
	}
	slices.SortStableFunc(out, selfFirst)
	return out, nil
}

func selfFirst(a, b *mesh.Member) int {
	switch {
	case a.Self == b.Self:
		return 0
	case a.Self:
		return -1
	}
	return 1
}

// pullTargets are the nodes that a pull goes to. size is what the model takes,
// bytes; 0 when nobody knows.
func pullTargets(v *mesh.View, where, key string, size uint64) ([]*mesh.Member, *wire.Error) {
	if where != "" && where != whereAll && where != whereCapable {
		return named(v, where)
	}
	var places []place
	var reasons []string
	for _, m := range v.Members() {
		if !m.Serving() {
			continue
		}
		p := placeOf(m, v, key, size)
		if why := p.refuses(where, size); why != "" {
			reasons = append(reasons, m.Name+" "+why)
			continue
		}
		places = append(places, p)
	}
	if len(places) == 0 {
		if reasons == nil {
			reasons = []string{"no node has a running Ollama"}
		}
		return nil, wire.ErrNoNode(key, strings.Join(reasons, "; "), 0)
	}
	slices.SortStableFunc(places, place.compare)
	if where == "" {
		places = places[:1]
	}
	out := make([]*mesh.Member, len(places))
	for i, p := range places {
		out[i] = p.member
	}
	return out, nil
}

// place is a node as a home for a model.
type place struct {
	member *mesh.Member
	class  hardware.Class // None also when the size is unknown
	has    bool
	disk   uint64 // bytes free, 0 unknown
	memory uint64 // bytes for models at most
}

func placeOf(m *mesh.Member, v *mesh.View, key string, size uint64) place {
	p := place{member: m, has: holds(m, key), disk: freeDisk(m), memory: max(m.Info.VRAM, m.Info.RAM)}
	model := &mesh.Model{Size: size}
	for _, h := range v.Holders(key) {
		if h.Model.Remote == "" {
			model = h.Model
		}
	}
	p.class, _ = m.Card.Hardware.CouldRun(model.Need(0, m.Parallel()))
	return p
}

// refuses says why a model of the size is not brought here, "" if it may be.
func (p place) refuses(where string, size uint64) string {
	switch {
	case size == 0:
		return ""
	case p.class == hardware.None && where != whereAll:
		return "has not the memory for " + hardware.FormatSize(size)
	case !p.has && p.disk > 0 && p.disk < size+diskReserve:
		return fmt.Sprintf("has %s of disk left for %s", hardware.FormatSize(p.disk), hardware.FormatSize(size))
	}
	return ""
}

// compare puts the better home first: by how well the model fits into memory,
// then this node, then the larger memory and the emptier disk. With an unknown
// size every class is None, and the larger memory decides before this node.
func (p place) compare(o place) int {
	self := selfFirst(p.member, o.member)
	if p.class == hardware.None && o.class == hardware.None {
		self = 0
	}
	return cmp.Or(
		-cmp.Compare(p.class, o.class),
		self,
		-cmp.Compare(p.memory, o.memory),
		selfFirst(p.member, o.member),
		-cmp.Compare(p.disk, o.disk),
	)
}

func freeDisk(m *mesh.Member) uint64 {
	if m.Load == nil {
		return 0
	}
	return m.Load.FreeDisk
}
