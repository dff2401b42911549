package router

import (
	"encoding/json"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/wire"
)

// serveRead answers what any node knows from its own view, without asking
// anybody.
func (r *Router) serveRead(w http.ResponseWriter, route wire.Route) {
	v := r.mesh.View()
	switch route.Kind {
	case wire.Root:
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_, _ = w.Write([]byte("Ollama is running"))
	case wire.Version:
		writeJSON(w, http.StatusOK, map[string]string{"version": lowestVersion(v)})
	case wire.Tags:
		writeJSON(w, http.StatusOK, tags(v))
	case wire.Ps:
		writeJSON(w, http.StatusOK, running(v))
	case wire.V1Models:
		writeJSON(w, http.StatusOK, v1Models(v))
	case wire.V1Model:
		r.serveV1Model(w, route, v)
	default:
		writeError(w, route.Kind.Dialect(), &wire.Error{
			Status:  http.StatusNotImplemented,
			Message: "kage-mesh does not pass " + route.Path + " on; run it against the Ollama of the node that you mean",
		})
	}
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	body, err := json.Marshal(v)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "application/json; charset=utf-8")
	h.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	_, _ = w.Write(body)
}

// tagList is the answer of /api/tags: each model once, newest first, with the
// entry as its holder's Ollama wrote it.
type tagList struct {
	Models []json.RawMessage `json:"models"`
}

func tags(v *mesh.View) tagList {
	models := newest(v)
	out := tagList{Models: make([]json.RawMessage, 0, len(models))}
	for _, m := range models {
		out.Models = append(out.Models, tagEntry(m))
	}
	return out
}

// newest lists each model of the mesh once, the most lately modified copy of
// it, in Ollama's own order: newest first.
func newest(v *mesh.View) []*mesh.Model {
	var models []*mesh.Model
	for _, key := range v.Models() {
		var best *mesh.Model
		for _, h := range v.Holders(key) {
			if best == nil || h.Model.Modified.After(best.Modified) {
				best = h.Model
			}
		}
		models = append(models, best)
	}
	slices.SortStableFunc(models, func(a, b *mesh.Model) int { return b.Modified.Compare(a.Modified) })
	return models
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
			if !l.Resident || model == nil {
				continue
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

// v1Model is one entry of /v1/models.
type v1Model struct {
	ID      string `json:"id"`
	Object  string `json:"object"`
	Created int64  `json:"created"`
	OwnedBy string `json:"owned_by"`
}

type v1ModelList struct {
	Object string    `json:"object"`
	Data   []v1Model `json:"data"`
}

func v1Models(v *mesh.View) v1ModelList {
	out := v1ModelList{Object: "list", Data: []v1Model{}}
	for _, m := range newest(v) {
		out.Data = append(out.Data, v1ModelOf(m, m.Name))
	}
	return out
}

func v1ModelOf(m *mesh.Model, id string) v1Model {
	owner := "library"
	if i := strings.LastIndexByte(m.Name, '/'); i >= 0 {
		owner = m.Name[:i]
	}
	return v1Model{ID: id, Object: "model", Created: m.Modified.Unix(), OwnedBy: owner}
}

func (r *Router) serveV1Model(w http.ResponseWriter, route wire.Route, v *mesh.View) {
	name := route.Param
	holders := v.Holders(wire.Canonical(name))
	if len(holders) == 0 {
		writeError(w, wire.OpenAI, wire.ErrModelNotFound(wire.V1Model, name, hints(name, v)))
		return
	}
	writeJSON(w, http.StatusOK, v1ModelOf(holders[0].Model, name))
}

// lowestVersion is the oldest Ollama of the mesh: what a client may count on
// at every node. "0.0.0" when there is none, as of a build without version.
func lowestVersion(v *mesh.View) string {
	lowest := ""
	for _, m := range v.Members() {
		if m.Status != mesh.Alive || m.Info.Ollama == "" {
			continue
		}
		if lowest == "" || compareVersions(m.Info.Ollama, lowest) < 0 {
			lowest = m.Info.Ollama
		}
	}
	if lowest == "" {
		return "0.0.0"
	}
	return lowest
}

// compareVersions orders dotted numbers; what follows them ("-rc1") counts
// only among equals, and a release comes after its candidates.
func compareVersions(a, b string) int {
	an, arest := versionNumbers(a)
	bn, brest := versionNumbers(b)
	if c := slices.Compare(an[:], bn[:]); c != 0 {
		return c
	}
	switch {
	case arest == brest:
		return 0
	case arest == "":
		return 1
	case brest == "":
		return -1
	}
	return strings.Compare(arest, brest)
}

func versionNumbers(s string) (n [3]int, rest string) {
	s = strings.TrimPrefix(s, "v")
	if i := strings.IndexAny(s, "-+"); i >= 0 {
		s, rest = s[:i], s[i:]
	}
	for i, part := range strings.SplitN(s, ".", 3) {
		n[i], _ = strconv.Atoi(part) // not a number counts as 0
	}
	return n, rest
}
