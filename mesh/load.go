package mesh

import "time"

// Load is how busy a node is, as the node itself states it. It travels in
// datagrams to every member, and on every forwarded response and refusal,
// which is fresher. A Load is immutable once published.
type Load struct {
	Node        NodeID `json:"node"`
	Incarnation uint64 `json:"incarnation"` // start of the node's process, Unix ns
	Seq         uint64 `json:"seq"`         // grows by at least one with every report

	Up       bool `json:"up"`                // the local Ollama answers
	Draining bool `json:"draining,omitzero"` // no new work, please
	Foreign  bool `json:"foreign,omitzero"`  // the local Ollama works for somebody outside the mesh

	Running int `json:"running"` // requests that hold a slot
	Waiting int `json:"waiting"` // requests admitted that wait for one

	Written uint64 `json:"written,omitzero"` // tokens written since the node's process started
	// Trouble is for how many seconds more the node's own failures in a row
	// speak against it; 0 it works.
	Trouble int `json:"trouble_seconds,omitzero"`

	FreeVRAM uint64 `json:"free_vram,omitzero"` // bytes, 0 unknown
	FreeRAM  uint64 `json:"free_ram,omitzero"`  // bytes, 0 unknown
	FreeDisk uint64 `json:"free_disk,omitzero"` // bytes in the model store, 0 unknown

	Models  []ModelLoad `json:"models,omitempty"` // resident, waiting or measured; resident first
	Dropped int         `json:"dropped,omitzero"` // models left out of this report for want of room
}

// ModelLoad is the state of one model on a node.
type ModelLoad struct {
	Key      string    `json:"key"`
	Resident bool      `json:"resident,omitzero"` // in memory now
	Loading  bool      `json:"loading,omitzero"`
	Size     uint64    `json:"size,omitzero"`      // bytes in memory
	SizeVRAM uint64    `json:"size_vram,omitzero"` // of these, on the GPU
	Context  int       `json:"context,omitzero"`   // tokens it is loaded with, 0 unknown
	Expires  time.Time `json:"expires_at,omitzero"`

	Slots   int `json:"slots,omitzero"`
	Running int `json:"running,omitzero"`
	Waiting int `json:"waiting,omitzero"`

	// Start is the owner's own estimate of the seconds until a new request of
	// this model could begin, not counting a cold load.
	Start float64 `json:"start,omitzero"`
	// Rate is how many requests per second of the model the node has run of
	// late: who pushes it out of memory keeps so many waiting.
	Rate float64 `json:"rate,omitzero"`

	Decode  float64 `json:"decode,omitzero"`   // tok/s of a lone request, measured; 0 unknown
	Prefill float64 `json:"prefill,omitzero"`  // prompt tok/s, measured; 0 unknown
	Slope   float64 `json:"slope,omitzero"`    // each further request in the batch adds this share to a token's time
	Cold    float64 `json:"cold,omitzero"`     // seconds of a cold load, measured; 0 unknown
	Output  float64 `json:"output,omitzero"`   // mean answer in tokens; 0 unknown
	Samples int     `json:"samples,omitzero"`  // answers behind Decode and Prefill
	Partial bool    `json:"partial,omitempty"` // seen with part of it off the GPU
	Alias   bool    `json:"alias,omitempty"`   // in memory under the name of another model with the same weights
}

// Supersedes reports whether l is newer than o. It is the whole merge rule:
// by (Incarnation, Seq), so that order, loss and duplicates of reports never
// matter. Any report supersedes nil; reports of two different nodes never
// supersede each other.
func (l *Load) Supersedes(o *Load) bool {
	switch {
	case l == nil:
		return false
	case o == nil:
		return true
	case l.Node != o.Node:
		return false
	case l.Incarnation != o.Incarnation:
		return l.Incarnation > o.Incarnation
	}
	return l.Seq > o.Seq
}

// Model returns the state of the model with the canonical name key, or nil.
func (l *Load) Model(key string) *ModelLoad {
	if l == nil {
		return nil
	}
	for i := range l.Models {
		if l.Models[i].Key == key {
			return &l.Models[i]
		}
	}
	return nil
}
