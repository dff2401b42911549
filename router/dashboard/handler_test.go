package dashboard

import (
	"io/fs"
	"net/http"
	"net/http/httptest"
	"path"
	"regexp"
	"strings"
	"testing"
)

func get(t *testing.T, method, target string, header ...string) *httptest.ResponseRecorder {
	t.Helper()
	req := httptest.NewRequest(method, target, nil)
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	Handler().ServeHTTP(w, req)
	return w
}

func TestHandler(t *testing.T) {
	for _, tt := range []struct {
		method, path string
		status       int
		contentType  string
	}{
		{"GET", "/mesh/", 200, "text/html; charset=utf-8"},
		{"HEAD", "/mesh/", 200, "text/html; charset=utf-8"},
		{"GET", "/mesh", 301, ""},
		{"POST", "/mesh/", 405, ""},
		{"GET", "/mesh/assets/app.js", 200, "text/javascript; charset=utf-8"},
		{"GET", "/mesh/assets/style.css", 200, "text/css; charset=utf-8"},
		{"GET", "/mesh/assets/icon.svg", 200, "image/svg+xml"},
		{"GET", "/mesh/assets/vendor/LICENSES.txt", 200, "text/plain; charset=utf-8"},
		{"GET", "/mesh/assets/", 404, ""},
		{"GET", "/mesh/assets/none.js", 404, ""},
		{"GET", "/mesh/handler.go", 404, ""},
		{"GET", "/mesh/assets/../handler.go", 404, ""},
	} {
		w := get(t, tt.method, tt.path)
		if w.Code != tt.status || tt.contentType != "" && w.Header().Get("Content-Type") != tt.contentType {
			t.Errorf("%s %s: %d %s", tt.method, tt.path, w.Code, w.Header().Get("Content-Type"))
		}
		if tt.status == 200 && !strings.HasPrefix(w.Header().Get("Content-Security-Policy"), "default-src 'self'") {
			t.Errorf("%s: no policy", tt.path)
		}
	}
}

func TestAnUnchangedFileIsNotSentAgain(t *testing.T) {
	first := get(t, "GET", "/mesh/assets/app.js")
	again := get(t, "GET", "/mesh/assets/app.js", "If-None-Match", first.Header().Get("ETag"))
	if again.Code != http.StatusNotModified || again.Body.Len() != 0 {
		t.Errorf("%d, %d bytes", again.Code, again.Body.Len())
	}
}

// What the page names is there, and nothing of it is elsewhere.
func TestThePageIsWhole(t *testing.T) {
	named := regexp.MustCompile(`(?:from |src=|href=)"([^"]+)"`)
	foreign := regexp.MustCompile(`(?:https?:)?//[a-z0-9.-]+\.[a-z]{2,}`)
	files := load()
	for name, f := range files {
		if strings.Contains(name, "/vendor/") {
			continue
		}
		for _, m := range named.FindAllStringSubmatch(string(f.data), -1) {
			target := strings.TrimPrefix(m[1], "/mesh")
			if strings.HasPrefix(target, ".") {
				target = path.Join(path.Dir(name), target)
			}
			if files[target] == nil {
				t.Errorf("%s names %s, which is not there", name, m[1])
			}
		}
		for _, url := range foreign.FindAllString(string(f.data), -1) {
			if url != "http://www.w3.org" {
				t.Errorf("%s names %s", name, url)
			}
		}
	}
}

// Whose work is in vendor is said beside it.
func TestVendoredFilesHaveTheirLicences(t *testing.T) {
	licences, err := assets.ReadFile("assets/vendor/LICENSES.txt")
	if err != nil {
		t.Fatal(err)
	}
	err = fs.WalkDir(assets, "assets/vendor", func(name string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() && !strings.Contains(string(licences), d.Name()) && d.Name() != "LICENSES.txt" {
			t.Errorf("%s is not named in LICENSES.txt", name)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}
