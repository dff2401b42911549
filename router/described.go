package router

import (
	"sync"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/render"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/wire"
)

// maxDescribed bounds how many models are remembered.
const maxDescribed = 32

// descriptions remember what the local Ollama has said of its models, by their
// digests. When a node dies its answers come in a crowd, and Ollama reads a
// model's whole vocabulary for each question.
type descriptions struct {
	mu     sync.Mutex
	models map[string]*render.Model // by name and digest
}

func (d *descriptions) get(key string) *render.Model {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.models[key]
}

func (d *descriptions) put(key string, m *render.Model) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.models == nil || len(d.models) >= maxDescribed {
		d.models = make(map[string]*render.Model)
	}
	d.models[key] = m
}

// describedKey names a model as this node has it; "" when its digest is not known.
func (r *Router) describedKey(name string) string {
	self := r.mesh.View().Self()
	if self == nil {
		return ""
	}
	h, ok := holder(r.mesh.View(), wire.Canonical(name), self.ID)
	if !ok || h.Model.Digest == "" {
		return ""
	}
	return name + "\x00" + h.Model.Digest
}
