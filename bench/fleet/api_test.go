package fleet

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/ollamatest"
)

// patience is for what is no promise about time: a test that waits so long has
// found something that does not happen, however busy the machine.
const patience = 5 * time.Minute

// startFleet starts specs and stops them with the test.
func startFleet(t *testing.T, specs []Spec) *Fleet {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	f, err := Start(ctx, specs, Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.Close)
	return f
}

// Bad input gets a clear error in the caller's dialect, from a node whatever
// it is; nothing unknown is passed on.
func TestBadInput(t *testing.T) {
	specs := append(ten()[:2], Spec{Name: "router", Hardware: ten()[0].Hardware})
	f := startFleet(t, specs)
	entry := f.Node(2).Endpoint()
	big := `{"model":"common","prompt":"` + strings.Repeat("x", 65<<20) + `"}`
	tests := []struct {
		name, method, path, body string
		status                   int
		want                     []string // in the answer
	}{
		{"unknown model", "POST", "/api/generate", `{"model":"comon"}`, 404, []string{`{"error":"model 'comon' not found`, "common"}},
		{"unknown model, chat", "POST", "/api/chat", `{"model":"nosuch","messages":[{"role":"user","content":"x"}]}`, 404, []string{`{"error":"`, "not found", "rare"}},
		{"unknown model, OpenAI", "POST", "/v1/chat/completions", `{"model":"nosuch","messages":[{"role":"user","content":"x"}]}`, 404, []string{`{"error":{"message":"`, `"type":"`, "not found"}},
		{"cut JSON", "POST", "/api/generate", `{"model":"common"`, 400, []string{`{"error":"unexpected EOF"}`}},
		{"cut JSON, OpenAI", "POST", "/v1/chat/completions", `{"model":`, 400, []string{`"type":"invalid_request_error"`}},
		{"no body", "POST", "/api/chat", ``, 400, []string{`{"error":"missing request body"}`}},
		{"two models", "POST", "/api/generate", `{"model":"common","model":"rare"}`, 400, []string{`{"error":"`}},
		{"no model", "POST", "/api/chat", `{"messages":[]}`, 400, []string{"model is required"}},
		{"body over the limit", "POST", "/api/generate", big, 413, []string{`{"error":"`}},
		{"unknown path", "GET", "/debug/pprof/", ``, 404, []string{"404 page not found"}},
		{"path tricks", "GET", "//api/../debug/pprof", ``, 400, []string{"must be a path"}},
		{"wrong method", "GET", "/api/generate", ``, 405, nil},
		{"bad header for options", "POST", "/api/generate", `{"model":"common","prompt":"x","options":{"num_predict":"many"}}`, 500, []string{`{"error":"`}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			req, err := http.NewRequestWithContext(t.Context(), tt.method, entry+tt.path, strings.NewReader(tt.body))
			if err != nil {
				t.Fatal(err)
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
			if resp.StatusCode != tt.status {
				t.Errorf("status %d, want %d: %s", resp.StatusCode, tt.status, body)
			}
			for _, want := range tt.want {
				if !bytes.Contains(body, []byte(want)) {
					t.Errorf("answer %s lacks %s", body, want)
				}
			}
		})
	}
	for _, n := range f.Nodes()[:2] {
		for path := range n.Ollama.Stats().Requests {
			if strings.Contains(path, "debug") || strings.Contains(path, "..") {
				t.Errorf("%s reached Ollama", path)
			}
		}
	}
}

func running(n int) func(ollamatest.Stats) bool {
	return func(s ollamatest.Stats) bool { return s.Running == n }
}

// A client that leaves stops the work at the owner's Ollama, over both hops,
// streamed or not.
func TestClientGoneStopsTheOwner(t *testing.T) {
	specs := append(ten()[:1], Spec{Name: "router", Hardware: ten()[0].Hardware})
	specs[0].Ollama.Models[0].Decode = 20
	f := startFleet(t, specs)
	ollama := f.Node(0).Ollama
	for _, stream := range []bool{true, false} {
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan Answer, 1)
		go func() { done <- Ask(ctx, f.Node(1).Endpoint(), "common", "long", 10_000, stream) }()
		wait, stop := context.WithTimeout(t.Context(), patience)
		if err := ollama.Await(wait, running(1)); err != nil {
			t.Fatal("the request never reached Ollama")
		}
		left := time.Now()
		cancel()
		if err := ollama.Await(wait, running(0)); err != nil {
			t.Fatalf("stream %v: Ollama still works", stream)
		}
		t.Logf("stream %v: Ollama stopped %v after the client left", stream, time.Since(left).Round(time.Millisecond))
		stop()
		if a := <-done; a.Err == nil {
			t.Error("the client got a whole answer")
		}
	}
}

// The merged listings are in Ollama's form, from a node without Ollama.
func TestMergedListings(t *testing.T) {
	f := startFleet(t, append(ten()[:2], Spec{Name: "router", Hardware: ten()[0].Hardware}))
	entry := f.Node(2).Endpoint()
	get := func(path string, into any) {
		t.Helper()
		resp, err := http.Get(entry + path)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if err := json.NewDecoder(resp.Body).Decode(into); err != nil || resp.StatusCode != http.StatusOK {
			t.Fatalf("%s: %s, %v", path, resp.Status, err)
		}
	}
	var tags struct {
		Models []struct {
			Name, Model, Digest string
			Size                int64
			Details             struct{ Family string }
		}
	}
	get("/api/tags", &tags)
	if len(tags.Models) != 3 {
		t.Fatalf("tags: %+v", tags)
	}
	for _, m := range tags.Models {
		if m.Name != m.Model || len(m.Digest) != 64 || m.Size == 0 || m.Details.Family != "llama" {
			t.Errorf("tags entry: %+v", m)
		}
	}
	if a := Ask(t.Context(), entry, "rare", "x", 4, true); a.Err != nil {
		t.Fatal(a.Err)
	}
	var ps struct {
		Models []struct {
			Name, Node, Digest string
			Size               int64
			ExpiresAt          time.Time `json:"expires_at"`
		}
	}
	deadline := time.Now().Add(patience)
	for len(ps.Models) == 0 && time.Now().Before(deadline) {
		get("/api/ps", &ps)
	}
	if len(ps.Models) != 1 || ps.Models[0].Name != "rare:latest" || ps.Models[0].Node != "node-0" ||
		ps.Models[0].Size == 0 || ps.Models[0].ExpiresAt.Before(time.Now()) {
		t.Errorf("ps: %+v", ps)
	}
	var models struct {
		Object string
		Data   []struct{ ID, Object string }
	}
	get("/v1/models", &models)
	if models.Object != "list" || len(models.Data) != 3 || models.Data[0].Object != "model" {
		t.Errorf("v1 models: %+v", models)
	}
	var health struct{ Status string }
	get("/health", &health)
	get("/health/node-0", &health)
	if health.Status != "online" {
		t.Errorf("health of node-0: %+v", health)
	}
	f.Node(0).Kill()
	f.Node(1).Kill()
	deadline = time.Now().Add(patience)
	for {
		resp, err := http.Get(entry + "/health")
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode == http.StatusServiceUnavailable {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("health still fine with every Ollama dead")
		}
	}
}
