package ollamatest

import (
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"
)

// modelsDir is where this server pretends to keep its blobs.
const modelsDir = "/usr/share/ollama/.ollama/models"

func blobPath(digest string) string { return modelsDir + "/blobs/sha256-" + digest }

func (c *call) root() {
	c.w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	io.WriteString(c.w, "Ollama is running")
}

func (c *call) version() { c.json(map[string]string{"version": c.s.cfg.Reports}) }

// cloudStatus serves /api/status, which tells only whether cloud models are off.
func (c *call) cloudStatus() {
	c.json(map[string]any{"cloud": map[string]any{"disabled": false, "source": "none"}})
}

// details is the object of that name in every listing.
type details struct {
	ParentModel   string   `json:"parent_model"`
	Format        string   `json:"format"`
	Family        string   `json:"family"`
	Families      []string `json:"families"`
	ParameterSize string   `json:"parameter_size"`
	Quantization  string   `json:"quantization_level"`
	ContextLength int      `json:"context_length,omitempty"`
	Embedding     int      `json:"embedding_length,omitempty"`
}

func (c *call) details(e *entry) details {
	d := details{
		Format: "gguf", Family: e.Family, Families: []string{e.Family},
		ParameterSize: e.ParameterSize, Quantization: e.Quantization,
	}
	if c.s.has.modern {
		d.ContextLength, d.Embedding = e.ContextLength, e.embeddingLength()
	}
	return d
}

// embeddingLength is the width of the model, as far as its geometry tells.
func (m *Model) embeddingLength() int {
	if m.Embedding {
		return m.Dimensions
	}
	return 4 * m.KVHeads * m.HeadDim
}

// tags serves /api/tags.
func (c *call) tags() {
	type item struct {
		Name         string    `json:"name"`
		Model        string    `json:"model"`
		RemoteModel  string    `json:"remote_model,omitempty"`
		RemoteHost   string    `json:"remote_host,omitempty"`
		ModifiedAt   time.Time `json:"modified_at"`
		Size         int64     `json:"size"`
		Digest       string    `json:"digest"`
		Details      details   `json:"details"`
		Capabilities []string  `json:"capabilities,omitempty"`
	}
	out := []item{}
	for _, e := range c.s.catalog.list() {
		it := item{
			Name: e.Name, Model: e.Name, ModifiedAt: e.Modified, Size: e.Size, Digest: e.Digest, Details: c.details(e),
		}
		if e.Remote != "" {
			it.RemoteModel, it.RemoteHost = remoteName(e.Name), e.Remote
		}
		if c.s.has.modern {
			it.Capabilities = e.Capabilities
		}
		out = append(out, it)
	}
	c.json(map[string]any{"models": out})
}

// remoteName is a cloud model's name at its host: without the cloud tag.
func remoteName(name string) string {
	base, tag, _ := strings.Cut(name, ":")
	if tag = strings.TrimSuffix(strings.TrimSuffix(tag, "cloud"), "-"); tag == "" || tag == defaultTag {
		return base
	}
	return base + ":" + tag
}

// ps serves /api/ps.
func (c *call) ps() {
	type item struct {
		Name          string    `json:"name"`
		Model         string    `json:"model"`
		Size          uint64    `json:"size"`
		Digest        string    `json:"digest"`
		Details       details   `json:"details"`
		ExpiresAt     time.Time `json:"expires_at"`
		SizeVRAM      uint64    `json:"size_vram"`
		ContextLength int       `json:"context_length,omitempty"`
	}
	out := []item{}
	for _, r := range c.s.sched.loadedModels() {
		it := item{
			Name: r.entry.Name, Model: r.entry.Name, Size: r.size, Digest: r.entry.Digest, Details: c.details(r.entry),
			ExpiresAt: r.expires, SizeVRAM: r.vram,
		}
		if c.s.has.psContext {
			it.ContextLength = r.ctx
		}
		out = append(out, it)
	}
	c.json(map[string]any{"models": out})
}

// showModel serves /api/show.
func (c *call) showModel() {
	var req struct {
		Model string `json:"model"`
		Name  string `json:"name"`
	}
	if !c.decodeOr(&req, "ShowRequest") {
		return
	}
	if req.Model == "" {
		req.Model = req.Name
	}
	if req.Model == "" {
		c.fail(http.StatusBadRequest, "model is required")
		return
	}
	e, ok := c.shown(req.Model)
	if !ok {
		return
	}
	params := e.parameters()
	out := map[string]any{
		"modelfile":    e.modelfile(params),
		"parameters":   strings.Join(params, "\n"),
		"template":     e.Template,
		"details":      c.details(e),
		"model_info":   e.info(),
		"tensors":      []any{},
		"capabilities": e.Capabilities,
		"modified_at":  e.Modified,
	}
	if e.System != "" {
		out["system"] = e.System
	}
	if e.Remote != "" {
		out["remote_model"], out["remote_host"] = remoteName(e.Name), e.Remote
	}
	c.json(out)
}

// shown finds a model for show, or answers that there is none.
func (c *call) shown(name string) (*entry, bool) {
	e, err := c.s.catalog.find(name)
	if err == nil {
		return e, true
	}
	n := parseName(name)
	switch {
	case !n.valid() && c.s.has.modern:
		c.fail(http.StatusBadRequest, errModelName.Error())
	case !n.valid():
		c.fail(http.StatusInternalServerError, "invalid model path")
	case c.s.has.modern:
		c.fail(http.StatusNotFound, fmt.Sprintf("model '%s' not found", n.short()))
	default:
		c.fail(http.StatusNotFound, fmt.Sprintf("model '%s' not found", name))
	}
	return nil, false
}

// parameters lists the options as a Modelfile does.
func (e *entry) parameters() []string {
	out := []string{fmt.Sprintf("%-30s %q", "stop", "<|end|>")}
	for name, value := range e.Options {
		if name == "stop" {
			out = out[1:]
		}
		out = append(out, fmt.Sprintf("%-30s %v", name, value))
	}
	slices.Sort(out)
	return out
}

func (e *entry) modelfile(params []string) string {
	var b strings.Builder
	b.WriteString("# Modelfile generated by \"ollama show\"\n# To build a new Modelfile based on this, replace FROM with:\n")
	fmt.Fprintf(&b, "# FROM %s\n\nFROM %s\nTEMPLATE \"\"\"%s\"\"\"\n", e.Name, blobPath(e.Weights), e.Template)
	if e.System != "" {
		fmt.Fprintf(&b, "SYSTEM %s\n", e.System)
	}
	for _, p := range params {
		b.WriteString("PARAMETER " + strings.Join(strings.Fields(p), " ") + "\n")
	}
	return b.String()
}

// info is the metadata of the weights, from which a client can compute the
// size of the KV cache.
func (e *entry) info() map[string]any {
	family := e.Family
	return map[string]any{
		"general.architecture":              family,
		"general.parameter_count":           parameters(e.Size),
		family + ".block_count":             e.Layers,
		family + ".context_length":          e.ContextLength,
		family + ".embedding_length":        e.embeddingLength(),
		family + ".attention.head_count":    4 * e.KVHeads,
		family + ".attention.head_count_kv": e.KVHeads,
		family + ".attention.key_length":    e.HeadDim,
		family + ".attention.value_length":  e.HeadDim,
		"tokenizer.ggml.model":              "gpt2",
	}
}

// openAIModel is a model in OpenAI's listings.
type openAIModel struct {
	ID      string `json:"id"`
	Object  string `json:"object"`
	Created int64  `json:"created"`
	OwnedBy string `json:"owned_by"`
}

// models serves /v1/models.
func (c *call) models() {
	out := []openAIModel{}
	for _, e := range c.s.catalog.list() {
		out = append(out, openAIModel{e.Name, "model", e.Modified.Unix(), parseName(e.Name).namespace})
	}
	c.openAIJSON(struct {
		Object string        `json:"object"`
		Data   []openAIModel `json:"data"`
	}{"list", out})
}

// model serves /v1/models/{model}, which gives the name back as it was asked for.
func (c *call) model() {
	if e, ok := c.shown(c.arg); ok {
		c.openAIJSON(openAIModel{c.arg, "model", e.Modified.Unix(), parseName(e.Name).namespace})
	}
}

// openAIJSON answers 200 as the routes under /v1 do.
func (c *call) openAIJSON(v any) {
	c.w.Header().Set("Content-Type", "application/json")
	c.w.Write(append(appendJSON(nil, v), '\n'))
}
