package conformance

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"mime/multipart"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/ollamatest"
)

var (
	old    = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	recent = time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC)
)

func TestListingsAreMergedAndSayWhereModelsAre(t *testing.T) {
	f := start(t,
		machine("a", 32*gib, &ollamatest.Config{Version: "0.9.6", Models: []ollamatest.Model{
			{Name: "same", Size: gib, Modified: old}, {Name: "split", Size: gib, Digest: strings.Repeat("a", 64), Modified: old},
		}}),
		machine("b", 32*gib, &ollamatest.Config{Version: "0.33.0", Models: []ollamatest.Model{
			{Name: "same", Size: gib, Modified: recent},
			{Name: "split", Size: gib, Digest: strings.Repeat("b", 64), Modified: recent},
			{Name: "far:cloud", Remote: "https://ollama.com"},
		}}),
		machine("c", 8*gib, nil))
	url := f.Node(2).Endpoint()

	var list struct {
		Models []struct {
			Name   string
			Digest string
			Kage   struct {
				Nodes   []string
				Digests map[string]string
			}
		}
	}
	if err := json.Unmarshal(send(t, "GET", url+"/api/tags", nil).body, &list); err != nil || len(list.Models) != 2 {
		t.Fatalf("%+v, %v", list, err)
	}
	for _, m := range list.Models {
		if strings.Join(m.Kage.Nodes, "") != "ab" {
			t.Errorf("%s is on %v", m.Name, m.Kage.Nodes)
		}
		switch m.Name {
		case "same:latest":
			if m.Kage.Digests != nil {
				t.Errorf("equal copies said to differ: %v", m.Kage.Digests)
			}
		case "split:latest":
			if m.Digest != strings.Repeat("b", 64) || m.Kage.Digests["a"] != strings.Repeat("a", 64) {
				t.Errorf("the newest copy is not listed, or not the mismatch: %+v", m)
			}
		}
	}
	if got := send(t, "GET", url+"/api/version", nil).object(t); got["version"] != "0.9.6" || got["nodes"] != nil {
		t.Errorf("version: %v", got)
	}
	if got := send(t, "GET", url+"/api/version?verbose", nil).object(t)["nodes"].(map[string]any); got["b"] != "0.33.0" || got["a"] != "0.9.6" {
		t.Errorf("versions: %v", got)
	}
	for _, path := range []string{"/", "/api/version", "/api/tags"} {
		if r := send(t, "HEAD", url+path, nil); r.status != 200 || len(r.body) > 0 {
			t.Errorf("HEAD %s: %d %q", path, r.status, r.body)
		}
	}
	if r := send(t, "HEAD", url+"/api/ps", nil); r.status != http.StatusMethodNotAllowed {
		t.Errorf("HEAD /api/ps: %d", r.status)
	}
	if got := send(t, "GET", url+"/v1/models", nil).object(t)["data"].([]any); len(got) != 2 {
		t.Errorf("v1/models: %v", got)
	}
	if got := send(t, "GET", url+"/v1/models/same", nil).object(t); got["id"] != "same" || got["object"] != "model" {
		t.Errorf("v1/models/same: %v", got)
	}
	if r := send(t, "GET", url+"/v1/models/nosuch", nil); r.status != 404 {
		t.Errorf("v1/models/nosuch: %d", r.status)
	}
	if r := send(t, "POST", url+"/api/show", `{"model":"registry.ollama.ai/library/same"}`); r.status != 200 || r.object(t)["model_info"] == nil {
		t.Errorf("show: %d %s", r.status, r.body)
	}
	if r := send(t, "POST", url+"/api/show", `{"model":"nosuch"}`); r.status != 404 || !strings.HasPrefix(r.object(t)["error"].(string), "model 'nosuch") {
		t.Errorf("show nosuch: %d %s", r.status, r.body)
	}
	// The name means the weights that are listed.
	for range 6 {
		r := send(t, "POST", url+"/api/generate", `{"model":"split","prompt":"hi","stream":false,"options":{"num_predict":2}}`)
		if r.status != 200 || r.header.Get("X-Kage-Node") != "b" {
			t.Fatalf("answered %d by %q", r.status, r.header.Get("X-Kage-Node"))
		}
	}
	eventually(t, "the model in /api/ps, with its node", func() bool {
		models := send(t, "GET", url+"/api/ps", nil).object(t)["models"].([]any)
		return len(models) == 1 && models[0].(map[string]any)["node"] == "b"
	})
	if err := f.Node(1).Stop(); err != nil {
		t.Fatal(err)
	}
	if r := send(t, "POST", url+"/api/generate", `{"model":"split","prompt":"hi","stream":false,"options":{"num_predict":2}}`); r.header.Get("X-Kage-Node") != "a" {
		t.Errorf("with the newest gone: %d %s", r.status, r.body)
	}
}

// A newer version of a model comes to one node: conversations that have begun
// stay with what they began with, in every dialect, and new ones get the newer.
func TestAConversationStaysWithItsWeights(t *testing.T) {
	digest := func(c string) string { return strings.Repeat(c, 64) }
	f := start(t,
		machine("a", 32*gib, &ollamatest.Config{Models: []ollamatest.Model{{Name: "m", Size: gib, Digest: digest("a"), Modified: old}}}),
		machine("b", 64*gib, &ollamatest.Config{Catalog: []ollamatest.Model{{Name: "m", Size: gib, Digest: digest("b")}}}),
		machine("entry", 8*gib, nil))
	url := f.Node(2).Endpoint()
	ask := func(path string, turns ...string) reply {
		t.Helper()
		var messages []any
		for i, text := range turns {
			messages = append(messages, map[string]any{"role": []string{"user", "assistant"}[i%2], "content": text})
		}
		body := map[string]any{"model": "m", "max_tokens": 4, "options": map[string]any{"num_predict": 4}}
		body["messages"], body["input"] = messages, messages
		r := send(t, "POST", url+path, body)
		if r.status != 200 {
			t.Fatalf("%s: %d %s", path, r.status, r.body)
		}
		return r
	}
	by := func(r reply) string { return r.header.Get("X-Kage-Node") + " " + r.header.Get("X-Kage-Digest") }
	paths := []string{"/api/chat", "/v1/chat/completions", "/v1/messages", "/v1/responses"}
	for _, path := range paths {
		if got := by(ask(path, "hello from "+path)); got != "a " {
			t.Errorf("%s: by %q", path, got)
		}
	}
	if r := send(t, "POST", url+"/api/pull?node=b&source=registry", `{"model":"m","stream":false}`); r.status != 200 {
		t.Fatalf("pull: %d %s", r.status, r.body)
	}
	for _, path := range paths {
		for range 3 {
			if got := by(ask(path, "hello from "+path, "hi", "go on")); got != "a "+digest("a") {
				t.Errorf("%s: the next turn by %q", path, got)
			}
		}
		if got := by(ask(path, "another one from "+path)); got != "b "+digest("b") {
			t.Errorf("%s: a new conversation by %q", path, got)
		}
	}
	if err := f.Node(0).Stop(); err != nil {
		t.Fatal(err)
	}
	for _, path := range paths {
		if got := by(ask(path, "hello from "+path, "hi", "go on", "yes", "and then")); !strings.HasPrefix(got, "b ") {
			t.Errorf("%s: with its weights gone by %q", path, got)
		}
	}
}

func TestCloudModelsStayWithTheirOwner(t *testing.T) {
	cloud := []ollamatest.Model{{Name: "far:cloud", Remote: "https://ollama.com"}, {Name: "near", Size: gib}}
	f := start(t, machine("owner", 32*gib, &ollamatest.Config{Models: cloud}), machine("entry", 8*gib, nil))
	entry := f.Node(1).Endpoint()
	if names := modelNames(t, entry); len(names) != 1 || names[0] != "near:latest" {
		t.Errorf("another node lists %v", names)
	}
	if names := modelNames(t, f.Node(0).Endpoint()); len(names) != 2 {
		t.Errorf("the owner lists %v", names)
	}
	for _, path := range []string{"/api/chat", "/v1/chat/completions", "/v1/messages"} {
		for _, model := range []string{"far:cloud", "other:120b-cloud"} {
			r := send(t, "POST", entry+path, map[string]any{"model": model, "max_tokens": 5, "messages": []any{map[string]any{"role": "user", "content": "hi"}}})
			if r.status != http.StatusForbidden {
				t.Errorf("%s %s through another node: %d %s", path, model, r.status, r.body)
			}
		}
	}
}

func TestNewRoutesGoToNewOllamasOnly(t *testing.T) {
	models := []ollamatest.Model{{Name: "m", Size: gib}}
	f := start(t,
		machine("old", 64*gib, &ollamatest.Config{Version: "0.9.6", Models: append(models, ollamatest.Model{Name: "onlyold", Size: gib})}),
		machine("new", 32*gib, &ollamatest.Config{Version: "0.33.0", Models: models}),
		machine("entry", 8*gib, nil))
	url := f.Node(2).Endpoint()
	for range 5 {
		r := send(t, "POST", url+"/v1/messages", `{"model":"m","max_tokens":4,"messages":[{"role":"user","content":"hi"}]}`)
		if r.status != 200 || r.header.Get("X-Kage-Node") != "new" || r.header.Get("X-Kage-Attempts") != "1" {
			t.Fatalf("%d by %q in %q: %s", r.status, r.header.Get("X-Kage-Node"), r.header.Get("X-Kage-Attempts"), r.body)
		}
		if r := send(t, "POST", url+"/v1/responses", `{"model":"m","input":"hi","max_output_tokens":4}`); r.status != 200 {
			t.Fatalf("%d %s", r.status, r.body)
		}
	}
	r := send(t, "POST", url+"/v1/messages", `{"model":"onlyold","max_tokens":4,"messages":[{"role":"user","content":"hi"}]}`)
	if r.status != 404 || r.object(t)["type"] != "error" || !strings.Contains(string(r.body), "old has 0.9.6") {
		t.Errorf("only on an old node: %d %s", r.status, r.body)
	}
	if r := send(t, "POST", url+"/api/generate", `{"model":"onlyold","prompt":"x","stream":false}`); r.status != 200 {
		t.Errorf("an old route: %d", r.status)
	}
}

func TestUnsaidVersionIsTriedAndA404LeadsOn(t *testing.T) {
	models := []ollamatest.Model{{Name: "m", Size: gib}}
	f := start(t,
		machine("old", 64*gib, &ollamatest.Config{Version: "0.9.6", Reports: "0.0.0", Models: models}),
		machine("new", 32*gib, &ollamatest.Config{Version: "0.33.0", Reports: "0.0.0", Models: models}))
	for range 4 {
		r := send(t, "POST", f.Node(0).Endpoint()+"/v1/messages", `{"model":"m","max_tokens":4,"messages":[{"role":"user","content":"hi"}]}`)
		if r.status != 200 || r.header.Get("X-Kage-Node") != "new" {
			t.Fatalf("%d by %q: %s", r.status, r.header.Get("X-Kage-Node"), r.body)
		}
	}
	f = start(t, machine("old", 64*gib, &ollamatest.Config{Version: "0.9.6", Models: models}))
	r := send(t, "POST", f.Node(0).Endpoint()+"/v1/messages", `{"model":"m","max_tokens":4,"messages":[]}`)
	if r.status != 404 || string(r.body) != "404 page not found" {
		t.Errorf("in an old mesh: %d %q", r.status, r.body)
	}
}

func TestCompressedAndMultipartBodies(t *testing.T) {
	f := start(t, machine("a", 32*gib, &ollamatest.Config{Models: []ollamatest.Model{{Name: "m", Size: gib}}}), machine("entry", 8*gib, nil))
	url := f.Node(1).Endpoint()
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	z.Write([]byte(`{"model":"m","prompt":"hi","stream":false,"options":{"num_predict":2},"some_future_field":{"x":1}}`))
	z.Close()
	if r := send(t, "POST", url+"/api/generate", packed.Bytes(), "Content-Encoding", "gzip"); r.status != 200 {
		t.Errorf("gzip: %d %s", r.status, r.body)
	}
	if r := send(t, "POST", url+"/api/generate", "x", "Content-Encoding", "br"); r.status != http.StatusUnsupportedMediaType {
		t.Errorf("br: %d", r.status)
	}
	var form bytes.Buffer
	m := multipart.NewWriter(&form)
	m.WriteField("model", "nosuch")
	part, _ := m.CreateFormFile("file", "a.wav")
	part.Write(make([]byte, 4096))
	m.Close()
	r := send(t, "POST", url+"/v1/audio/transcriptions", form.Bytes(), "Content-Type", m.FormDataContentType())
	if r.status != 404 || !strings.Contains(string(r.body), "nosuch") {
		t.Errorf("transcription of an unknown model: %d %s", r.status, r.body)
	}
	if r := send(t, "POST", url+"/v1/audio/transcriptions", `{"model":"m"}`); r.status != 400 {
		t.Errorf("transcription without a form: %d %s", r.status, r.body)
	}
}
