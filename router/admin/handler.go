package admin

import (
	"context"
	"encoding/json"
	"net/http"
	"time"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/guard"
)

// Config makes the handler of a node.
type Config struct {
	View    func() *mesh.View
	Cluster string
	// API is the client endpoint, as a URL for people.
	API     string
	Version string
	// Leave begins a graceful stop and returns at once.
	Leave func()
	// Drain asks a member for no new work, or for work again, and returns
	// when the View shows it; nil: the route does not exist.
	Drain func(context.Context, mesh.NodeID, DrainOrder) error
	// Explain says where a request would go, Recorded where one went, and
	// Requests what runs and what has ended; see the methods of router.Router.
	Explain  func(router.Request) router.Explanation
	Recorded func(id string) (router.Record, router.Explanation, bool)
	Requests func(since uint64) (running, ended []router.Record, ends uint64)
	// Checkup says how the node is and, with paths, how it reaches the others;
	// greet are addresses of nodes that are no members. Nil: the route does not
	// exist.
	Checkup func(ctx context.Context, greet []string, paths bool) Checkup
	// Trust rotates keys and evicts nodes; nil: those routes do not exist.
	Trust Trust
}

// Identity is the answer of /mesh/v1/id, the one route open to everybody: by
// it a node notices that its "Ollama" is a kage-mesh.
type Identity struct {
	Product string `json:"product"` // "kage-mesh"
	Version string `json:"version"`
	ID      string `json:"id"`
}

// Handler serves /mesh/v1/ on the client port.
func Handler(c Config) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /mesh/v1/id", func(w http.ResponseWriter, _ *http.Request) {
		id := Identity{Product: "kage-mesh", Version: c.Version}
		if self := c.View().Self(); self != nil {
			id.ID = string(self.ID)
		}
		write(w, http.StatusOK, id)
	})
	local := func(pattern string, h http.HandlerFunc) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, req *http.Request) {
			if !owner(req) {
				write(w, http.StatusForbidden, problem{"the node's own API answers this machine only, or an API key of scope admin"})
				return
			}
			h(w, req)
		})
	}
	local("GET /mesh/v1/members", func(w http.ResponseWriter, _ *http.Request) {
		write(w, http.StatusOK, MembersOf(c.View(), c.Cluster, time.Now()))
	})
	local("GET /mesh/v1/status", func(w http.ResponseWriter, _ *http.Request) {
		write(w, http.StatusOK, StatusOf(c.View(), c.Cluster, c.API, time.Now()))
	})
	local("GET /mesh/v1/explain", c.explain)
	local("GET /mesh/v1/requests", c.requests)
	local("GET /mesh/v1/models", func(w http.ResponseWriter, _ *http.Request) {
		write(w, http.StatusOK, ModelsOf(c.View(), c.Cluster, time.Now()))
	})
	local("POST /mesh/v1/leave", func(w http.ResponseWriter, _ *http.Request) {
		write(w, http.StatusAccepted, struct{}{})
		c.Leave()
	})
	if c.Drain != nil {
		local("POST /mesh/v1/drain", c.drain)
	}
	if c.Checkup != nil {
		local("GET /mesh/v1/checkup", c.checkup)
	}
	if c.Trust != nil {
		trustRoutes(c, local)
	}
	return mux
}

type problem struct {
	Error string `json:"error"`
}

func write(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v)
}

// owner reports whether the caller may do what the node's owner may: the guard
// in front has decided it, or there is none and only this machine counts.
func owner(req *http.Request) bool {
	if c, ok := guard.From(req.Context()); ok {
		return c.Owner
	}
	return router.FromHere(req)
}
