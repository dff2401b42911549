package mesh

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh/identity"
)

// Routes on the peer port.
const (
	cardPath = "/mesh/v1/card"
	loadPath = "/mesh/v1/load"
)

// Handler serves card, load, reach, keys and denied under /mesh/v1/ on the peer port,
// to members only. The listener must be one of [identity.Identity.ServerTLS]:
// requests that came in any other way are refused.
func (m *Mesh) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+cardPath, m.serveCard)
	mux.HandleFunc("GET "+loadPath, m.serveLoad)
	mux.HandleFunc("POST "+reachPath, m.serveReach)
	for path, h := range map[string]http.HandlerFunc{keysPath: m.serveKeys, deniedPath: m.serveDenied} {
		mux.HandleFunc("GET "+path, h)
		mux.HandleFunc("POST "+path, h)
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if id, ok := identity.PeerID(r); !ok || !m.Allow(id) {
			fail(w, http.StatusForbidden, "only members of this mesh are served here")
			return
		}
		mux.ServeHTTP(w, r)
	})
}

func (m *Mesh) serveCard(w http.ResponseWriter, _ *http.Request) {
	m.own.mu.Lock()
	body, digest := m.own.body, m.own.digest
	m.own.mu.Unlock()
	if body == nil {
		fail(w, http.StatusNotFound, "this node has not looked at itself yet")
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("ETag", `"`+digest+`"`)
	_, _ = w.Write(body) // the peer is gone: it will ask again
}

func (m *Mesh) serveLoad(w http.ResponseWriter, _ *http.Request) {
	b, err := EncodeLoad(m.refresh(), time.Now(), LoadWhole)
	if err != nil {
		fail(w, http.StatusInternalServerError, "no load report")
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	_, _ = w.Write(b)
}

func fail(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]string{"error": text})
}

// Time limits of fetches; a card of the greatest size takes 0.7 s at 100
// Mbit/s.
const (
	cardTimeout = 15 * time.Second
	loadTimeout = 4 * time.Second
)

// fetch asks the member for its card or load.
func (m *Mesh) fetch(ctx context.Context, j job) fetchResult {
	if !j.card {
		l, err := fetchLoad(ctx, m.peers, j.id)
		return fetchResult{load: l, err: err}
	}
	ctx, cancel := context.WithTimeout(ctx, cardTimeout)
	defer cancel()
	body, err := getPeer(ctx, m.peers, j.id, cardPath, maxCard)
	if err != nil {
		m.log.Debug("fetch card", "node", j.id, "err", err)
		return fetchResult{err: err}
	}
	card, err := parseCard(body)
	if err != nil {
		if ok, missed := m.refused.pass("card "+string(j.id), time.Now()); ok {
			m.log.Warn("a member's card cannot be read", "node", j.id, "err", err, "repeated", missed)
		}
		return fetchResult{err: err}
	}
	return fetchResult{card: card, digest: cardDigest(body)}
}

func fetchLoad(ctx context.Context, rt http.RoundTripper, id NodeID) (*Load, error) {
	ctx, cancel := context.WithTimeout(ctx, loadTimeout)
	defer cancel()
	body, err := getPeer(ctx, rt, id, loadPath, LoadWhole)
	if err != nil {
		return nil, err
	}
	return DecodeLoad(body, time.Now())
}

// getPeer reads at most limit bytes of a small answer of a peer.
func getPeer(ctx context.Context, rt http.RoundTripper, id NodeID, path string, limit int64) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+string(id)+path, nil)
	if err != nil {
		return nil, fmt.Errorf("mesh: ask %s: %w", id, err)
	}
	resp, err := rt.RoundTrip(req)
	if err != nil {
		return nil, fmt.Errorf("mesh: ask %s: %w", id, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("mesh: ask %s for %s: status %d", id, path, resp.StatusCode)
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, limit+1))
	if err != nil {
		return nil, fmt.Errorf("mesh: read answer of %s: %w", id, err)
	}
	if int64(len(body)) > limit {
		return nil, fmt.Errorf("mesh: answer of %s is above %d bytes", id, limit)
	}
	return body, nil
}

// parseCard reads a card of another node and makes it safe to use: entries
// without a usable name are dropped, the rest is sorted.
func parseCard(body []byte) (*Card, error) {
	var c Card
	if err := json.Unmarshal(body, &c); err != nil {
		return nil, fmt.Errorf("mesh: card: %w", err)
	}
	c.Catalog = slices.DeleteFunc(c.Catalog, func(m Model) bool { return m.Key == "" || len(m.Key) > maxKey })
	slices.SortFunc(c.Catalog, func(a, b Model) int { return strings.Compare(a.Key, b.Key) })
	c.Catalog = slices.CompactFunc(c.Catalog, func(a, b Model) bool { return a.Key == b.Key })
	c.Parallel = min(max(c.Parallel, 1), 4096)
	c.MaxLoad = max(c.MaxLoad, 0)
	c.Ollama = clean(c.Ollama, maxVersion)
	return &c, nil
}
