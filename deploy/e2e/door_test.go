//go:build linux

package e2e

import (
	"bytes"
	"compress/gzip"
	"context"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/deploy/lab"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/deploy/need"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/ollamatest"
)

// The door of a node as its owner sets it, seen from the network: one network
// is let in, the rest needs a key that can be given and taken away.
func TestTheDoorFromTheNetwork(t *testing.T) {
	need.NotShort(t, "hosts in namespaces")
	l := lab.Up(t, 3)
	node, guest, friend := newHost(t, l.Node(1)), l.Node(2), l.Node(3)
	node.fakeOllama(ollamatest.Model{Name: "tiny", Size: 1 << 20, Decode: 2000})
	node.join("--no-mdns", "--require-key", "--allow", friend.IP().String())
	await(t, patience, "the model known", func() bool {
		m, _ := node.members()
		return len(m.Members) == 1 && len(m.Members[0].Models) == 1
	})
	at := "http://" + node.IP().String() + ":11435"
	ask := func(from *lab.Node, base, method, path string, header ...string) (int, http.Header, string) {
		t.Helper()
		body := `{"model":"tiny","prompt":"` + promptCanary + `","stream":false,"options":{"num_predict":2}}`
		req, err := http.NewRequestWithContext(context.Background(), method, base+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		for i := 0; i < len(header); i += 2 {
			if header[i] == "Host" {
				req.Host = header[i+1]
			}
			req.Header.Set(header[i], header[i+1])
		}
		resp, err := from.HTTPClient().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, resp.Header, string(text)
	}
	const here = "http://127.0.0.1:11435"
	type row struct {
		who    string
		from   *lab.Node
		base   string
		header []string
		want   map[string]int
	}
	check := func(t *testing.T, rows ...row) {
		t.Helper()
		for _, r := range rows {
			for route, want := range r.want {
				method, path, _ := strings.Cut(route, " ")
				if got, _, text := ask(r.from, r.base, method, path, r.header...); got != want {
					t.Errorf("%s, %s: %d, want %d: %s", r.who, route, got, want, text)
				}
			}
		}
	}
	closed := map[string]int{
		"POST /api/generate": 401, "GET /api/tags": 401, "POST /api/show": 401, "GET /v1/models": 401,
		"DELETE /api/delete": 403, "POST /api/me": 403, "GET /metrics": 403, "GET /mesh/v1/members": 403,
		"POST /mesh/v1/drain": 403, "POST /mesh/v1/leave": 403, "GET /mesh/": 403, "GET /debug/pprof": 404, "GET /mesh/v1/id": 200,
	}
	reads := map[string]int{
		"POST /api/generate": 200, "GET /api/tags": 200, "GET /v1/models": 200,
		"DELETE /api/delete": 403, "GET /metrics": 403, "GET /mesh/v1/members": 403, "POST /mesh/v1/leave": 403, "GET /debug/pprof": 404,
	}
	check(t,
		row{"a guest", guest, at, nil, closed},
		row{"a guest with the key of a client's manual", guest, at, []string{"Authorization", "Bearer ollama"}, closed},
		row{"a guest that says it is here", guest, at, []string{"X-Forwarded-For", "127.0.0.1"}, closed},
		row{"the network that is allowed", friend, at, nil, reads},
		row{"the machine itself", node.Node, here, nil, map[string]int{
			"POST /api/generate": 200, "GET /metrics": 200, "GET /mesh/v1/members": 200, "GET /mesh/": 200, "GET /debug/pprof": 404,
		}},
		row{"a page of another site, here", node.Node, here, []string{"Origin", "https://evil.example"}, map[string]int{
			"POST /api/generate": 403, "GET /api/tags": 403, "GET /mesh/v1/members": 403,
		}},
		row{"a page whose name was resolved to here", node.Node, here, []string{"Host", "evil.example"}, map[string]int{
			"POST /api/generate": 403, "GET /api/tags": 403, "GET /mesh/v1/members": 403,
		}},
	)

	key := strings.TrimSpace(string(node.run("apikeys", "add", "--state-dir", node.State, "--rate", "6", "phone")))
	admin := strings.TrimSpace(string(node.run("apikeys", "add", "--state-dir", node.State, "--scope", "admin", "laptop")))
	bearer := []string{"Authorization", "Bearer " + key}
	await(t, patience, "the key known", func() bool {
		status, _, _ := ask(guest, at, http.MethodGet, "/mesh/v1/members", "x-api-key", admin)
		return status == http.StatusOK
	})
	if status, _, text := ask(guest, at, http.MethodPost, "/api/generate", bearer...); status != http.StatusOK {
		t.Errorf("with a key: %d %s", status, text)
	}
	if status, h, text := ask(guest, at, http.MethodPost, "/api/generate", bearer...); status != http.StatusTooManyRequests || h.Get("Retry-After") == "" {
		t.Errorf("six a minute, at once: %d, Retry-After %q: %s", status, h.Get("Retry-After"), text)
	}
	node.run("apikeys", "remove", "--state-dir", node.State, "phone")
	await(t, patience, "the key taken away", func() bool {
		status, _, _ := ask(guest, at, http.MethodGet, "/api/tags", bearer...)
		return status == http.StatusUnauthorized
	})
	file := filepath.Join(t.TempDir(), "bundle.tar.gz")
	said, _ := node.Command(t.Context(), binary, "doctor", "--bundle", file).CombinedOutput() // it ends with 1 where it finds something
	told := append(unpack(t, file), said...)
	for what, text := range map[string]string{"what doctor tells": string(told), "the log": node.stderr()} {
		for _, secret := range []string{key, admin, promptCanary} {
			if strings.Contains(text, secret) {
				t.Errorf("%.10s... is in %s", secret, what)
			}
		}
	}
	if !bytes.Contains(told, []byte("kage_attempts_total")) {
		t.Errorf("no metrics are in the bundle; the test proves nothing: %s", said)
	}
}

// unpack is all text of a .tar.gz.
func unpack(t *testing.T, file string) []byte {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	zip, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(zip) // of a tar, the files as they are
	if err != nil {
		t.Fatal(err)
	}
	return text
}
