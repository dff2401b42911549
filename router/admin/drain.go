package admin

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh"
)

// DrainOrder is what a node is asked to do.
type DrainOrder struct {
	On  bool `json:"on"`            // false: take work again
	Now bool `json:"now,omitempty"` // hand over what runs, in place of finishing it
}

// drainRequest is the body of /mesh/v1/drain.
type drainRequest struct {
	DrainOrder
	Node string `json:"node,omitempty"` // name or id; "" the node that is asked
}

// Drained is the answer of /mesh/v1/drain: the node as it is now.
type Drained struct {
	SchemaVersion int    `json:"schema_version"`
	Node          string `json:"node"`
	ID            string `json:"id"`
	Draining      bool   `json:"draining"`
	Running       int    `json:"in_flight"`
	Waiting       int    `json:"waiting"`
	// Nowhere lists the models of a draining node that no other node can
	// serve meanwhile.
	Nowhere []string `json:"nowhere_else"`
}

func (c Config) drain(w http.ResponseWriter, req *http.Request) {
	var q drainRequest
	if err := json.NewDecoder(http.MaxBytesReader(w, req.Body, 4<<10)).Decode(&q); err != nil {
		write(w, http.StatusBadRequest, problem{"the body is no JSON object"})
		return
	}
	if q.Node == "" {
		q.Node = string(c.View().Self().ID)
	}
	id, err := nodeOf(c.View(), q.Node)
	if err != nil {
		write(w, http.StatusNotFound, problem{err.Error()})
		return
	}
	if err := c.Drain(req.Context(), id, q.DrainOrder); err != nil {
		write(w, http.StatusConflict, problem{err.Error()})
		return
	}
	v := c.View()
	m, ok := v.Member(id)
	if !ok {
		write(w, http.StatusConflict, problem{"the node has left meanwhile"})
		return
	}
	write(w, http.StatusOK, DrainedOf(v, m))
}

// DrainedOf says how far a member's draining is.
func DrainedOf(v *mesh.View, m *mesh.Member) Drained {
	d := Drained{SchemaVersion: SchemaVersion, Node: m.Name, ID: string(m.ID), Draining: m.Draining(), Nowhere: []string{}}
	if m.Load != nil {
		d.Running, d.Waiting = m.Load.Running, m.Load.Waiting
	}
	if m.Card == nil || !d.Draining {
		return d
	}
	for i := range m.Card.Catalog {
		model := &m.Card.Catalog[i]
		elsewhere := slices.ContainsFunc(v.Holders(model.Key), func(h mesh.Holder) bool { return h.Member.Serving() })
		if !elsewhere && model.Remote == "" {
			d.Nowhere = append(d.Nowhere, model.Name)
		}
	}
	return d
}

// Drain asks a node, by name or id, to take no new work, or work again; "" is
// the node that is asked.
func (c Client) Drain(ctx context.Context, node string, o DrainOrder) (Drained, error) {
	var d Drained
	return d, c.post(ctx, "drain", drainRequest{o, node}, &d)
}
