package node

import (
	"log/slog"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/backend"
)

// local is the local Ollama as the router sees it. A load that travels on a
// response gets its number from the mesh like one that travels by gossip:
// there is one sequence, or neither could be told the newer.
type local struct {
	*backend.Backend
	mesh *mesh.Mesh
}

// Load is this node's load as of now.
func (l local) Load() *mesh.Load {
	l.mesh.Publish(*l.Backend.Load())
	return l.mesh.Load()
}

// voice tells the mesh what this node can do and how busy it is.
type voice struct {
	mesh *mesh.Mesh
	log  *slog.Logger
}

func (v voice) Announce(c mesh.Card) {
	if err := v.mesh.Announce(c); err != nil {
		v.log.Error("cannot tell the mesh what this node has", "err", err)
	}
}

func (v voice) Publish(l mesh.Load) { v.mesh.Publish(l) }
