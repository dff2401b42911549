package router

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
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
	// Life ends when Ollama answers nothing any more, though connections to it
	// stand: who waits for an answer's head should wait elsewhere.
	Life() context.Context
}

// Disk is what the router needs to manage the models of the local Ollama;
// *backend.Backend is one.
type Disk interface {
	// Refresh looks at everything now and returns when State shows it.
	Refresh(context.Context) error
	// State is what is known of Ollama; never nil.
	State() *backend.State
}

// Peering copies models between nodes; *registry.Registry is one.
type Peering interface {
	// Offer makes the model called name, as node holds it with the digest
	// given, available to the local Ollama's own pull under a temporary name
	// of this machine. withdraw ends that.
	Offer(node mesh.NodeID, name, digest string) (temporary string, withdraw func())
	// Offered reports whether a temporary name is in use now.
	Offered(temporary string) bool
}

// Config makes a Router.
type Config struct {
	Mesh    Mesh
	Backend Backend
	// Peers carries forwards to https://<node id>/...; it verifies that the
	// node that answers is the one named.
	Peers http.RoundTripper
	// Pulse asks a node for a sign of life, beside the connections that Peers
	// uses; nil: a silent answer is waited for until StreamIdle.
	Pulse func(context.Context, mesh.NodeID) error
	// Admin serves /mesh/ on the client port; nil: 404.
	Admin http.Handler
	// Disk is for management; nil: this node's models cannot be managed.
	Disk Disk
	// Await waits until ok of the view, so that a change is in the listings
	// when the call that made it returns; nil: it does not wait.
	Await func(ctx context.Context, ok func(*mesh.View) bool) (*mesh.View, error)
	// Peering lets a pull take a model from another node; nil: it never does.
	Peering Peering
	// Sizes tells the bytes of a model that no node has, to place a pull by;
	// nil: they are unknown.
	Sizes func(ctx context.Context, name string) (uint64, error)
	// Cloud lets other nodes' callers use this node's account at ollama.com.
	Cloud bool
	// Metrics serves /metrics on the client port; nil: 404.
	Metrics http.Handler
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
	// Done, if set, gets the record of every request of a client when it has
	// ended, from the goroutine that served it. It must not block.
	Done func(Record)
	// Tracer follows requests as spans; nil: nobody does, at no cost.
	Tracer Tracer
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
	c.Policy = eligible(c.Policy)
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
	ledger  *Ledger
	pins    *pins
	talks   conversations
	warm    warmth
	pulls   *pulls
	log     *slog.Logger
	born    time.Time

	budget    budget
	continued continued
	lent      leases  // what other nodes have running here
	tickets   tickets // what they sent that waits here
	guests    leases  // what clients have running, here or elsewhere
	handing   atomic.Bool
	tells     tells
	described descriptions
	journal   *journal
	pulses    pulses
	lives     lives // of the local Ollama
	report    report
	heard     reports
	maxBody   atomic.Int64 // bytes, see Config.MaxBody
}

// New checks c and makes a Router.
func New(c Config) (*Router, error) {
	if err := c.validate(); err != nil {
		return nil, err
	}
	log := c.Logger.With("component", "router")
	r := &Router{
		config: c, mesh: c.Mesh, backend: c.Backend, peers: c.Peers,
		ledger: NewLedger(), pins: newPins(), pulls: newPulls(), log: log,
		journal: newJournal(log, c.Done), born: time.Now(),
	}
	r.maxBody.Store(c.MaxBody)
	return r, nil
}

// SetMaxBody changes the bound of request bodies from now on; n is bytes, above
// 0.
func (r *Router) SetMaxBody(n int64) { r.maxBody.Store(n) }

// Snapshot is what Select would look at for q right now.
func (r *Router) Snapshot(q Request) Snapshot {
	v := r.mesh.View()
	now := time.Now()
	return Snapshot{
		View: v, Now: now,
		Outstanding: r.ledger.Outstanding(v),
		Trouble:     r.ledger.Troubles(v, now),
		Cached:      r.warm.cached(&q, v),
		Seed:        cmp.Or(q.Conversation, seed(q.ID)),
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
