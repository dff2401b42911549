package registry

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// link stands for the peer link: it brings https://<node>/ to a handler.
type link struct{ nodes map[string]*httptest.Server }

func (l link) RoundTrip(req *http.Request) (*http.Response, error) {
	server := l.nodes[req.URL.Host]
	if server == nil {
		return nil, errors.New("no such node")
	}
	to, err := url.Parse(server.URL)
	if err != nil {
		return nil, err
	}
	out := req.Clone(req.Context())
	out.URL.Scheme, out.URL.Host = "http", to.Host
	return server.Client().Transport.RoundTrip(out)
}

// pair is a peer with one model, and a running registry.
func pair(t testing.TB) (r *Registry, dir, manifest, blob string) {
	t.Helper()
	dir = t.TempDir()
	weights := strings.Repeat("0123456789", 1000)
	sum := sha256.Sum256([]byte(weights))
	blob = "sha256:" + hex.EncodeToString(sum[:])
	manifest = `{"layers":[{"digest":"` + blob + `","size":10000}]}`
	for name, text := range map[string]string{
		"manifests/registry.ollama.ai/library/tiny/latest":  manifest,
		"blobs/" + strings.Replace(blob, ":", "-", 1):       weights,
		"manifests/registry.ollama.ai/library/other/latest": "{}",
	} {
		file := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	peer := httptest.NewServer(Peer{Modelfile: func(context.Context, string) (string, error) {
		return "FROM " + filepath.Join(dir, "blobs", strings.Replace(blob, ":", "-", 1)) + "\n", nil
	}})
	t.Cleanup(peer.Close)
	r, err := New(link{map[string]*httptest.Server{"node": peer}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		http.DefaultClient.CloseIdleConnections()
	})
	return r, dir, manifest, blob
}

func get(t *testing.T, at, bytes string) (int, http.Header, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, at, nil)
	if err != nil {
		t.Fatal(err)
	}
	if bytes != "" {
		req.Header.Set("Range", "bytes="+bytes)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, resp.Header, string(body)
}

// base is the URL of a temporary name's repository.
func base(t testing.TB, temporary string) string {
	t.Helper()
	n, err := store.ParseName(temporary)
	if err != nil {
		t.Fatal(err)
	}
	return "http://" + n.Host + "/v2/" + n.Namespace + "/" + n.Model
}

func TestServesWhatOllamasPullAsks(t *testing.T) {
	r, _, manifest, blob := pair(t)
	sum := sha256.Sum256([]byte(manifest))
	name, withdraw := r.Offer("node", "tiny:latest", hex.EncodeToString(sum[:]))
	if !r.Offered(name) || !strings.HasSuffix(name, "/tiny:latest") {
		t.Fatalf("offered as %q", name)
	}
	at := base(t, name)
	if status, _, body := get(t, at+"/manifests/latest", ""); status != 200 || body != manifest {
		t.Errorf("manifest: %d %q", status, body)
	}
	resp, err := http.Head(at + "/blobs/" + blob)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != 200 || resp.ContentLength != 10000 {
		t.Errorf("HEAD: %d, %d bytes", resp.StatusCode, resp.ContentLength)
	}
	status, header, _ := get(t, at+"/blobs/"+blob, "")
	if status != 200 || header.Get("Location") != at+"/blobs/"+blob {
		t.Errorf("where: %d %q", status, header.Get("Location"))
	}
	if status, header, body := get(t, at+"/blobs/"+blob, "9995-9999"); status != 206 || body != "56789" || header.Get("Content-Range") != "bytes 9995-9999/10000" {
		t.Errorf("a chunk: %d %q %q", status, body, header.Get("Content-Range"))
	}
	withdraw()
	if status, _, _ := get(t, at+"/manifests/latest", ""); status != 404 || r.Offered(name) {
		t.Errorf("after it was withdrawn: %d", status)
	}
}

func TestGivesNothingWithoutATicketAndNothingElseWithOne(t *testing.T) {
	r, _, _, blob := pair(t)
	name, withdraw := r.Offer("node", "tiny", "")
	defer withdraw()
	at, host := base(t, name), "http://"+r.listener.Addr().String()
	for _, path := range []string{
		host + "/", host + "/v2/", host + "/v2/library/tiny/manifests/latest", host + "/v2/kage-copy-x/tiny/manifests/latest",
		host + "/v2/kage-copy-/tiny/manifests/latest", at + "/tags/list", at + "/blobs/" + blob + "/x",
	} {
		if status, _, _ := get(t, path, "0-1"); status != 404 {
			t.Errorf("%s: %d", path, status)
		}
	}
	for _, digest := range []string{"sha256:" + strings.Repeat("0", 64), "sha256:..", "%2e%2e"} {
		if status, _, _ := get(t, at+"/blobs/"+digest, "0-1"); status < 400 {
			t.Errorf("%s: %d", digest, status)
		}
	}
	if name, _ := r.Offer("node", "../etc/passwd", ""); name != "" {
		t.Errorf("offered %q", name)
	}
}

func TestAManifestThatChangedIsNotGivenOut(t *testing.T) {
	r, _, _, _ := pair(t)
	for node, digest := range map[mesh.NodeID]string{"node": strings.Repeat("0", 64), "gone": ""} {
		name, withdraw := r.Offer(node, "tiny", digest)
		// Not 404: Ollama would say that there is no such model.
		if status, _, body := get(t, base(t, name)+"/manifests/latest", ""); status != 409 && status != 502 {
			t.Errorf("%s: %d %s", node, status, body)
		}
		withdraw()
	}
}

func TestPeerSaysWhyItCannot(t *testing.T) {
	unreadable := filepath.Join(t.TempDir(), "models")
	p := Peer{Dirs: []string{unreadable}}
	for path, want := range map[string]int{
		ManifestPath + "tiny":                               404,
		ManifestPath + "../../etc/passwd":                   400,
		ManifestPath:                                        400,
		BlobPath + "sha256:" + strings.Repeat("0", 64):      404,
		BlobPath + "../../../etc/passwd":                    400,
		"/mesh/v1/other":                                    404,
		ManifestPath + "registry.ollama.ai/library/tiny:v1": 404,
	} {
		w := httptest.NewRecorder()
		p.ServeHTTP(w, &http.Request{Method: http.MethodGet, URL: &url.URL{Path: path}})
		if w.Code != want || strings.Contains(w.Body.String(), unreadable) {
			t.Errorf("%s: %d %q", path, w.Code, w.Body)
		}
	}
	w := httptest.NewRecorder()
	p.ServeHTTP(w, &http.Request{Method: http.MethodPost, URL: &url.URL{Path: ManifestPath + "tiny"}})
	if w.Code != http.StatusMethodNotAllowed {
		t.Errorf("POST: %d", w.Code)
	}
}

func TestSize(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if req.URL.Path != "/v2/library/tiny/manifests/1b" {
			http.NotFound(w, req)
			return
		}
		_, _ = io.WriteString(w, `{"config":{"size":10},"layers":[{"size":500},{"size":-7},{"size":90}]}`)
	}))
	defer server.Close()
	rt := link{map[string]*httptest.Server{"registry.ollama.ai": server}}
	if n, err := Size(t.Context(), rt, "tiny:1b"); err != nil || n != 600 {
		t.Errorf("%d, %v", n, err)
	}
	for _, name := range []string{"nosuch", "../x", "elsewhere.example/a/b"} {
		if n, err := Size(t.Context(), rt, name); err == nil {
			t.Errorf("%s: %d", name, n)
		}
	}
}
