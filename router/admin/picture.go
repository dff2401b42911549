package admin

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh"
)

// Picture is the whole mesh at one moment, as the page draws it: what Members
// and Status say, with what each model takes in memory, and without the
// hardware in detail. It holds no time of its own, so that two Pictures of an
// unchanged mesh are equal byte for byte.
type Picture struct {
	SchemaVersion int             `json:"schema_version"`
	Cluster       string          `json:"cluster"`
	Version       string          `json:"version"`
	Endpoint      string          `json:"endpoint"`
	Self          string          `json:"self"` // name of the node that answers
	Health        string          `json:"health"`
	Inference72B  string          `json:"inference_72b"`
	Members       []PictureMember `json:"members"`
	Models        []PictureModel  `json:"models"` // of all nodes, by name
}

// PictureMember is one node in a Picture.
type PictureMember struct {
	Member
	// Serving says that it takes new requests.
	Serving bool `json:"serving"`
	// Silent is for how many seconds nothing was heard of a node that counts
	// as alive, 0 below silentAfter: it is drawn as stale before membership
	// gives it up.
	Silent int `json:"silent_s"`
	// Held is what it has in memory or loads, largest first.
	Held []HeldModel `json:"held"`
	// Models are indexes into Picture.Models: what it has on disk.
	Models []int `json:"models"`
}

// HeldModel is one model in a node's memory. Sizes are bytes.
type HeldModel struct {
	Name     string  `json:"name"`
	Size     uint64  `json:"size"`      // in all
	SizeVRAM uint64  `json:"size_vram"` // of these, on the GPU
	Loading  bool    `json:"loading,omitzero"`
	Running  int     `json:"in_flight"`
	Waiting  int     `json:"waiting"`
	Context  int     `json:"context,omitzero"` // tokens
	Rate     float64 `json:"tokens_per_second,omitzero"`
}

// PictureModel is a model that some node has on disk.
type PictureModel struct {
	Name  string `json:"name"`
	Size  uint64 `json:"size"` // bytes on disk
	Cloud bool   `json:"cloud,omitzero"`
}

// silentAfter is when a node that membership holds for alive is called silent.
// Nodes report four times a second in small meshes and every 2 s at 200, so
// that this is at least two reports missed.
const silentAfter = 5 * time.Second

// PictureOf draws a View. now is for Silent alone.
func PictureOf(v *mesh.View, cluster, endpoint, version string, now time.Time) Picture {
	status := StatusOf(v, cluster, endpoint, now)
	p := Picture{
		SchemaVersion: SchemaVersion, Cluster: cluster, Version: version, Endpoint: endpoint,
		Health: status.Health, Inference72B: status.Inference72B,
		Members: []PictureMember{}, Models: []PictureModel{},
	}
	index := p.list(v)
	for _, m := range v.Members() {
		if m.Self {
			p.Self = m.Name
		}
		p.Members = append(p.Members, pictureMember(m, index, now))
	}
	slices.SortStableFunc(p.Members, func(a, b PictureMember) int { return strings.Compare(a.Name, b.Name) })
	return p
}

// list fills in the models and returns their places by key.
func (p *Picture) list(v *mesh.View) map[string]int {
	models := map[string]PictureModel{}
	for _, m := range v.Members() {
		if m.Card == nil || m.Status == mesh.Left {
			continue
		}
		for i := range m.Card.Catalog {
			model := &m.Card.Catalog[i]
			if _, ok := models[model.Key]; !ok {
				models[model.Key] = PictureModel{Name: model.Name, Size: model.Size, Cloud: model.Remote != ""}
			}
		}
	}
	keys := make([]string, 0, len(models))
	for key := range models {
		keys = append(keys, key)
	}
	slices.SortFunc(keys, func(a, b string) int {
		return cmp.Or(strings.Compare(models[a].Name, models[b].Name), strings.Compare(a, b))
	})
	index := make(map[string]int, len(keys))
	for i, key := range keys {
		index[key] = i
		p.Models = append(p.Models, models[key])
	}
	return index
}

func pictureMember(m *mesh.Member, index map[string]int, now time.Time) PictureMember {
	out := PictureMember{Member: memberOf(m), Serving: m.Serving(), Held: []HeldModel{}, Models: []int{}}
	out.Hardware, out.Member.Models = nil, nil
	if m.Status == mesh.Alive && !m.Self && !m.Heard.IsZero() {
		if silent := now.Sub(m.Heard); silent >= silentAfter {
			out.Silent = int(silent.Seconds())
		}
	}
	if m.Card != nil {
		for i := range m.Card.Catalog {
			if at, ok := index[m.Card.Catalog[i].Key]; ok {
				out.Models = append(out.Models, at)
			}
		}
	}
	if m.Load != nil && m.Status == mesh.Alive {
		out.Held = held(m)
	}
	return out
}

func held(m *mesh.Member) []HeldModel {
	out := []HeldModel{}
	for i := range m.Load.Models {
		l := &m.Load.Models[i]
		if !l.Resident && !l.Loading {
			continue
		}
		name := l.Key
		if m.Card != nil {
			if known := m.Card.Catalog.Find(l.Key); known != nil {
				name = known.Name
			}
		}
		out = append(out, HeldModel{
			Name: name, Size: l.Size, SizeVRAM: l.SizeVRAM, Loading: l.Loading,
			Running: l.Running, Waiting: l.Waiting, Context: l.Context, Rate: l.Decode,
		})
	}
	slices.SortStableFunc(out, func(a, b HeldModel) int {
		return cmp.Or(cmp.Compare(b.Size, a.Size), strings.Compare(a.Name, b.Name))
	})
	return out
}
