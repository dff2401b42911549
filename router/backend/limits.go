package backend

import (
	"cmp"
	"time"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh"
)

// Defaults of [Limits].
const (
	// DefaultQueue is how many requests may wait on a node: as many as Ollama
	// itself lets wait (OLLAMA_MAX_QUEUE) before it says 503, or a mesh would
	// refuse what one Ollama takes. Where a request waits is for the estimates
	// and for moves between queues, not for this bound.
	DefaultQueue = 512
	// DefaultMaxLoaded is OLLAMA_MAX_LOADED_MODELS where nobody set it: three
	// per GPU, and the CPU counts as one.
	DefaultMaxLoaded = 3
	// leastPatience is how long a request whose model must be loaded lets
	// others pass in any case; see board.claim. Twice its cold load if that is
	// more: then loading and unloading take at most about half of the time.
	leastPatience = 5 * time.Second
)

// Limits is what the gate may use of Ollama.
type Limits struct {
	Parallel  int // OLLAMA_NUM_PARALLEL; 0: by Ollama's version, see ParallelOf
	MaxLoaded int // OLLAMA_MAX_LOADED_MODELS; 0: DefaultMaxLoaded
	Queue     int // requests that may wait; 0: DefaultQueue

	// Memory is how many bytes loaded models may fill at once; 0 is unknown,
	// and then memory is never a reason to wait.
	Memory uint64

	// Speed is how fast a model runs here; m is nil for a model that the
	// catalog does not know. Nil: everything is guessed.
	Speed func(key string, m *mesh.Model) Speed
}

func (l Limits) withDefaults() Limits {
	l.MaxLoaded = cmp.Or(max(l.MaxLoaded, 0), DefaultMaxLoaded)
	l.Queue = cmp.Or(max(l.Queue, 0), DefaultQueue)
	return l
}
