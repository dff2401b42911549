package conformance

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/bench/fleet"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh/hardware"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/ollamatest"
)

const gib = 1 << 30

// machine is a node with so much memory for models.
func machine(name string, memory uint64, o *ollamatest.Config) fleet.Spec {
	amount := hardware.Bytes{N: memory, Source: hardware.Configured}
	if o != nil {
		o.Name = name
	}
	return fleet.Spec{Name: name, Ollama: o, Hardware: hardware.Inventory{
		OS: "linux", Arch: "amd64", Cores: 8, Role: "cpu", RAM: amount, RAMFree: amount,
	}}
}

func start(t *testing.T, specs ...fleet.Spec) *fleet.Fleet {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	f, err := fleet.Start(ctx, specs, fleet.Options{Version: "test"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.Close)
	return f
}

// reply is a whole answer.
type reply struct {
	status int
	header http.Header
	body   []byte
}

// object is the body as JSON.
func (r reply) object(t *testing.T) map[string]any {
	t.Helper()
	var v map[string]any
	if err := json.Unmarshal(r.body, &v); err != nil {
		t.Fatalf("%v in %q", err, r.body)
	}
	return v
}

// lines is the body as NDJSON.
func (r reply) lines(t *testing.T) []map[string]any {
	t.Helper()
	var out []map[string]any
	for line := range bytes.Lines(r.body) {
		var v map[string]any
		if err := json.Unmarshal(line, &v); err != nil {
			t.Fatalf("%v in line %q", err, line)
		}
		out = append(out, v)
	}
	return out
}

// send makes one request; body is JSON text, raw bytes or something to marshal.
func send(t *testing.T, method, url string, body any, headers ...string) reply {
	t.Helper()
	var reader io.Reader = http.NoBody
	switch b := body.(type) {
	case nil:
	case string:
		reader = strings.NewReader(b)
	case []byte:
		reader = bytes.NewReader(b)
	default:
		text, err := json.Marshal(b)
		if err != nil {
			t.Fatal(err)
		}
		reader = bytes.NewReader(text)
	}
	req, err := http.NewRequestWithContext(t.Context(), method, url, reader)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i+1 < len(headers); i += 2 {
		if headers[i] == "Host" {
			req.Host = headers[i+1]
		}
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	out, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatalf("%s %s: %v after %q", method, url, err, out)
	}
	return reply{resp.StatusCode, resp.Header, out}
}

// modelNames lists /api/tags.
func modelNames(t *testing.T, url string) []string {
	t.Helper()
	var list struct{ Models []struct{ Name string } }
	if err := json.Unmarshal(send(t, "GET", url+"/api/tags", nil).body, &list); err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, m := range list.Models {
		names = append(names, m.Name)
	}
	return names
}

// eventually waits until ok, which becomes so by itself within seconds.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(15 * time.Second); !ok(); <-tick.C {
		if time.Now().After(end) {
			t.Fatalf("never: %s", what)
		}
	}
}

// held is a view in which n nodes have the model, with its shape.
func held(key string, n int) func(*mesh.View) bool {
	return func(v *mesh.View) bool {
		known := 0
		for _, h := range v.Holders(key) {
			if h.Model.Layers > 0 || h.Model.Blob != "" {
				known++
			}
		}
		return known >= n
	}
}

// serving is a view in which n nodes have a running Ollama.
func serving(n int) func(*mesh.View) bool {
	return func(v *mesh.View) bool {
		up := 0
		for _, m := range v.Members() {
			if m.Serving() {
				up++
			}
		}
		return up >= n
	}
}

// decode reads a GET's answer.
func decode(t *testing.T, url string, v any) {
	t.Helper()
	if err := json.Unmarshal(send(t, "GET", url, nil).body, v); err != nil {
		t.Fatal(err)
	}
}
