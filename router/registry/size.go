package registry

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/store"
)

// Size asks a model's own registry how many bytes the model takes on a disk,
// which is about what its weights take in memory. rt is how to reach it.
func Size(ctx context.Context, rt http.RoundTripper, name string) (uint64, error) {
	n, err := store.ParseName(name)
	if err != nil {
		return 0, err
	}
	at := "https://" + n.Host + "/v2/" + n.Namespace + "/" + n.Model + "/manifests/" + n.Tag
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, at, nil)
	if err != nil {
		return 0, err
	}
	req.Header.Set("Accept", "application/vnd.docker.distribution.manifest.v2+json")
	resp, err := (&http.Client{Transport: rt}).Do(req)
	if err != nil {
		return 0, fmt.Errorf("registry: size of %s: %w", name, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return 0, fmt.Errorf("registry: size of %s: %s", name, resp.Status)
	}
	return sum(io.LimitReader(resp.Body, manifestLimit))
}

// sum adds up the layers of a manifest.
func sum(manifest io.Reader) (uint64, error) {
	var m struct {
		Config struct{ Size int64 }
		Layers []struct{ Size int64 }
	}
	if err := json.NewDecoder(manifest).Decode(&m); err != nil {
		return 0, fmt.Errorf("registry: manifest: %w", err)
	}
	total := uint64(max(m.Config.Size, 0))
	for _, l := range m.Layers {
		total += uint64(max(l.Size, 0))
	}
	return total, nil
}
