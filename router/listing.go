package router

import (
	"encoding/json"
	"slices"
	"time"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh"
)

// tagList is the answer of /api/tags: each model once, newest first, with the
// entry as its holder's Ollama wrote it.
type tagList struct {
	Models []json.RawMessage `json:"models"`
}

func tags(v *mesh.View, own bool) tagList {
	models := newest(v, own)
	out := tagList{Models: make([]json.RawMessage, 0, len(models))}
	for _, l := range models {
		out.Models = append(out.Models, withPlaces(tagEntry(l.Model), l.places()))
	}
	return out
}

// listed is one model of the mesh: its most lately modified copy, and where
// all copies are.
type listed struct {
	*mesh.Model
	holders []mesh.Holder
}

// newest lists each model of the mesh once, in Ollama's own order: the most
// lately modified first. Models that run at ollama.com are listed where the
// caller may use them; own says that it is on this machine.
func newest(v *mesh.View, own bool) []listed {
	var models []listed
	for _, key := range v.Models() {
		l := listed{}
		for _, h := range v.Holders(key) {
			if h.Model.Remote != "" && !cloudOpen(h.Member, own) {
				continue
			}
			l.holders = append(l.holders, h)
			if l.Model == nil || h.Model.Modified.After(l.Modified) {
				l.Model = h.Model
			}
		}
		if l.Model != nil {
			models = append(models, l)
		}
	}
	slices.SortStableFunc(models, func(a, b listed) int { return b.Modified.Compare(a.Modified) })
	return models
}

// places is the member "kage" of a listing's entry, which clients of Ollama
// pass over: the nodes that hold the model, and each node's digest where they
// are not all the same.
type places struct {
	Nodes   []string          `json:"nodes"`
	Digests map[string]string `json:"digests,omitempty"`
}

func (l listed) places() places {
	p := places{Nodes: make([]string, 0, len(l.holders))}
	differ := false
	for _, h := range l.holders {
		p.Nodes = append(p.Nodes, h.Member.Name)
		differ = differ || h.Model.Digest != l.Digest
	}
	slices.Sort(p.Nodes)
	if differ {
		p.Digests = make(map[string]string, len(l.holders))
		for _, h := range l.holders {
			p.Digests[h.Member.Name] = h.Model.Digest
		}
	}
	return p
}

// withPlaces adds the member to an entry as its holder's Ollama wrote it.
func withPlaces(entry json.RawMessage, p places) json.RawMessage {
	extra, err := json.Marshal(p)
	if err != nil || len(entry) < 2 || entry[len(entry)-1] != '}' {
		return entry
	}
	out := make(json.RawMessage, 0, len(entry)+len(extra)+16)
	out = append(out, entry[:len(entry)-1]...)
	if len(entry) > 2 {
		out = append(out, ',')
	}
	out = append(out, `"kage":`...)
	return append(append(out, extra...), '}')
}

func tagEntry(m *mesh.Model) json.RawMessage {
	if len(m.Tag) > 0 {
		return m.Tag
	}
	entry, err := json.Marshal(tagFields(m))
	if err != nil {
		return json.RawMessage("{}") // cannot happen: plain values only
	}
	return entry
}

func tagFields(m *mesh.Model) map[string]any {
	return map[string]any{
		"name": m.Name, "model": m.Name, "modified_at": m.Modified, "size": m.Size, "digest": m.Digest,
		"details": map[string]any{"parameter_size": m.ParameterSize, "quantization_level": m.Quantization},
	}
}

// runner is one entry of /api/ps: a model in a node's memory.
type runner struct {
	Name      string          `json:"name"`
	Model     string          `json:"model"`
	Size      uint64          `json:"size"`
	Digest    string          `json:"digest"`
	Details   json.RawMessage `json:"details"`
	ExpiresAt time.Time       `json:"expires_at"`
	SizeVRAM  uint64          `json:"size_vram"`
	Context   int             `json:"context_length,omitempty"`
	Node      string          `json:"node"`
}

type runnerList struct {
	Models []runner `json:"models"`
}

// running lists what is in memory over the mesh; a model that several nodes
// hold stands there once for each.
func running(v *mesh.View) runnerList {
	out := runnerList{Models: []runner{}}
	for _, m := range v.Members() {
		if m.Status != mesh.Alive || m.Load == nil || m.Card == nil {
			continue
		}
		for _, l := range m.Load.Models {
			model := m.Card.Catalog.Find(l.Key)
			if !l.Resident || l.Alias || model == nil {
				continue // Ollama lists a runner once, by the name it was loaded for
			}
			out.Models = append(out.Models, runner{
				Name: model.Name, Model: model.Name, Size: l.Size, Digest: model.Digest,
				Details: details(model), ExpiresAt: l.Expires, SizeVRAM: l.SizeVRAM,
				Context: l.Context, Node: m.Name,
			})
		}
	}
	slices.SortStableFunc(out.Models, func(a, b runner) int { return b.ExpiresAt.Compare(a.ExpiresAt) })
	return out
}

// details is the details object of a model's listing.
func details(m *mesh.Model) json.RawMessage {
	var entry struct {
		Details json.RawMessage `json:"details"`
	}
	if json.Unmarshal(tagEntry(m), &entry) != nil || entry.Details == nil {
		return json.RawMessage("{}")
	}
	return entry.Details
}
