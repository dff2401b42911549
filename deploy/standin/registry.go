// Package standin has a registry of models for tests: it serves what is in an
// Ollama's model directory to other Ollamas' pull, so that no test needs the
// internet.
//
//	r := &standin.Registry{Dir: models}
//	server := httptest.NewServer(r)
//	// ollama pull --insecure HOST:PORT/library/tiny
package standin

import (
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/store"
)

// Registry serves the models of the default registry's library in Dir, which is
// as OLLAMA_MODELS.
type Registry struct {
	Dir    string
	served atomic.Int64
}

// Served is how many bytes of blobs have been sent.
func (r *Registry) Served() int64 { return r.served.Load() }

func (r *Registry) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	parts := strings.Split(req.URL.Path, "/") // "", v2, namespace, model, what, which
	if len(parts) != 6 || parts[1] != "v2" {
		http.NotFound(w, req)
		return
	}
	s := store.Store{Dirs: []string{r.Dir}}
	switch parts[4] {
	case "manifests":
		body, err := s.Manifest(parts[2] + "/" + parts[3] + ":" + parts[5])
		if err != nil {
			http.NotFound(w, req)
			return
		}
		_, _ = w.Write(body)
	case "blobs":
		f, _, err := s.Blob(parts[5])
		if err != nil {
			http.NotFound(w, req)
			return
		}
		defer f.Close()
		if req.Method == http.MethodGet && req.Header.Get("Range") == "" {
			// ollama.com redirects to another host here. Ollama follows a
			// redirect within one host, and asks where the end of it is.
			w.Header().Set("Location", "http://"+req.Host+req.URL.Path)
			return
		}
		http.ServeContent(counted{w, &r.served}, req, "", time.Time{}, f)
	default:
		http.NotFound(w, req)
	}
}

type counted struct {
	http.ResponseWriter
	bytes *atomic.Int64
}

func (c counted) Write(p []byte) (int, error) {
	n, err := c.ResponseWriter.Write(p)
	c.bytes.Add(int64(n))
	return n, err
}

func (c counted) ReadFrom(r io.Reader) (int64, error) {
	n, err := io.Copy(struct{ io.Writer }{c.ResponseWriter}, r)
	c.bytes.Add(n)
	return n, err
}
