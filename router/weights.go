package router

import (
	"net/http"
	"slices"
	"sync"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/wire"
)

// One name may stand for different weights on different nodes: one of them has
// pulled a newer version. To a new conversation the name means the copy that
// the listings show, the newest. A conversation that has begun stays with the
// weights that it began with for as long as a node can serve them, and an
// answer of which the client has a part is never continued with others.

// Weights tell two models of one name apart. The zero Weights are none.
type Weights struct {
	Blob   string // digest of the weights, "" unknown
	Digest string // digest of the manifest
}

func weightsOf(m *mesh.Model) Weights { return Weights{Blob: m.Blob, Digest: m.Digest} }

func (w Weights) none() bool { return w == Weights{} }

// same compares by the weights' own digest where it is known: the manifest's
// also differs between two nodes that created the same model, because it
// covers the paths of the node.
func (w Weights) same(o Weights) bool {
	if w.Blob != "" && o.Blob != "" {
		return w.Blob == o.Blob
	}
	return w.Digest == o.Digest
}

// oneModel moves the nodes with the weights that q is to have to the front,
// before those with other ones, from the newest to the oldest. An answer that
// has begun goes on nowhere but on its own.
func oneModel(q *Request, cs []Candidate, v *mesh.View) []Candidate {
	versions := copiesOf(v, q.Key)
	if len(versions) < 2 && !q.Begun {
		return cs
	}
	if q.Begun {
		return slices.DeleteFunc(cs, func(c Candidate) bool { return !weightsOf(c.Model).same(q.Weights) })
	}
	for i := range cs {
		c := &cs[i]
		w := weightsOf(c.Model)
		if c.version = 1; !q.Weights.none() && w.same(q.Weights) {
			continue
		}
		c.version = 2 + slices.IndexFunc(versions, func(m *mesh.Model) bool { return w.same(weightsOf(m)) })
	}
	slices.SortStableFunc(cs, func(a, b Candidate) int { return a.version - b.version })
	return cs
}

// copiesOf lists one model of each weights that a name stands for, newest first.
// It is the same for all Views of a roster, and worked out once for it.
func copiesOf(v *mesh.View, key string) (versions []*mesh.Model) {
	note := v.Note(key)
	if note == nil {
		return nil
	}
	if known, ok := note.Load().([]*mesh.Model); ok {
		return known
	}
	for _, h := range v.Holders(key) {
		if h.Model.Remote == "" {
			versions = addVersion(versions, h.Model)
		}
	}
	note.Store(versions)
	return versions
}

// addVersion puts m among versions, in the place of its time: of equal weights
// the most lately modified copy counts.
func addVersion(versions []*mesh.Model, m *mesh.Model) []*mesh.Model {
	same := func(o *mesh.Model) bool { return weightsOf(o).same(weightsOf(m)) }
	if i := slices.IndexFunc(versions, same); i >= 0 {
		if !m.Modified.After(versions[i].Modified) {
			return versions
		}
		versions = slices.Delete(versions, i, i+1)
	}
	at := slices.IndexFunc(versions, func(o *mesh.Model) bool { return m.Modified.After(o.Modified) })
	if at < 0 {
		at = len(versions)
	}
	return slices.Insert(versions, at, m)
}

// maxConversations is how many conversations a node remembers the weights of,
// at least; twice as many at most. Each takes some 100 bytes.
const maxConversations = 4096

// conversations remember with which weights the conversations of this node's
// clients are held. A client sends all of a conversation with each turn, so the
// prompt of one turn is a prefix of the next one's; see [wire.Peek.Prefixes].
type conversations struct {
	mu            sync.Mutex
	recent, older map[uint64]Weights
}

// weights are those that the conversation in q has been held with, none for a
// new one.
func (c *conversations) weights(kind wire.Kind, prefixes []uint64) Weights {
	if !talks(kind) || len(prefixes) < 2 {
		return Weights{}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	// The whole prompt asked again is a new conversation that begins alike.
	for i := len(prefixes) - 2; i >= 0; i-- {
		p := prefixes[i]
		if w, ok := c.recent[p]; ok {
			return w
		}
		if w, ok := c.older[p]; ok {
			return w
		}
	}
	return Weights{}
}

// held notes that a turn of a conversation is answered with w.
func (c *conversations) held(kind wire.Kind, prefixes []uint64, w Weights) {
	if !talks(kind) || len(prefixes) == 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.recent == nil || len(c.recent) >= maxConversations {
		c.recent, c.older = make(map[uint64]Weights), c.recent
	}
	c.recent[prefixes[len(prefixes)-1]] = w
}

// began notes that a client gets its answer from f's present answerer, and says
// from which weights where the name alone does not.
func (r *Router) began(h http.Header, f *flight) {
	c := &f.answerer
	if f.Read || f.Cloud || c.Model == nil {
		return
	}
	f.Weights, f.Begun = weightsOf(c.Model), true
	r.talks.held(f.route.Kind, f.Prefixes, f.Weights)
	if c.version > 0 && f.Weights.Digest != "" {
		h.Set(headerDigest, f.Weights.Digest)
	}
}

// conversation identifies the conversation that a request is a turn of, 0 none.
func conversation(kind wire.Kind, p *wire.Peek) uint64 {
	if !talks(kind) {
		return 0
	}
	return p.PrefixKey
}

// talks reports whether requests of a kind are turns of a conversation.
func talks(kind wire.Kind) bool {
	switch kind {
	case wire.Chat, wire.V1Chat, wire.V1Messages, wire.V1Responses:
		return true
	}
	return false
}
