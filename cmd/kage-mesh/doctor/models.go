package doctor

import (
	"fmt"
	"slices"
	"strings"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh/hardware"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/admin"
)

func models(f Facts) []Finding {
	if f.Node == nil {
		return nil
	}
	n := 0
	for _, row := range f.Node.Models.Models {
		if !row.Cloud {
			n++
		}
	}
	switch {
	case len(f.Node.Models.Nodes) == 0:
		return []Finding{failed(startOllama(f.OS), "There is nobody to run a model.", "no node of the mesh has an Ollama that answers")}
	case n == 0:
		return []Finding{warning("OLLAMA_HOST="+f.Endpoint+" ollama pull llama3.2", "There is nothing to ask for.", "no node has a model")}
	}
	return passed("%d models on %d nodes", n, len(f.Node.Models.Nodes))
}

func digests(f Facts) (out []Finding) {
	if f.Node == nil {
		return nil
	}
	for _, row := range f.Node.Models.Models {
		if row.Cloud {
			continue
		}
		newest := row.On[holder(row)].Weights
		var other []string
		for name, spot := range row.On {
			if spot.OnDisk && spot.Differs && (spot.Weights == "" || spot.Weights != newest) {
				other = append(other, fmt.Sprintf("%s on %s", short(spot.Digest), name))
			}
		}
		if len(other) == 0 {
			continue
		}
		slices.Sort(other)
		out = append(out, warning("kage-mesh models sync   # --dry-run shows what it would pull",
			"The same question gets other answers on other nodes.",
			"%s is not the same everywhere: %s, %s (the newest) on %s", row.Name, strings.Join(other, ", "), short(row.Digest), holder(row)))
	}
	if out == nil && len(f.Node.Models.Nodes) > 1 {
		return passed("models of one name are the same on every node")
	}
	return out
}

// holder is a node with the newest copy of a model.
func holder(row admin.ModelRow) string {
	var names []string
	for name, spot := range row.On {
		if spot.OnDisk && spot.Digest == row.Digest {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return "?"
	}
	return slices.Min(names)
}

func short(digest string) string {
	digest = strings.TrimPrefix(digest, "sha256:")
	return digest[:min(len(digest), 12)]
}

func fits(f Facts) (out []Finding) {
	if f.Node == nil {
		return nil
	}
	for _, row := range f.Node.Models.Models {
		best := hardware.None
		for _, spot := range row.On {
			best = max(best, spot.Fits)
		}
		if row.Cloud || best > hardware.None || len(row.On) == 0 {
			continue
		}
		name := holder(row)
		w := warning("kage-mesh models rm "+row.Name+"   # or a smaller quantization of it, or a node with more memory",
			"A request for it is refused; no node is sent what it cannot hold.",
			"no node has the memory for %s (%s)", row.Name, hardware.FormatSize(row.Size))
		w.On = name
		out = append(out, w)
	}
	if out == nil && len(f.Node.Models.Models) > 0 {
		return passed("every model fits some node")
	}
	return out
}
