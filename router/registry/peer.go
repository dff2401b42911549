package registry

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/store"
)

// Paths on the peer link.
const (
	ManifestPath = "/mesh/v1/manifests/" // and the model's name as its holder lists it
	BlobPath     = "/mesh/v1/blobs/"     // and the digest
)

// Peer serves this node's models to other nodes. It must be behind a listener
// that has verified them as members.
type Peer struct {
	// Modelfile asks the local Ollama for a model's modelfile, which tells
	// where its store is; nil: only Dirs.
	Modelfile func(ctx context.Context, name string) (string, error)
	// Dirs are other places to look at.
	Dirs []string
	Log  *slog.Logger
}

func (p Peer) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	if req.Method != http.MethodGet && req.Method != http.MethodHead {
		http.Error(w, "405 method not allowed", http.StatusMethodNotAllowed)
		return
	}
	name, manifest := strings.CutPrefix(req.URL.Path, ManifestPath)
	digest, blob := strings.CutPrefix(req.URL.Path, BlobPath)
	switch {
	case manifest:
		p.manifest(w, req, name)
	case blob:
		p.blob(w, req, digest)
	default:
		http.NotFound(w, req)
	}
}

func (p Peer) manifest(w http.ResponseWriter, req *http.Request, name string) {
	s := store.Store{Dirs: p.dirs(req.Context(), name)}
	body, err := s.Manifest(name)
	if err != nil {
		p.fail(w, "manifest", name, err)
		return
	}
	w.Header().Set("Content-Type", "application/vnd.docker.distribution.manifest.v2+json")
	_, _ = w.Write(body) //nolint:gosec // a manifest to a peer, typed as one
}

// dirs are the stores to look into for a model, its own first.
func (p Peer) dirs(ctx context.Context, name string) []string {
	if p.Modelfile == nil || name == "" {
		return p.Dirs
	}
	text, err := p.Modelfile(ctx, name)
	if err != nil {
		return p.Dirs
	}
	if dir := store.FromModelfile(text); dir != "" {
		return append([]string{dir}, p.Dirs...)
	}
	return p.Dirs
}

func (p Peer) blob(w http.ResponseWriter, req *http.Request, digest string) {
	s := store.Store{Dirs: p.dirs(req.Context(), req.URL.Query().Get("model"))}
	f, _, err := s.Blob(digest)
	if err != nil {
		p.fail(w, "blob", digest, err)
		return
	}
	defer f.Close()
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("ETag", `"`+digest+`"`)
	http.ServeContent(w, req, "", time.Time{}, f) // answers Range
}

// fail says why; the paths of this machine are for its own log.
func (p Peer) fail(w http.ResponseWriter, what, name string, err error) {
	status, text := http.StatusInternalServerError, "the model store cannot be read"
	switch {
	case errors.Is(err, store.ErrName), errors.Is(err, store.ErrDigest):
		status, text = http.StatusBadRequest, "no such name"
	case errors.Is(err, fs.ErrPermission):
		status, text = http.StatusForbidden, "kage-mesh may not read the model store"
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, store.ErrNone):
		status, text = http.StatusNotFound, "not in a model store that kage-mesh can read"
	}
	if p.Log != nil {
		p.Log.Warn("cannot give a model to another node", "part", what, "name", name, "err", err)
	}
	http.Error(w, text, status)
}
