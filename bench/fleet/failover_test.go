package fleet

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/ollamatest"
)

// One holder behind a router-only entry: a stream that its Ollama cuts, in
// whatever way, ends in an error of the caller's dialect and a connection that
// does not end cleanly. It never looks whole.
func TestCutStreamNeverLooksWhole(t *testing.T) {
	specs := append(ten()[:1], Spec{Name: "router", Hardware: ten()[0].Hardware})
	f := startFleet(t, specs)
	chat := `"messages":[{"role":"user","content":"x"}],"stream":true`
	routes := []struct{ path, body, frame, end string }{
		{"/api/generate", `{"model":"common","prompt":"x","options":{"num_predict":20}}`, "\n{\"error\":\"", `"done":true`},
		{"/api/chat", `{"model":"common",` + chat + `,"options":{"num_predict":20}}`, "\n{\"error\":\"", `"done":true`},
		{"/v1/chat/completions", `{"model":"common",` + chat + `,"max_tokens":20}`, "\n\ndata: {\"error\":{", "[DONE]"},
		{"/v1/completions", `{"model":"common","prompt":"x","stream":true,"max_tokens":20}`, "\n\ndata: {\"error\":{", "[DONE]"},
	}
	for _, cut := range []ollamatest.Kind{ollamatest.Die, ollamatest.CleanEOF, ollamatest.ErrorLine} {
		for _, route := range routes {
			t.Run(string(cut)+route.path, func(t *testing.T) {
				f.Node(0).Ollama.Fault(ollamatest.Fault{Kind: cut, After: 5, Half: cut == ollamatest.Die})
				req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, f.Node(1).Endpoint()+route.path, strings.NewReader(route.body))
				if err != nil {
					t.Fatal(err)
				}
				req.Header.Set("X-Kage-Continue", "off")
				resp, err := http.DefaultClient.Do(req)
				if err != nil {
					t.Fatal(err)
				}
				defer resp.Body.Close()
				body, err := io.ReadAll(resp.Body)
				if !errors.Is(err, io.ErrUnexpectedEOF) {
					t.Errorf("the connection ended with %v, want an unexpected EOF", err)
				}
				if !bytes.Contains(body, []byte(route.frame)) {
					t.Errorf("no error frame in\n%s", body)
				}
				if bytes.Contains(body, []byte(route.end)) {
					t.Errorf("looks whole:\n%s", body)
				}
			})
		}
	}
}

// Whatever goes wrong at one node before its first byte, the other answers.
func TestFailsBeforeTheFirstByteOnOneOfTwo(t *testing.T) {
	specs := append(ten()[:2], Spec{Name: "router", Hardware: ten()[0].Hardware})
	for _, fault := range []ollamatest.Fault{
		{Kind: ollamatest.Status, Status: 500},
		{Kind: ollamatest.Status, Status: 503},
		{Kind: ollamatest.Busy},
		{Kind: ollamatest.Reset},
		{Kind: ollamatest.Status, Status: 404, Text: `{"error":"model 'common' not found"}`},
	} {
		t.Run(string(fault.Kind)+" "+http.StatusText(fault.Status), func(t *testing.T) {
			f := startFleet(t, specs)
			fault.Times = ollamatest.Always
			f.Node(0).Ollama.Fault(fault)
			for i := range 40 {
				a := Ask(t.Context(), f.Node(2).Endpoint(), "common", "x", 4, i%2 == 0)
				if a.Err != nil {
					t.Fatalf("request %d: %v", i, a.Err)
				}
				if a.Node != "node-1" {
					t.Fatalf("request %d answered by %s", i, a.Node)
				}
			}
		})
	}
}

// A request that is the caller's own mistake is answered in Ollama's words, by
// one node, once.
func TestBadRequestIsNotTriedAgain(t *testing.T) {
	f := startFleet(t, ten()[:2])
	bad := ollamatest.Fault{Kind: ollamatest.Status, Status: 400, Text: `{"error":"no good"}`, Times: ollamatest.Always}
	f.Node(0).Ollama.Fault(bad)
	f.Node(1).Ollama.Fault(bad)
	a := Ask(t.Context(), f.Node(0).Endpoint(), "common", "x", 4, true)
	if a.Attempts != 1 || a.Err == nil || !strings.Contains(a.Err.Error(), `400 Bad Request: {"error":"no good"}`) {
		t.Errorf("%+v", a)
	}
}

// A node whose Ollama comes later picks it up and serves.
func TestOllamaAppearsLater(t *testing.T) {
	f := startFleet(t, ten()[:2])
	n := f.Node(0)
	n.Ollama.Kill()
	down := time.Now()
	waitFor(t, "the dead Ollama known", func() bool {
		a := Ask(t.Context(), n.Endpoint(), "common", "x", 4, false)
		return a.Err == nil && a.Node == "node-1"
	})
	t.Logf("work goes elsewhere %v after its Ollama died", time.Since(down).Round(time.Millisecond))
	if err := n.Ollama.Restart(); err != nil {
		t.Fatal(err)
	}
	up := time.Now()
	f.Node(1).Kill()
	waitFor(t, "its Ollama back in work", func() bool {
		a := Ask(t.Context(), n.Endpoint(), "common", "x", 4, false)
		return a.Err == nil && a.Node == "node-0"
	})
	t.Logf("serves %v after its Ollama came back", time.Since(up).Round(time.Millisecond))
}

// waitFor polls until ok.
func waitFor(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	deadline := time.Now().Add(patience)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("not %s within 20 s", what)
		}
		<-tick.C
	}
}
