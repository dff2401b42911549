package router

import (
	"net/http"
	"strings"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/wire"
)

// Health is what /health says: is the mesh of use, as seen from this node.
type Health struct {
	Status string `json:"status"` // ok: all members alive; degraded: some; down: none can serve
	Nodes  int    `json:"nodes"`  // members that should be there: alive and failed ones
	Online int    `json:"online"` // alive
	Serves int    `json:"serves"` // alive with an Ollama that takes work
	Models int    `json:"models"`
}

// HealthOf sums up a View.
func HealthOf(v *mesh.View) Health {
	h := Health{Status: "ok", Models: len(v.Models())}
	for _, m := range v.Members() {
		if m.Status == mesh.Left {
			continue
		}
		h.Nodes++
		if m.Status == mesh.Alive {
			h.Online++
		}
		if m.Serving() {
			h.Serves++
		}
	}
	switch {
	case h.Serves == 0:
		h.Status = "down"
	case h.Online < h.Nodes:
		h.Status = "degraded"
	}
	return h
}

// BackendState is one line of /backends: a member and what it can do now.
type BackendState struct {
	Node     string   `json:"node"`
	Status   string   `json:"status"` // online, draining, no-ollama, offline
	Endpoint string   `json:"endpoint"`
	Running  int      `json:"running"`
	Waiting  int      `json:"waiting"`
	Models   []string `json:"models"`
}

func backendState(m *mesh.Member) BackendState {
	s := BackendState{Node: m.Name, Status: "online", Endpoint: m.Peer().String(), Models: []string{}}
	switch {
	case m.Status != mesh.Alive:
		s.Status = "offline"
	case m.Draining():
		s.Status = "draining"
	case !m.Serving():
		s.Status = "no-ollama"
	}
	if m.Load != nil {
		s.Running, s.Waiting = m.Load.Running, m.Load.Waiting
	}
	if m.Card != nil {
		for i := range m.Card.Catalog {
			s.Models = append(s.Models, m.Card.Catalog[i].Name)
		}
	}
	return s
}

// serveHealth answers /health, /health/{node} and /backends with what is true
// now: 200 when it can serve, 503 when not.
func (r *Router) serveHealth(w http.ResponseWriter, req *http.Request) {
	if req.Method != http.MethodGet && req.Method != http.MethodHead {
		writeError(w, wire.Ollama, wire.ErrMethod([]string{http.MethodGet, http.MethodHead}))
		return
	}
	v := r.mesh.View()
	switch path := req.URL.Path; {
	case path == "/health":
		h := HealthOf(v)
		writeJSON(w, statusOf(h.Serves > 0), h)
	case path == "/backends":
		states := []BackendState{}
		for _, m := range v.Members() {
			if m.Status != mesh.Left {
				states = append(states, backendState(m))
			}
		}
		writeJSON(w, http.StatusOK, states)
	default:
		m, ok := v.Lookup(strings.TrimPrefix(path, "/health/"))
		if !ok {
			writeError(w, wire.Ollama, wire.ErrNoRoute())
			return
		}
		writeJSON(w, statusOf(m.Serving()), backendState(m))
	}
}

func statusOf(ok bool) int {
	if ok {
		return http.StatusOK
	}
	return http.StatusServiceUnavailable
}
