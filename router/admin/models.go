package admin

import (
	"slices"
	"strings"
	"time"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh/hardware"
)

// Models is the answer of /mesh/v1/models: every model on every node that can
// have models.
type Models struct {
	SchemaVersion int         `json:"schema_version"`
	Timestamp     time.Time   `json:"timestamp"`
	Cluster       string      `json:"cluster"`
	Nodes         []ModelNode `json:"nodes"`
	Models        []ModelRow  `json:"models"`
}

// ModelNode is a node that is alive and has an Ollama.
type ModelNode struct {
	Name     string `json:"name"`
	Self     bool   `json:"self"`
	Ollama   string `json:"ollama_version"`
	FreeDisk uint64 `json:"free_disk"` // bytes, 0 unknown
}

// ModelRow is one model. Sizes are bytes.
type ModelRow struct {
	Name     string               `json:"name"`
	Key      string               `json:"key"` // canonical name
	Size     uint64               `json:"size"`
	Digest   string               `json:"digest"`   // of the most lately modified copy
	Mismatch bool                 `json:"mismatch"` // nodes have other digests under this name
	Cloud    bool                 `json:"cloud,omitempty"`
	Embeds   bool                 `json:"embeds,omitempty"` // it makes embeddings and nothing else
	On       map[string]ModelSpot `json:"on"`               // by name, for every node
}

// ModelSpot is a model on a node, or where it could be.
type ModelSpot struct {
	OnDisk   bool           `json:"on_disk"`
	Digest   string         `json:"digest,omitempty"`
	Weights  string         `json:"weights,omitempty"` // digest of the weights, "" unknown
	Modified *time.Time     `json:"modified_at,omitempty"`
	Loaded   bool           `json:"loaded"`
	Fits     hardware.Class `json:"fits"` // how it would run there
	Differs  bool           `json:"differs,omitempty"`
}

// ModelsOf lists a View's models by name.
func ModelsOf(v *mesh.View, cluster string, now time.Time) Models {
	out := Models{
		SchemaVersion: SchemaVersion, Timestamp: now.UTC(), Cluster: cluster,
		Nodes: []ModelNode{}, Models: []ModelRow{},
	}
	var members []*mesh.Member
	for _, m := range v.Members() {
		if !m.Serving() && (m.Status != mesh.Alive || !m.Draining() || m.Card == nil) {
			continue
		}
		members = append(members, m)
	}
	slices.SortFunc(members, func(a, b *mesh.Member) int { return strings.Compare(a.Name, b.Name) })
	for _, m := range members {
		n := ModelNode{Name: m.Name, Self: m.Self, Ollama: m.Info.Ollama}
		if m.Load != nil {
			n.FreeDisk = m.Load.FreeDisk
		}
		out.Nodes = append(out.Nodes, n)
	}
	for _, key := range v.Models() {
		if row, ok := rowOf(v.Holders(key), members); ok {
			out.Models = append(out.Models, row)
		}
	}
	return out
}

func rowOf(holders []mesh.Holder, members []*mesh.Member) (ModelRow, bool) {
	var newest *mesh.Model
	for _, h := range holders {
		if slices.Contains(members, h.Member) && (newest == nil || h.Model.Modified.After(newest.Modified)) {
			newest = h.Model
		}
	}
	if newest == nil {
		return ModelRow{}, false
	}
	row := ModelRow{
		Name: newest.Name, Key: newest.Key, Size: newest.Size, Digest: newest.Digest,
		Cloud:  newest.Remote != "",
		Embeds: slices.Contains(newest.Capabilities, "embedding") && !slices.Contains(newest.Capabilities, "completion"),
		On:     make(map[string]ModelSpot, len(members)),
	}
	for _, m := range members {
		spot := spotOf(m, newest)
		row.Mismatch = row.Mismatch || spot.Differs
		row.On[m.Name] = spot
	}
	return row, true
}

func spotOf(m *mesh.Member, newest *mesh.Model) ModelSpot {
	var spot ModelSpot
	model := m.Card.Catalog.Find(newest.Key)
	if model == nil {
		model = newest
	} else {
		spot.OnDisk, spot.Digest, spot.Weights, spot.Modified = true, model.Digest, model.Blob, &model.Modified
		spot.Differs = model.Digest != newest.Digest
	}
	if model.Remote == "" {
		spot.Fits, _ = m.Card.Hardware.CouldRun(model.Need(0, m.Parallel()))
	}
	if l := m.Load.Model(newest.Key); l != nil {
		spot.Loaded = l.Resident
	}
	return spot
}
