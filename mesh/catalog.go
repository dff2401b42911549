package mesh

import (
	"encoding/json"
	"time"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh/hardware"
)

// Model is one model on a node's disk. Sizes are true bytes from the node's
// own Ollama, never guessed from the name.
type Model struct {
	Key      string    `json:"key"`  // canonical name: equal for all spellings of one model
	Name     string    `json:"name"` // as the node's Ollama lists it
	Digest   string    `json:"digest"`
	Blob     string    `json:"blob,omitzero"` // digest of the weights; aliases of one blob share a runner
	Size     uint64    `json:"size"`          // bytes on disk
	Modified time.Time `json:"modified_at"`

	ParameterSize string   `json:"parameter_size,omitzero"`
	Quantization  string   `json:"quantization,omitzero"`
	Capabilities  []string `json:"capabilities,omitempty"`

	// Shape of the KV cache, from /api/show; 0 unknown.
	Layers        int `json:"layers,omitzero"`
	KVHeads       int `json:"kv_heads,omitzero"`
	HeadDim       int `json:"head_dim,omitzero"`
	ContextLength int `json:"context_length,omitzero"` // trained context, tokens
	NumCtx        int `json:"num_ctx,omitzero"`        // num_ctx set by the model's own parameters, 0 none

	// Remote is set for models that run at somebody's cloud account: they are
	// listed, but they are no capacity of this mesh.
	Remote string `json:"remote,omitzero"`

	// Tag is the entry of /api/tags as the node's Ollama wrote it, so that the
	// merged listing keeps fields that we do not read.
	Tag json.RawMessage `json:"tag,omitempty"`
}

// Need is the memory that m takes with a context of ctx tokens (0: the model's
// own num_ctx, else 4096) for parallel requests at once.
func (m *Model) Need(ctx, parallel int) hardware.Need {
	if ctx == 0 {
		ctx = m.NumCtx
	}
	if ctx == 0 {
		ctx = 4096
	}
	if m.ContextLength > 0 && ctx > m.ContextLength {
		ctx = m.ContextLength // Ollama caps num_ctx to the trained context
	}
	return hardware.Need{
		Weights: m.Size, Layers: m.Layers, KVHeads: m.KVHeads, HeadDim: m.HeadDim,
		Context: ctx, Parallel: max(parallel, 1), KVBytes: 2,
	}
}

// Catalog lists the models on a node's disk, sorted by Key. Immutable once
// published.
type Catalog []Model

// Find returns the model with the canonical name key, or nil.
func (c Catalog) Find(key string) *Model {
	for i := range c {
		if c[i].Key == key {
			return &c[i]
		}
	}
	return nil
}
