package mesh

import "sync/atomic"

// roster is the part of a View that changes rarely: who is where in its list, and
// who has what.
type roster struct {
	self  int // in the list; -1 nowhere
	index map[NodeID]int
	held  map[string]*shelf
}

// shelf is who has one model.
type shelf struct {
	key    string
	length int // of held
	held   []held
	note   atomic.Value                   // see View.Note
	notes  atomic.Pointer[[]atomic.Value] // beside held, from when somebody asks; see Holder
	last   atomic.Pointer[holders]        // of the newest View that was asked
}

type held struct {
	by    int // in the list
	model *Model
}

// holders are those of one model as one View shows them.
type holders struct {
	view *View
	list []Holder
}

// newRoster reads the catalogs of members. Those of a mesh are much alike, so the
// shelf of a model is looked for beside those of the member before, and each is as
// long as it has to be before it is filled.
func newRoster(members []*Member) *roster {
	r := &roster{self: -1, index: make(map[NodeID]int, len(members)), held: make(map[string]*shelf)}
	total := 0
	for i, m := range members {
		r.index[m.ID] = i
		if m.Self {
			r.self = i
		}
		total += len(m.catalog())
	}
	shelves := make([]*shelf, 0, total) // of all models of all members
	before := shelves                   // of those of one member
	for _, m := range members {
		models, first := m.catalog(), len(shelves)
		next := before
		for j := range models {
			key := models[j].Key
			for len(next) > 0 && next[0].key < key {
				next = next[1:]
			}
			var of *shelf
			if len(next) > 0 && next[0].key == key {
				of = next[0]
			} else {
				of = r.shelf(key)
			}
			of.length++
			shelves = append(shelves, of)
		}
		if len(models) > 0 {
			before = shelves[first:]
		}
	}
	room := make([]held, total)
	for i, m := range members {
		models := m.catalog()
		for j := range models {
			of := shelves[j]
			if of.held == nil {
				of.held, room = room[:0:of.length], room[of.length:]
			}
			of.held = append(of.held, held{i, &models[j]})
		}
		shelves = shelves[len(models):]
	}
	return r
}

// catalog is what m has for the mesh.
func (m *Member) catalog() Catalog {
	if m.Status != Alive || m.Card == nil {
		return nil
	}
	return m.Card.Catalog
}

func (r *roster) shelf(key string) *shelf {
	of := r.held[key]
	if of == nil {
		of = &shelf{key: key}
		r.held[key] = of
	}
	return of
}

// holders are the holders as v shows them.
func (of *shelf) holders(v *View) []Holder {
	last := of.last.Load()
	if last != nil && last.view == v {
		return last.list
	}
	notes := of.notes.Load()
	if notes == nil {
		room := make([]atomic.Value, len(of.held))
		of.notes.CompareAndSwap(nil, &room)
		notes = of.notes.Load()
	}
	list := make([]Holder, len(of.held))
	for i, h := range of.held {
		list[i] = Holder{Member: v.members[h.by], Model: h.model, Note: &(*notes)[i]}
	}
	if last == nil || last.view.Generation <= v.Generation {
		of.last.Store(&holders{v, list})
	}
	return list
}
