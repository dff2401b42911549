package router

import (
	"bytes"
	"encoding/json"
	"net/http"
	"sync"
	"time"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/wire"
)

// A model is created from blobs that were uploaded before, in requests that do
// not say what they are for. So all of a client's uploads go to one node, and
// its create follows them there.

// pinFor is how long a client's uploads and its create go to the same node
// after its last request.
const pinFor = 10 * time.Minute

// maxPins bounds the clients that are remembered.
const maxPins = 1024

type pin struct {
	node  mesh.NodeID
	until time.Time
}

type pins struct {
	mu      sync.Mutex
	clients map[string]pin
}

func newPins() *pins { return &pins{clients: make(map[string]pin)} }

func (p *pins) get(client string, now time.Time) (mesh.NodeID, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	one, ok := p.clients[client]
	return one.node, ok && now.Before(one.until)
}

func (p *pins) set(client string, node mesh.NodeID, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.clients) >= maxPins {
		for c, one := range p.clients {
			if !now.Before(one.until) {
				delete(p.clients, c)
			}
		}
		if len(p.clients) >= maxPins {
			clear(p.clients) // uploads are checked for before each create
		}
	}
	p.clients[client] = pin{node, now.Add(pinFor)}
}

// workshop is the node where a client's models are created: the one it named,
// the one that has its uploads, a holder of the model that it starts from, this
// node, or the one with the most room.
func (r *Router) workshop(o *errand, from string) (*mesh.Member, *wire.Error) {
	v := r.mesh.View()
	if o.where != "" {
		named, werr := named(v, o.where)
		if werr != nil {
			return nil, werr
		}
		if len(named) != 1 {
			return nil, wire.ErrBadRequest("a model is created on one node: name one")
		}
		r.pins.set(o.client, named[0].ID, time.Now())
		return named[0], nil
	}
	if id, ok := r.pins.get(o.client, time.Now()); ok {
		if m, ok := v.Member(id); ok && m.Serving() && (from == "" || holds(m, from)) {
			r.pins.set(o.client, id, time.Now())
			return m, nil
		}
	}
	var best *mesh.Member
	for _, m := range v.Members() {
		if !m.Serving() || from != "" && len(v.Holders(from)) > 0 && !holds(m, from) {
			continue
		}
		if best == nil || m.Self || !best.Self && freeDisk(m) > freeDisk(best) {
			best = m
		}
	}
	if best == nil {
		return nil, wire.ErrNoNode("", "no node has a running Ollama", retrySoon)
	}
	r.pins.set(o.client, best.ID, time.Now())
	return best, nil
}

func holds(m *mesh.Member, key string) bool {
	return m.Card != nil && m.Card.Catalog.Find(key) != nil
}

func (r *Router) serveBlob(w http.ResponseWriter, req *http.Request, o *errand) {
	m, werr := r.workshop(o, "")
	if werr != nil {
		writeError(w, wire.Ollama, werr)
		return
	}
	// Uploads are as large as models: they flow through, encoded as they are.
	if e := req.Header.Get("Content-Encoding"); e != "" {
		o.header.Set("Content-Encoding", e)
	}
	r.relayFrom(w, req.Context(), m, o, req.Body, req.ContentLength)
}

func (r *Router) serveCreate(w http.ResponseWriter, req *http.Request, o *errand) {
	var body struct {
		From     string            `json:"from"`
		Files    map[string]string `json:"files"`
		Adapters map[string]string `json:"adapters"`
	}
	_ = json.Unmarshal(o.body, &body) // what is wrong with it is for Ollama to say
	from := ""
	if body.From != "" && len(body.Files)+len(body.Adapters) == 0 {
		from = wire.Canonical(body.From)
	}
	m, werr := r.workshop(o, from)
	if werr != nil {
		writeError(w, wire.Ollama, werr)
		return
	}
	r.relayFrom(w, req.Context(), m, o, bytes.NewReader(o.body), int64(len(o.body)))
}
