package dashboard

import (
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"io/fs"
	"mime"
	"net/http"
	"path"
	"strings"
)

//go:embed assets
var assets embed.FS

// policy lets the page load its own files and talk to its own node, and
// nothing else; no page may frame it.
const policy = "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// file is one asset, ready to send.
type file struct {
	data        []byte
	etag        string
	contentType string
}

// Handler serves /mesh/ and /mesh/assets/. Who may call it is the caller's to
// decide.
func Handler() http.Handler {
	files := load()
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if req.Method != http.MethodGet && req.Method != http.MethodHead {
			w.Header().Set("Allow", "GET, HEAD")
			http.Error(w, "the page is only read", http.StatusMethodNotAllowed)
			return
		}
		name := strings.TrimPrefix(req.URL.Path, "/mesh")
		switch name {
		case "":
			http.Redirect(w, req, "/mesh/", http.StatusMovedPermanently)
			return
		case "/":
			name = "/assets/index.html"
		}
		f, ok := files[name]
		if !ok {
			http.NotFound(w, req)
			return
		}
		f.serve(w, req)
	})
}

func (f *file) serve(w http.ResponseWriter, req *http.Request) {
	h := w.Header()
	h.Set("Content-Security-Policy", policy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Cache-Control", "no-cache") // asked for anew each time: an upgrade shows at once
	h.Set("ETag", f.etag)
	h.Set("Content-Type", f.contentType)
	if req.Header.Get("If-None-Match") == f.etag {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	_, _ = w.Write(f.data)
}

// load reads all assets, by the path that they are served at below /mesh.
func load() map[string]*file {
	files := map[string]*file{}
	err := fs.WalkDir(assets, "assets", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := assets.ReadFile(name)
		if err != nil {
			return err
		}
		sum := sha256.Sum256(data)
		files["/"+name] = &file{
			data: data, contentType: contentType(name),
			etag: `"` + base64.RawURLEncoding.EncodeToString(sum[:12]) + `"`,
		}
		return nil
	})
	if err != nil {
		panic("dashboard: the files built in cannot be read: " + err.Error())
	}
	return files
}

// contentType does not ask the machine, whose registry may say that a module
// is text/plain, which no browser runs.
func contentType(name string) string {
	switch ext := path.Ext(name); ext {
	case ".js":
		return "text/javascript; charset=utf-8"
	case ".css":
		return "text/css; charset=utf-8"
	case ".html":
		return "text/html; charset=utf-8"
	case ".svg":
		return "image/svg+xml"
	case ".txt":
		return "text/plain; charset=utf-8"
	default:
		return mime.TypeByExtension(ext)
	}
}
