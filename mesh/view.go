package mesh

import (
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"time"
)

// View is one immutable picture of all members. It is safe to keep for the
// life of a request; [Mesh.View] hands out the newest by one atomic load.
type View struct {
	Generation uint64    // grows with every published View
	At         time.Time // when it was built, our clock

	members  []*Member
	roster   *roster // shared by Views between which only loads and paths changed
	troubled atomic.Pointer[[]*Member]
}

// Holder is a member with a model on its disk.
type Holder struct {
	Member *Member
	Model  *Model
	// Note is for what the router works out of the two. Views between which only
	// loads changed share it, so what is noted must say of which Member it is;
	// all notes are of one type.
	Note *atomic.Value
}

// NewView builds a View of members, which it takes over: neither the slice nor
// the members may change afterwards. Members are sorted by id, so that equal
// sets give equal Views, and names are made unique. Exported for tests and the
// simulator; a running node gets its Views from [Mesh.View].
func NewView(generation uint64, at time.Time, members []*Member) *View {
	slices.SortFunc(members, func(a, b *Member) int { return strings.Compare(string(a.ID), string(b.ID)) })
	uniqueNames(members)
	return &View{Generation: generation, At: at, members: members, roster: newRoster(members)}
}

// with is the View of other members under the same roster: see sameRoster.
func (v *View) with(generation uint64, at time.Time, members []*Member) *View {
	return &View{Generation: generation, At: at, members: members, roster: v.roster}
}

// sameRoster reports whether a roster made for a holds for b, the same member
// later.
func sameRoster(a, b *Member) bool {
	return a.ID == b.ID && a.Status == b.Status && a.Card == b.Card && a.Info.Hostname == b.Info.Hostname && a.Self == b.Self
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
func (v *View) Self() *Member {
	if v.roster.self < 0 {
		return nil
	}
	return v.members[v.roster.self]
}

// Members lists all members, sorted by id, also failed and left ones. The
// slice belongs to the View.
func (v *View) Members() []*Member { return v.members }

// Member returns the member with the given id.
func (v *View) Member(id NodeID) (*Member, bool) {
	i, ok := v.roster.index[id]
	if !ok {
		return nil, false
	}
	return v.members[i], true
}

// Lookup finds a member by name, id or unique id prefix of at least 4 letters.
func (v *View) Lookup(name string) (*Member, bool) {
	if m, ok := v.Member(NodeID(name)); ok {
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
func (v *View) Holders(key string) []Holder {
	if of := v.roster.held[key]; of != nil {
		return of.holders(v)
	}
	return nil
}

// Note is for what the router works out of which models the name stands for; nil
// where nobody has it. It lasts as long as nobody's models change, over many
// Views.
func (v *View) Note(key string) *atomic.Value {
	if of := v.roster.held[key]; of != nil {
		return &of.note
	}
	return nil
}

// Troubled lists the members whose last report says that they fail; see
// [Load.Trouble]. The slice belongs to the View.
func (v *View) Troubled() []*Member {
	if known := v.troubled.Load(); known != nil {
		return *known
	}
	var list []*Member
	for _, m := range v.members {
		if m.Load != nil && m.Load.Trouble != 0 {
			list = append(list, m)
		}
	}
	v.troubled.Store(&list)
	return list
}

// Models lists the canonical names of all models in the mesh, sorted.
func (v *View) Models() []string { return slices.Sorted(maps.Keys(v.roster.held)) }
