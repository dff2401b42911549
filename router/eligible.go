package router

import (
	"cmp"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/wire"
)

// eligible puts what no policy may overrule around one: a route that only newer
// Ollamas have goes to no older one, a model at ollama.com only where its
// account is open, and where a name means different weights on different nodes
// a conversation stays with its own.
func eligible(policy Policy) Policy {
	return func(q Request, s Snapshot) []Candidate {
		cs := eligibleFor(&q, &s, policy)
		if q.Only != "" {
			cs = slices.DeleteFunc(cs, func(c Candidate) bool { return c.ID != q.Only })
		}
		return cs
	}
}

func eligibleFor(q *Request, s *Snapshot, policy Policy) []Candidate {
	switch {
	case q.Read:
		return nearest(q, s)
	case q.Cloud:
		return newEnough(cloudCandidates(q, s), q.Since)
	}
	return oneModel(q, newEnough(policy(*q, *s), q.Since), s.View)
}

// nearest orders the holders for a question about a model, which needs neither
// memory nor a slot: this node, then by round trip.
func nearest(q *Request, s *Snapshot) []Candidate {
	var cs []Candidate
	for _, h := range s.Holders(q.Key) {
		up := h.Member.Serving() || h.Member.Draining()
		if up && (h.Model.Remote == "" || cloudOpen(h.Member, q.Own)) {
			cs = append(cs, Candidate{Member: h.Member, Model: h.Model})
		}
	}
	if len(cs) == 0 && len(s.Holders(q.Key)) == 0 {
		// Nobody has it: one Ollama says so in its own words, by which its
		// command decides to pull.
		for _, m := range s.Members() {
			if m.Serving() {
				cs = append(cs, Candidate{Member: m, Model: &mesh.Model{Key: q.Key}})
			}
		}
	}
	slices.SortStableFunc(cs, func(a, b Candidate) int {
		switch {
		case a.Self && !b.Self:
			return -1
		case b.Self && !a.Self:
			return 1
		}
		return cmp.Compare(a.RTT, b.RTT)
	})
	return cs
}

// newEnough drops the nodes whose Ollama does not have the route. Those that do
// not tell their version come last: they are asked, and a 404 leads on.
func newEnough(cs []Candidate, since string) []Candidate {
	if since == "" {
		return cs
	}
	out := make([]Candidate, 0, len(cs))
	for _, want := range []knowledge{has, unsaid} {
		for _, c := range cs {
			if knows(c.Member, since) == want {
				out = append(out, c)
			}
		}
	}
	return out
}

// restrict decides what restricts f, and refuses what no node may ever serve
// because of it.
func (r *Router) restrict(f *flight) *wire.Error {
	v := r.mesh.View()
	if base, source := wire.SplitSource(f.peek.Model); source == wire.LocalSource && len(v.Holders(f.Key)) == 0 {
		f.Key = wire.Canonical(base) // ":local" is a source to newer Ollamas
	}
	if name := f.only; name != "" {
		m, ok := v.Lookup(name)
		if !ok {
			return noNode(v, name)
		}
		f.Only = m.ID
	}
	if f.Cloud = inCloud(v, f.peek.Model, f.Key); f.Cloud {
		if s := r.Snapshot(f.Request); len(cloudCandidates(&f.Request, &s)) == 0 {
			return wire.ErrCloud(f.peek.Model)
		}
	}
	if f.Since == "" {
		return nil
	}
	holders, known := v.Holders(f.Key), false
	for _, m := range v.Members() {
		known = known || m.Serving() && knows(m, f.Since) != tooOld
	}
	switch {
	case !known:
		return wire.ErrNoRoute() // as one old Ollama would say
	case len(holders) == 0 || f.Cloud:
		return nil
	}
	var old []string
	for _, h := range holders {
		if knows(h.Member, f.Since) != tooOld {
			return nil
		}
		old = append(old, h.Member.Name+" has "+h.Member.Info.Ollama)
	}
	return &wire.Error{
		Status: http.StatusNotFound,
		Message: fmt.Sprintf("%s needs Ollama %s or newer on a node with the model: %s",
			f.route.Path, f.Since, strings.Join(old, ", ")),
	}
}
