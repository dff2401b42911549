package backend

import (
	"encoding/json"
	"fmt"
	"math"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/store"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/wire"
)

// The functions of this file read Ollama's answers and nothing else, so that
// fuzzing reaches all of them. What is missing or out of range is left at 0,
// unknown; only an answer that is no JSON of the expected form is an error.

func parseVersion(body []byte) (string, error) {
	var v struct {
		Version string `json:"version"`
	}
	if err := json.Unmarshal(body, &v); err != nil {
		return "", fmt.Errorf("backend: read version: %w", err)
	}
	if v.Version == "" {
		return "", fmt.Errorf("backend: read version: not an ollama")
	}
	return oneLine(v.Version, 64), nil
}

// parseTags reads /api/tags into a catalog without shapes. Entries without a
// name are dropped, so are the names of a copy from a peer that is under way,
// and of two with the same canonical name the first stays.
func parseTags(body []byte) (mesh.Catalog, error) {
	var list struct {
		Models []json.RawMessage `json:"models"`
	}
	if err := json.Unmarshal(body, &list); err != nil {
		return nil, fmt.Errorf("backend: read tags: %w", err)
	}
	catalog := make(mesh.Catalog, 0, len(list.Models))
	seen := make(map[string]bool, len(list.Models))
	for _, raw := range list.Models {
		var e struct {
			Name       string    `json:"name"`
			Model      string    `json:"model"`
			Digest     string    `json:"digest"`
			Size       float64   `json:"size"`
			Modified   time.Time `json:"modified_at"`
			RemoteHost string    `json:"remote_host"`
			Caps       []string  `json:"capabilities"`
			Details    struct {
				ParameterSize string `json:"parameter_size"`
				Quantization  string `json:"quantization_level"`
				ContextLength int    `json:"context_length"`
			} `json:"details"`
		}
		if json.Unmarshal(raw, &e) != nil {
			continue
		}
		if e.Name == "" {
			e.Name = e.Model
		}
		key := wire.Canonical(e.Name)
		if e.Name == "" || key == "" || seen[key] || store.Temporary(e.Name) {
			continue
		}
		seen[key] = true
		remote := e.RemoteHost
		if remote == "" && wire.IsCloud(e.Name) {
			remote = "https://ollama.com"
		}
		catalog = append(catalog, mesh.Model{
			Key: key, Name: e.Name, Digest: e.Digest, Size: wholeBytes(e.Size), Modified: e.Modified,
			ParameterSize: e.Details.ParameterSize, Quantization: e.Details.Quantization,
			ContextLength: tokens(e.Details.ContextLength), Capabilities: e.Caps,
			Remote: remote, Tag: raw,
		})
	}
	sortCatalog(catalog)
	return catalog, nil
}

// parsePS reads /api/ps.
func parsePS(body []byte) ([]Resident, error) {
	var list struct {
		Models []json.RawMessage `json:"models"`
	}
	if err := json.Unmarshal(body, &list); err != nil {
		return nil, fmt.Errorf("backend: read ps: %w", err)
	}
	residents := make([]Resident, 0, len(list.Models))
	for _, raw := range list.Models {
		var e struct {
			Name     string    `json:"name"`
			Model    string    `json:"model"`
			Digest   string    `json:"digest"`
			Size     float64   `json:"size"`
			SizeVRAM float64   `json:"size_vram"`
			Context  int       `json:"context_length"`
			Expires  time.Time `json:"expires_at"`
		}
		if json.Unmarshal(raw, &e) != nil {
			continue
		}
		if e.Name == "" {
			e.Name = e.Model
		}
		if key := wire.Canonical(e.Name); e.Name != "" && key != "" {
			residents = append(residents, Resident{
				Key: key, Name: e.Name, Digest: e.Digest, Size: wholeBytes(e.Size),
				SizeVRAM: wholeBytes(e.SizeVRAM), Context: tokens(e.Context), Expires: e.Expires,
			})
		}
	}
	return residents, nil
}

// Shape is what /api/show tells of a model beyond the listing; 0 and "" are
// unknown.
type Shape struct {
	Family        string
	Blob          string // digest of the weights, 64 hex digits
	Layers        int    // layers with a KV cache
	KVHeads       int    // most KV heads of any layer
	HeadDim       int
	ContextLength int
	NumCtx        int
	Capabilities  []string
	Remote        string
}

// parseShow reads /api/show. elided says that the short answer left out the KV
// heads, which are an array in models whose layers differ.
//
// For such models Layers counts the layers that have KV heads at all and
// KVHeads is the most of them: exact for hybrids, where a layer has attention
// or none, and an upper bound for the few models that vary it.
func parseShow(body []byte) (shape Shape, elided bool, err error) {
	var v struct {
		Modelfile  string                     `json:"modelfile"`
		Parameters string                     `json:"parameters"`
		Info       map[string]json.RawMessage `json:"model_info"`
		Caps       []string                   `json:"capabilities"`
		RemoteHost string                     `json:"remote_host"`
		Details    struct {
			Family string `json:"family"`
		} `json:"details"`
	}
	if err := json.Unmarshal(body, &v); err != nil {
		return Shape{}, false, fmt.Errorf("backend: read show: %w", err)
	}
	shape = Shape{
		Family: v.Details.Family, Blob: weightsOf(v.Modelfile), NumCtx: numCtx(v.Parameters),
		Capabilities: v.Caps, Remote: v.RemoteHost,
	}
	var arch string
	if json.Unmarshal(v.Info["general.architecture"], &arch) != nil || arch == "" {
		return shape, false, nil
	}
	if shape.Family == "" {
		shape.Family = arch
	}
	number := func(key string) int {
		n, _ := numbers(v.Info[arch+"."+key])
		return n.most
	}
	shape.Layers = number("block_count")
	shape.ContextLength = number("context_length")
	heads := number("attention.head_count")
	if shape.HeadDim = number("attention.key_length"); shape.HeadDim == 0 && heads > 0 {
		shape.HeadDim = number("embedding_length") / heads
	}
	raw, given := v.Info[arch+".attention.head_count_kv"]
	kv, isArray := numbers(raw)
	switch {
	case given && string(raw) == "null":
		return shape, true, nil
	case isArray:
		shape.KVHeads, shape.Layers = kv.most, kv.above
	case given:
		shape.KVHeads = kv.most
	default:
		shape.KVHeads = heads // GGUF: without the key every head has its own
	}
	return shape, false, nil
}

// summary is what is kept of an array of numbers.
type summary struct {
	most  int
	above int // how many are above 0
}

// numbers reads a number, or an array of them.
func numbers(raw json.RawMessage) (s summary, isArray bool) {
	var one float64
	if json.Unmarshal(raw, &one) == nil {
		n := fromFloat(one)
		return summary{most: n, above: min(n, 1)}, false
	}
	var many []float64
	if json.Unmarshal(raw, &many) != nil {
		return summary{}, false
	}
	for _, f := range many {
		if n := fromFloat(f); n > 0 {
			s.most = max(s.most, n)
			s.above++
		}
	}
	return s, true
}

// weightsOf finds the weights' digest in a modelfile: its first FROM line that
// names a blob, as in "FROM /root/.ollama/models/blobs/sha256-<64 hex>". The
// digest of /api/tags does not identify weights: a model that was created on
// the node has the node's own paths in its manifest.
func weightsOf(modelfile string) string {
	for line := range strings.Lines(modelfile) {
		line = strings.TrimSpace(line)
		if len(line) < 5 || !strings.EqualFold(line[:5], "FROM ") {
			continue
		}
		i := strings.LastIndex(line, "sha256-")
		if i < 0 {
			i = strings.LastIndex(line, "sha256:")
		}
		if i < 0 {
			continue
		}
		digest := strings.Trim(line[i+len("sha256-"):], `"'`)
		if len(digest) == 64 && strings.Trim(strings.ToLower(digest), "0123456789abcdef") == "" {
			return strings.ToLower(digest)
		}
	}
	return ""
}

// numCtx finds num_ctx in show's parameters, one "name   value" per line.
func numCtx(parameters string) int {
	for line := range strings.Lines(parameters) {
		fields := strings.Fields(line)
		if len(fields) == 2 && fields[0] == "num_ctx" {
			var f float64
			if json.Unmarshal([]byte(fields[1]), &f) == nil {
				return fromFloat(f)
			}
		}
	}
	return 0
}

// with returns m with what the shape knows better.
func (s Shape) with(m mesh.Model) mesh.Model {
	m.Blob, m.Layers, m.KVHeads, m.HeadDim, m.NumCtx = s.Blob, s.Layers, s.KVHeads, s.HeadDim, s.NumCtx
	if s.ContextLength > 0 {
		m.ContextLength = s.ContextLength
	}
	if len(m.Capabilities) == 0 {
		m.Capabilities = s.Capabilities
	}
	if m.Remote == "" {
		m.Remote = s.Remote
	}
	return m
}

// fromFloat takes a count that arrived as a JSON number; what cannot be one is
// unknown.
func fromFloat(f float64) int {
	if !(f > 0 && f < math.MaxInt32) {
		return 0
	}
	return int(f)
}

func tokens(n int) int { return fromFloat(float64(n)) }

func wholeBytes(f float64) uint64 {
	if !(f > 0 && f < math.MaxInt64) {
		return 0
	}
	return uint64(f)
}

// oneLine makes a short text from outside safe for one line.
func oneLine(s string, most int) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r == utf8.RuneError {
			return -1
		}
		return r
	}, s)
	if len(s) > most {
		s = strings.ToValidUTF8(s[:most], "")
	}
	return s
}
