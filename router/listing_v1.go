package router

import (
	"net/http"
	"strings"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/wire"
)

// v1Model is one entry of /v1/models.
type v1Model struct {
	ID      string `json:"id"`
	Object  string `json:"object"`
	Created int64  `json:"created"`
	OwnedBy string `json:"owned_by"`
}

type v1ModelList struct {
	Object string    `json:"object"`
	Data   []v1Model `json:"data"`
}

func v1Models(v *mesh.View, own bool) v1ModelList {
	out := v1ModelList{Object: "list", Data: []v1Model{}}
	for _, m := range newest(v, own) {
		out.Data = append(out.Data, v1ModelOf(m.Model, m.Name))
	}
	return out
}

func v1ModelOf(m *mesh.Model, id string) v1Model {
	owner := "library"
	if i := strings.LastIndexByte(m.Name, '/'); i >= 0 {
		owner = m.Name[:i]
	}
	return v1Model{ID: id, Object: "model", Created: m.Modified.Unix(), OwnedBy: owner}
}

func serveV1Model(w http.ResponseWriter, route wire.Route, v *mesh.View, own bool) {
	name := route.Param
	key := wire.Canonical(name)
	for _, l := range newest(v, own) {
		if l.Key == key {
			writeJSON(w, http.StatusOK, v1ModelOf(l.Model, name))
			return
		}
	}
	writeError(w, wire.OpenAI, wire.ErrModelNotFound(wire.V1Model, name, hints(name, v)))
}
