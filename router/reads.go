package router

import (
	"encoding/json"
	"net/http"
	"strconv"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/wire"
)

// serveRead answers what any node knows from its own view, without asking
// anybody.
func (r *Router) serveRead(w http.ResponseWriter, req *http.Request, route wire.Route) {
	v, own := r.mesh.View(), FromHere(req)
	switch route.Kind {
	case wire.Root:
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_, _ = w.Write([]byte("Ollama is running"))
	case wire.Version:
		writeJSON(w, http.StatusOK, versionsOf(v, req.URL.Query().Has("verbose")))
	case wire.Tags:
		writeJSON(w, http.StatusOK, tags(v, own))
	case wire.Ps:
		writeJSON(w, http.StatusOK, running(v))
	case wire.V1Models:
		writeJSON(w, http.StatusOK, v1Models(v, own))
	case wire.V1Model:
		serveV1Model(w, route, v, own)
	case wire.Status:
		r.serveStatus(w, route, v, own)
	default:
		writeError(w, route.Kind.Dialect(), wire.ErrNoRoute())
	}
}

// serveStatus answers /api/status, which says whether cloud models can be used:
// through this node, by this caller. Without a node that is new enough there is
// no such route.
func (r *Router) serveStatus(w http.ResponseWriter, route wire.Route, v *mesh.View, own bool) {
	known, open := false, false
	for _, m := range v.Members() {
		if m.Serving() && knows(m, route.Since) != tooOld {
			known = true
			open = open || cloudOpen(m, own)
		}
	}
	if !known {
		writeError(w, wire.Ollama, wire.ErrNoRoute())
		return
	}
	source := "none"
	if !open {
		source = "config"
	}
	writeJSON(w, http.StatusOK, map[string]any{"cloud": map[string]any{"disabled": !open, "source": source}})
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	body, err := json.Marshal(v)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "application/json; charset=utf-8")
	h.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	_, _ = w.Write(body)
}
