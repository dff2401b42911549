package registry

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/store"
)

// manifestLimit bounds a peer's manifest, bytes.
const manifestLimit = 1 << 20

// stall is how long a peer may be silent within a blob. Ollama's own patience
// with a chunk is 30 s; then it asks again from where it is.
const stall = 20 * time.Second

// Registry offers peers' models to the local Ollama.
type Registry struct {
	listener net.Listener
	peers    http.RoundTripper // to https://<node id>/...
	log      *slog.Logger

	mu      sync.Mutex
	tickets map[string]ticket
}

// ticket is one model on offer.
type ticket struct {
	node   mesh.NodeID
	name   string // as the holder lists it
	digest string // of its manifest, 64 hex; "" unknown
}

// New binds a free port of the loopback. It serves nothing before Run.
func New(peers http.RoundTripper, log *slog.Logger) (*Registry, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("registry: %w", err)
	}
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Registry{
		listener: l, peers: peers, log: log.With("component", "registry"),
		tickets: make(map[string]ticket),
	}, nil
}

// Close gives the port back when Run was never called.
func (r *Registry) Close() { _ = r.listener.Close() }

// Run serves until ctx ends.
func (r *Registry) Run(ctx context.Context) error {
	server := &http.Server{
		Handler: r, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: time.Minute,
		BaseContext: func(net.Listener) context.Context { return ctx },
	}
	defer context.AfterFunc(ctx, func() { _ = server.Close() })()
	if err := server.Serve(r.listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("registry: %w", err)
	}
	return nil
}

// Offer makes a model of another node available to the local Ollama's pull
// under a temporary name, until withdraw is called. digest is the manifest's,
// as the holder's listing has it; a manifest with another is not given out.
func (r *Registry) Offer(node mesh.NodeID, name, digest string) (temporary string, withdraw func()) {
	n, err := store.ParseName(name)
	if err != nil {
		return "", func() {} // Ollama refuses to pull ""
	}
	id := strings.ToLower(rand.Text())
	r.mu.Lock()
	r.tickets[id] = ticket{node, name, digest}
	r.mu.Unlock()
	return store.TemporaryName(r.listener.Addr().String(), id, n), func() {
		r.mu.Lock()
		delete(r.tickets, id)
		r.mu.Unlock()
	}
}

// Offered reports whether a temporary name is on offer.
func (r *Registry) Offered(temporary string) bool {
	n, err := store.ParseName(temporary)
	if err != nil {
		return false
	}
	_, ok := r.ticket(n.Namespace)
	return ok
}

func (r *Registry) ticket(namespace string) (ticket, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	t, ok := r.tickets[store.Ticket(namespace)]
	return t, ok
}

// ServeHTTP answers /v2/<namespace>/<model>/manifests/<tag> and
// /v2/<namespace>/<model>/blobs/<digest>.
func (r *Registry) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	parts := strings.Split(req.URL.Path, "/") // "", v2, namespace, model, what, which
	if len(parts) != 6 || parts[1] != "v2" || req.Method != http.MethodGet && req.Method != http.MethodHead {
		http.NotFound(w, req)
		return
	}
	t, ok := r.ticket(parts[2])
	if !ok {
		http.NotFound(w, req)
		return
	}
	switch parts[4] {
	case "manifests":
		r.manifest(w, req, t)
	case "blobs":
		r.blob(w, req, t, parts[5])
	default:
		http.NotFound(w, req)
	}
}

func (r *Registry) manifest(w http.ResponseWriter, req *http.Request, t ticket) {
	resp, err := r.ask(req.Context(), t, http.MethodGet, ManifestPath+t.name, nil)
	if err != nil {
		http.Error(w, "the peer does not answer", http.StatusBadGateway)
		return
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, manifestLimit))
	sum := sha256.Sum256(body)
	switch {
	case err != nil:
		http.Error(w, "the peer broke off", http.StatusBadGateway)
		return
	case resp.StatusCode != http.StatusOK:
		// Not a 404, which Ollama would word as a model that does not exist.
		http.Error(w, string(bytes.TrimSpace(body)), http.StatusBadGateway)
		return
	case t.digest != "" && hex.EncodeToString(sum[:]) != t.digest:
		http.Error(w, "the peer's model has changed", http.StatusConflict)
		return
	}
	w.Header().Set("Content-Type", "application/vnd.docker.distribution.manifest.v2+json")
	_, _ = w.Write(body)
}

// blob hands a blob on. Ollama asks first, without a range, where the blob is;
// it takes the Location of the answer and asks there for each chunk.
func (r *Registry) blob(w http.ResponseWriter, req *http.Request, t ticket, digest string) {
	if req.Method == http.MethodGet && req.Header.Get("Range") == "" {
		w.Header().Set("Location", "http://"+r.listener.Addr().String()+req.URL.Path)
		w.Header().Set("Content-Length", "0")
		return
	}
	ctx, cancel := context.WithCancel(req.Context())
	defer cancel()
	watch := time.AfterFunc(stall, cancel)
	defer watch.Stop()
	header := http.Header{}
	if v := req.Header.Get("Range"); v != "" {
		header.Set("Range", v)
	}
	resp, err := r.ask(ctx, t, req.Method, BlobPath+digest+"?model="+url.QueryEscape(t.name), header)
	if err != nil {
		http.Error(w, "the peer does not answer", http.StatusBadGateway)
		return
	}
	defer resp.Body.Close()
	for _, k := range []string{"Content-Length", "Content-Range", "Content-Type", "Accept-Ranges"} {
		if v := resp.Header.Get(k); v != "" {
			w.Header().Set(k, v)
		}
	}
	w.WriteHeader(resp.StatusCode)
	if req.Method == http.MethodHead {
		return
	}
	// A copy that breaks must not look whole: Ollama goes on from where it is.
	if _, err := io.Copy(w, fed{resp.Body, watch}); err != nil {
		r.log.Debug("a blob broke off", "digest", digest, "node", t.node, "err", err)
		panic(http.ErrAbortHandler)
	}
}

// fed puts a watch off with every piece that comes.
type fed struct {
	io.Reader
	watch *time.Timer
}

func (f fed) Read(p []byte) (int, error) {
	n, err := f.Reader.Read(p)
	f.watch.Reset(stall)
	return n, err
}

func (r *Registry) ask(ctx context.Context, t ticket, method, path string, header http.Header) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, "https://"+string(t.node)+path, nil) //nolint:gosec // to a peer that the ticket names, by pinned TLS
	if err != nil {
		return nil, err
	}
	if header != nil {
		req.Header = header
	}
	return r.peers.RoundTrip(req)
}
