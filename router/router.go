package router

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/backend"
)

// Mesh is what the router needs of membership; *mesh.Mesh is one.
type Mesh interface {
	// View is the newest picture of all members.
	View() *mesh.View
	// Observe takes a load that came with an answer of that very member; nil
	// is ignored.
	Observe(mesh.NodeID, *mesh.Load)
}

// Backend is what the router needs of the local Ollama; *backend.Backend is
// one.
type Backend interface {
	// Enter admits work at the gate. err != nil: the caller owns nothing.
	Enter(context.Context, backend.Work) (leave func(backend.Usage), err error)
	// Do sends a request, whose URL is a path, to the local Ollama.
	Do(*http.Request) (*http.Response, error)
	// Progress counts the chunks of a running request.
	Progress(id string, chunks int)
	// Poke asks for a fresh look at Ollama, because it did not behave as known.
	Poke()
	// Load is this node's own load, as of now.
	Load() *mesh.Load
}

// Config makes a Router.
type Config struct {
	Mesh    Mesh
	Backend Backend
	// Peers carries forwards to https://<node id>/...; it verifies that the
	// node that answers is the one named.
	Peers http.RoundTripper
	// Admin serves /mesh/ on the client port; nil: 404.
	Admin http.Handler
	// Policy orders candidates; nil: Select.
	Policy Policy
	// MaxBody bounds a request body, bytes, also after decompression. Default
	// 64 MiB: a chat with several images.
	MaxBody int64
	// StreamIdle is the longest silence between two pieces of an answer.
	// Default 120 s, longer than any token of a model that is still useful.
	StreamIdle time.Duration
	// NoContinue ends an answer whose owner is lost in an error, in place of
	// continuing it elsewhere. It is for the clients of this node; what other
	// nodes ask of it is not concerned.
	NoContinue bool
	// Version of kage-mesh, for people.
	Version string
	Logger  *slog.Logger
}

func (c *Config) validate() error {
	if c.Mesh == nil || c.Backend == nil || c.Peers == nil {
		return errors.New("router: config needs Mesh, Backend and Peers")
	}
	if c.Policy == nil {
		c.Policy = Select
	}
	if c.MaxBody == 0 {
		c.MaxBody = 64 << 20
	}
	if c.StreamIdle == 0 {
		c.StreamIdle = 120 * time.Second
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return nil
}

// Router forwards requests. It starts no goroutine that outlives a request.
type Router struct {
	config  Config
	mesh    Mesh
	backend Backend
	peers   http.RoundTripper
	ledger  *ledger
	log     *slog.Logger

	budget    budget
	continued continued
	tells     tells
}

// New checks c and makes a Router.
func New(c Config) (*Router, error) {
	if err := c.validate(); err != nil {
		return nil, err
	}
	return &Router{
		config: c, mesh: c.Mesh, backend: c.Backend, peers: c.Peers,
		ledger: newLedger(), log: c.Logger.With("component", "router"),
	}, nil
}

// Snapshot is what Select would look at for q right now.
func (r *Router) Snapshot(q Request) Snapshot {
	v := r.mesh.View()
	now := time.Now()
	return Snapshot{
		View: v, Now: now,
		Outstanding: r.ledger.outstanding(v),
		Trouble:     r.ledger.troubles(v, now),
		Seed:        seed(q.ID),
	}
}

// seed draws the choice among near ties from the request's id (FNV-1a), so
// that a request explains itself again later.
func seed(id string) uint64 {
	h := uint64(14695981039346656037)
	for i := range len(id) {
		h = (h ^ uint64(id[i])) * 1099511628211
	}
	return h
}

// bufferPool holds the buffers that answers are copied through.
var bufferPool = sync.Pool{New: func() any {
	b := make([]byte, 32<<10)
	return &b
}}
