package node

import (
	"log/slog"
	"sync"
	"time"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/backend"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/store"
)

// local is the local Ollama as the router sees it. A load that travels on a
// response gets its number from the mesh like one that travels by gossip:
// there is one sequence, or neither could be told the newer.
type local struct {
	*backend.Backend
	voice voice
}

// Load is this node's load as of now.
func (l local) Load() *mesh.Load {
	l.voice.Publish(*l.Backend.Load())
	return l.voice.mesh.Load()
}

// voice tells the mesh what this node can do and how busy it is.
type voice struct {
	mesh  *mesh.Mesh
	disk  *disk
	cloud bool
	log   *slog.Logger
	// trouble is for how long the node's own failures still speak against it.
	trouble func() time.Duration
}

func (v voice) Announce(c mesh.Card) {
	c.Cloud = v.cloud
	if err := v.mesh.Announce(c); err != nil {
		v.log.Error("cannot tell the mesh what this node has", "err", err)
	}
}

func (v voice) Publish(l mesh.Load) {
	l.FreeDisk = v.disk.free()
	l.Trouble = int((v.trouble() + time.Second - 1) / time.Second)
	v.mesh.Publish(l)
}

// diskEvery is how long a reading of the free disk is good for. A pull at
// 1 Gbit/s takes half a gigabyte meanwhile.
const diskEvery = 5 * time.Second

// disk reads how much room there is for models.
type disk struct {
	dirs []string

	mu    sync.Mutex
	bytes uint64
	at    time.Time
}

func (d *disk) free() uint64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	if now := time.Now(); now.Sub(d.at) >= diskEvery {
		d.bytes, d.at = store.Free(d.dirs), now
	}
	return d.bytes
}
