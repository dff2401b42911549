package router

import (
	"net/http"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/wire"
)

// Models that run at ollama.com spend the account of the node that asks for
// them, and the prompt leaves the network. So a node's own caller may use the
// account of that node, and others only what a node has opened to the mesh
// (mesh.Card.Cloud). Such a model is no capacity of the mesh.

// cloudOpen reports whether cloud models may be used on m by a caller of this
// node; own says that the caller is on this machine.
func cloudOpen(m *mesh.Member, own bool) bool {
	return m.Self && own || m.Card != nil && m.Card.Cloud
}

// inCloud reports whether a request for the model would run at ollama.com: by
// its name, or because no node has it on its disk other than as a stub.
func inCloud(v *mesh.View, name, key string) bool {
	holders := v.Holders(key)
	for _, h := range holders {
		if h.Model.Remote == "" {
			return false
		}
	}
	return len(holders) > 0 || wire.IsCloud(name)
}

// cloudCandidates are the nodes that a request for a cloud model may go to,
// this one first: there is no telling them apart by speed.
func cloudCandidates(q *Request, s *Snapshot) []Candidate {
	var out []Candidate
	for _, m := range s.Members() {
		if !m.Serving() || !cloudOpen(m, q.Own) {
			continue
		}
		c := Candidate{Member: m, Model: m.Card.Catalog.Find(q.Key)}
		if c.Model == nil {
			if !wire.IsCloud(q.Key) {
				continue
			}
			c.Model = &mesh.Model{Key: q.Key, Name: q.Key, Remote: "https://ollama.com"}
		}
		if m.Self {
			out = append([]Candidate{c}, out...)
		} else {
			out = append(out, c)
		}
	}
	return out
}

// guardCloud is the owner's own look at what [cloudCandidates] decided: what
// another node sends for a cloud model is refused unless this node's account
// is open to the mesh.
func (r *Router) guardCloud(w http.ResponseWriter, req *http.Request) {
	key := wire.Field(req.Header, headerKey)
	if self := r.mesh.View().Self(); !r.config.Cloud && (wire.IsCloud(key) || self != nil && isStub(self, key)) {
		w.Header().Set(headerRefused, RefusedNoModel)
		w.WriteHeader(http.StatusTooManyRequests)
		return
	}
	r.servePeer(w, req)
}

func isStub(m *mesh.Member, key string) bool {
	if m.Card == nil {
		return false
	}
	model := m.Card.Catalog.Find(key)
	return model != nil && model.Remote != ""
}
