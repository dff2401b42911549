package backend

import (
	"slices"
	"strings"
	"time"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh"
)

// State is what is known of the local Ollama at one moment. It is immutable
// once published; a change makes a new one.
type State struct {
	Up      bool
	Err     error     // why it is not up; nil before the first look
	Since   time.Time // when Up last changed
	Version string    // "" when not up

	// Catalog is what is on disk, sorted by Key; Listed says that it has been
	// read, so that a model missing from it is truly missing. Both outlive an
	// outage: the disk does.
	Catalog mesh.Catalog
	Listed  bool

	// Resident is what is in memory, empty when not up. Polled is when the
	// question was asked that this is the answer to: whatever happened after
	// it, Resident does not know.
	Resident []Resident
	Polled   time.Time

	families map[string]string // weights digest or key -> family
}

// Resident is one entry of /api/ps: a runner in memory, under the name of the
// model that it was loaded for. A runner that is still loading may be listed.
type Resident struct {
	Key      string // canonical name
	Name     string // as Ollama lists it
	Digest   string
	Size     uint64    // bytes in memory
	SizeVRAM uint64    // of these, on the GPU
	Context  int       // tokens per slot, 0 unknown (Ollama before 0.10)
	Expires  time.Time // when it is unloaded if nothing uses it
}

// Model returns the model on disk with the canonical name key, or nil.
func (s *State) Model(key string) *mesh.Model {
	if s == nil {
		return nil
	}
	return s.Catalog.Find(key)
}

// Runner names the runner that serves the model: the digest of its weights,
// else its canonical name. Ollama keys its runners by the weights' file, so two
// names of one file share a runner, and /api/ps shows only the name that was
// loaded first.
func (s *State) Runner(key string) string {
	if m := s.Model(key); m != nil && m.Blob != "" {
		return m.Blob
	}
	return key
}

// InMemory returns the runner that serves the model if it is in memory, or nil.
func (s *State) InMemory(key string) *Resident {
	if s == nil {
		return nil
	}
	runner := s.Runner(key)
	for i := range s.Resident {
		if s.Resident[i].Key == key || s.Runner(s.Resident[i].Key) == runner {
			return &s.Resident[i]
		}
	}
	return nil
}

// oneSlot lists the families that Ollama runs one request at a time of,
// whatever OLLAMA_NUM_PARALLEL says (server/sched.go of v0.33).
var oneSlot = []string{"mllama", "qwen3vl", "qwen35", "qwen3next", "lfm2", "nemotron_h"}

// Slots is how many requests Ollama runs at once of the model, of parallel that
// it runs of an ordinary one. Embedding models and some families have one slot.
func (s *State) Slots(key string, parallel int) int {
	m := s.Model(key)
	if m == nil {
		return max(parallel, 1)
	}
	if slices.Contains(m.Capabilities, "embedding") && !slices.Contains(m.Capabilities, "completion") {
		return 1
	}
	family := s.families[s.Runner(key)]
	for _, f := range oneSlot {
		if strings.HasPrefix(family, f) {
			return 1
		}
	}
	return max(parallel, 1)
}

// ParallelOf is what OLLAMA_NUM_PARALLEL amounts to where nobody set it, by
// Ollama's version: 1 from 0.11 on (read in the source of 0.11.4 and 0.33) and
// for versions that cannot be read, as self-built servers say "0.0.0"; 2
// before, where "auto" meant 2 on the CPU (measured with 0.9.6) and 2 on a GPU
// if the cache fits. Ollama does not tell over its API. Guessing too few
// wastes some batching; guessing too many lets a request wait inside Ollama,
// from where it cannot move.
func ParallelOf(version string) int {
	major, rest, _ := strings.Cut(strings.TrimPrefix(version, "v"), ".")
	minor, _, found := strings.Cut(rest, ".")
	if !found || major != "0" || version == "0.0.0" {
		return 1
	}
	if n := decimal(minor); n >= 0 && n < 11 {
		return 2
	}
	return 1
}

// decimal reads a small number, -1 if s is none.
func decimal(s string) int {
	if s == "" || len(s) > 6 {
		return -1
	}
	n := 0
	for _, c := range []byte(s) {
		if c < '0' || c > '9' {
			return -1
		}
		n = n*10 + int(c-'0')
	}
	return n
}

func sortCatalog(c mesh.Catalog) {
	slices.SortFunc(c, func(a, b mesh.Model) int { return strings.Compare(a.Key, b.Key) })
}
