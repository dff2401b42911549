package router

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/store"
)

// Where a pull may take a model from, as its caller said; unsaid, a peer's copy
// is taken where this node has none.
const (
	sourceRegistry = "registry" // never from a peer
	sourcePeer     = "peer"     // from a peer also what is here, in place of it
)

// copyFromPeers brings a model in from a node that has it instead of from the
// internet. The local Ollama does the work: it pulls from a registry on this
// machine's loopback that reads the peer's files, so that chunks, resumption
// and verification are its own; then the model gets its plain name. false: no
// peer could give it, and the story says why.
func (r *Router) copyFromPeers(ctx context.Context, p *pull, o *errand, key string, begin func()) bool {
	v := r.mesh.View()
	self := v.Self()
	if r.config.Peering == nil || self == nil || o.source == sourceRegistry {
		return false
	}
	if holds(self, key) && o.source != sourcePeer {
		return false // what is here is brought up to date by a true pull
	}
	for _, h := range sources(v, key) {
		begin()
		at := step{Status: "copying from " + h.Member.Name + " over the local network"}
		p.story.tell(at.name(), at.line())
		err := r.copyFrom(ctx, p, h, o.peek.Model)
		if err == nil {
			return true
		}
		if ctx.Err() != nil {
			return false
		}
		r.log.Warn("a model could not be copied from a peer", "model", key, "node", h.Member.Name, "err", err)
		why := step{Status: fmt.Sprintf("cannot copy it from %s (%v): going on without it", h.Member.Name, err)}
		p.story.tell(why.name(), why.line())
	}
	return false
}

// sources are the peers that have the model, those with the newest copy first.
func sources(v *mesh.View, key string) []mesh.Holder {
	out := slices.DeleteFunc(slices.Clone(v.Holders(key)), func(h mesh.Holder) bool {
		return h.Member.Self || h.Model.Remote != ""
	})
	slices.SortStableFunc(out, func(a, b mesh.Holder) int { return b.Model.Modified.Compare(a.Model.Modified) })
	return out
}

func (r *Router) copyFrom(ctx context.Context, p *pull, h mesh.Holder, name string) error {
	r.sweep(ctx)
	temporary, withdraw := r.config.Peering.Offer(h.Member.ID, h.Model.Name, h.Model.Digest)
	defer withdraw()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(h.Member.Context(), func() { cancel(context.Cause(h.Member.Context())) })()
	body, err := json.Marshal(map[string]any{"model": temporary, "name": temporary, "insecure": true, "stream": true})
	if err != nil {
		return err
	}
	if err := r.ollamaPull(ctx, body, nil, nil, p.story); err != nil {
		return because(ctx, err)
	}
	err = r.tellOllama(ctx, http.MethodPost, "/api/copy", map[string]string{"source": temporary, "destination": name})
	if gone := r.forget(context.WithoutCancel(ctx), temporary); gone != nil {
		r.log.Warn("a temporary name is left", "model", temporary, "err", gone)
	}
	return err
}

// forget takes a temporary name away; its layers stay with the plain name.
func (r *Router) forget(ctx context.Context, temporary string) error {
	return r.tellOllama(ctx, http.MethodDelete, "/api/delete", map[string]string{"model": temporary, "name": temporary})
}

// sweep takes away the temporary names that a node which died in the middle
// of a copy has left.
func (r *Router) sweep(ctx context.Context) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "/api/tags", nil)
	if err != nil {
		return
	}
	resp, err := r.backend.Do(req)
	if err != nil {
		return
	}
	defer resp.Body.Close()
	var list struct {
		Models []struct {
			Name string `json:"name"`
		} `json:"models"`
	}
	if json.NewDecoder(io.LimitReader(resp.Body, 16<<20)).Decode(&list) != nil {
		return
	}
	for _, m := range list.Models {
		if store.Temporary(m.Name) && !r.config.Peering.Offered(m.Name) {
			_ = r.forget(ctx, m.Name) // it is tried again with the next copy
		}
	}
}

// tellOllama sends a short order to this node's own Ollama.
func (r *Router) tellOllama(ctx context.Context, method, path string, body any) error {
	b, err := json.Marshal(body)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, method, path, bytes.NewReader(b))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := r.backend.Do(req)
	if err != nil {
		return fmt.Errorf("%w: %w", errDown, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(resp.Body, errorBodyLimit))
		return fmt.Errorf("router: %s: %d %s", path, resp.StatusCode, errorText(text))
	}
	return nil
}
