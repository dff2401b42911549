package mesh

import (
	"slices"
	"strings"
	"time"
)

// View is one immutable picture of all members. It is safe to keep for the
// life of a request; [Mesh.View] hands out the newest by one atomic load.
type View struct {
	Generation uint64    // grows with every published View
	At         time.Time // when it was built, our clock

	self    *Member
	members []*Member
	byID    map[NodeID]*Member
	holders map[string][]Holder
}

// Holder is a member with a model on its disk.
type Holder struct {
	Member *Member
	Model  *Model
}

// NewView builds a View of members, which it takes over: neither the slice nor
// the members may change afterwards. Members are sorted by id, so that equal
// sets give equal Views, and names are made unique. Exported for tests and the
// simulator; a running node gets its Views from [Mesh.View].
func NewView(generation uint64, at time.Time, members []*Member) *View {
	v := &View{
		Generation: generation, At: at, members: members,
		byID:    make(map[NodeID]*Member, len(members)),
		holders: make(map[string][]Holder),
	}
	slices.SortFunc(members, func(a, b *Member) int { return strings.Compare(string(a.ID), string(b.ID)) })
	uniqueNames(members)
	for _, m := range members {
		v.byID[m.ID] = m
		if m.Self {
			v.self = m
		}
		if m.Status != Alive || m.Card == nil {
			continue
		}
		for i := range m.Card.Catalog {
			model := &m.Card.Catalog[i]
			v.holders[model.Key] = append(v.holders[model.Key], Holder{Member: m, Model: model})
		}
	}
	return v
}

// uniqueNames gives each member its hostname as name, and "-" with four
// letters of the id where two share it, so that every node shows the same.
func uniqueNames(members []*Member) {
	seen := make(map[string]int, len(members))
	for _, m := range members {
		seen[m.Info.Hostname]++
	}
	for i, m := range members {
		name := m.Info.Hostname
		if name == "" || seen[name] > 1 {
			name = strings.TrimPrefix(name+"-"+m.ID.Short(), "-")
		}
		if m.Name != name {
			c := *m
			c.Name = name
			members[i] = &c
		}
	}
}

// Self is this node's own member; nil in Views of tests that name none.
func (v *View) Self() *Member { return v.self }

// Members lists all members, sorted by id, also failed and left ones. The
// slice belongs to the View.
func (v *View) Members() []*Member { return v.members }

// Member returns the member with the given id.
func (v *View) Member(id NodeID) (*Member, bool) {
	m, ok := v.byID[id]
	return m, ok
}

// Lookup finds a member by name, id or unique id prefix of at least 4 letters.
func (v *View) Lookup(name string) (*Member, bool) {
	if m, ok := v.byID[NodeID(name)]; ok {
		return m, true
	}
	var found *Member
	for _, m := range v.members {
		if m.Name == name {
			return m, true
		}
		if len(name) >= 4 && strings.HasPrefix(string(m.ID), name) {
			if found != nil {
				return nil, false
			}
			found = m
		}
	}
	return found, found != nil
}

// Holders lists the alive members that have the model on disk, by its
// canonical name. The slice belongs to the View.
func (v *View) Holders(key string) []Holder { return v.holders[key] }

// Models lists the canonical names of all models in the mesh, sorted.
func (v *View) Models() []string {
	keys := make([]string, 0, len(v.holders))
	for k := range v.holders {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
