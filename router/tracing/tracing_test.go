package tracing_test

import (
	"context"
	"encoding/hex"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	common "go.opentelemetry.io/proto/otlp/common/v1"
	otlp "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/bench/fleet"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/tracing"
)

// receiver is a collector that keeps what it gets.
type receiver struct {
	*httptest.Server
	mu    sync.Mutex
	raw   strings.Builder // all that came, to look for what must not
	spans []seen
	paths map[string]bool
}

type seen struct {
	node string // service.instance.id
	span *otlp.Span
}

func newReceiver(t *testing.T) *receiver {
	t.Helper()
	r := &receiver{paths: map[string]bool{}}
	r.Server = httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, req *http.Request) {
		body, err := io.ReadAll(req.Body)
		var export collector.ExportTraceServiceRequest
		if err != nil || proto.Unmarshal(body, &export) != nil {
			t.Errorf("not an export: %v", err)
			return
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		r.raw.Write(body)
		r.paths[req.URL.Path] = true
		for _, rs := range export.ResourceSpans {
			node, _ := get(rs.Resource.Attributes, "service.instance.id")
			for _, ss := range rs.ScopeSpans {
				for _, s := range ss.Spans {
					r.spans = append(r.spans, seen{node, s})
				}
			}
		}
	}))
	t.Cleanup(r.Close)
	return r
}

func get(attributes []*common.KeyValue, key string) (string, bool) {
	for _, a := range attributes {
		if a.Key == key {
			if n := a.Value.GetIntValue(); n != 0 {
				return "number", true
			}
			return a.Value.GetStringValue(), true
		}
	}
	return "", false
}

// trace lists the spans of one trace by "node name".
func (r *receiver) trace(id string) map[string]*otlp.Span {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := map[string]*otlp.Span{}
	for _, s := range r.spans {
		if hex.EncodeToString(s.span.TraceId) == id {
			out[s.node+" "+s.span.Name] = s.span
		}
	}
	return out
}

// One request of a traced client crosses the hop: its spans on both nodes hang
// together, carry names and numbers, and no word of the prompt.
func TestTraceCrossesTheHop(t *testing.T) {
	got := newReceiver(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var all []*tracing.Tracing
	f, err := fleet.Start(ctx, fleet.Household(3, 50), fleet.Options{Version: "test", Tracer: func(name string) router.Tracer {
		tr, err := tracing.New(ctx, tracing.Config{Endpoint: got.URL, Node: name, Version: "test", Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, tr)
		return tr
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	const trace, parent = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
	ask := func(header string) string {
		body := `{"model":"qwen2.5:32b","messages":[{"role":"user","content":"zanzibar"}],"options":{"num_predict":5}}`
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, f.Node(0).Endpoint()+"/api/chat", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		if header != "" {
			req.Header.Set("Traceparent", header)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if _, err := io.Copy(io.Discard, resp.Body); err != nil || resp.StatusCode != 200 {
			t.Fatalf("%d %v", resp.StatusCode, err)
		}
		return resp.Header.Get("X-Kage-Node")
	}
	owner := ask("00-" + trace + "-" + parent + "-01")
	ask("00-" + strings.Repeat("ab", 16) + "-" + parent + "-00") // its caller chose not to be traced
	f.Close()
	for _, tr := range all {
		if err := tr.Close(ctx); err != nil {
			t.Error(err)
		}
	}
	in := f.Node(0).Spec.Name
	spans := got.trace(trace)
	request, try, owned := spans[in+" chat qwen2.5:32b"], spans[in+" try "+owner], spans[owner+" chat qwen2.5:32b"]
	if len(spans) != 3 || request == nil || try == nil || owned == nil || owner == in {
		t.Fatalf("answered by %s, spans %v", owner, spans)
	}
	if hex.EncodeToString(request.ParentSpanId) != parent || string(try.ParentSpanId) != string(request.SpanId) || string(owned.ParentSpanId) != string(try.SpanId) {
		t.Error("the spans do not hang together")
	}
	for key, want := range map[string]string{
		"gen_ai.operation.name": "chat", "gen_ai.provider.name": "ollama", "gen_ai.request.model": "qwen2.5:32b",
		"gen_ai.usage.output_tokens": "number", "gen_ai.usage.input_tokens": "number", "server.address": owner,
		"http.response.status_code": "number", "kage.outcome": "ok", "kage.route": "chat",
	} {
		if value, ok := get(request.Attributes, key); !ok || value != want {
			t.Errorf("%s is %q, want %q", key, value, want)
		}
	}
	if value, _ := get(owned.Attributes, "kage.outcome"); value != "ok" {
		t.Errorf("the owner's span ended %q", value)
	}
	if owned.StartTimeUnixNano < request.StartTimeUnixNano || owned.EndTimeUnixNano <= owned.StartTimeUnixNano {
		t.Error("the owner's span is not inside of the request's")
	}
	if len(got.trace(strings.Repeat("ab", 16))) != 0 {
		t.Error("a trace that is not sampled was sent")
	}
	if !got.paths["/v1/traces"] || len(got.paths) != 1 {
		t.Errorf("sent to %v", got.paths)
	}
	if strings.Contains(got.raw.String(), "zanzibar") {
		t.Error("the prompt is in the trace")
	}
}

// A node that fails is a failed try, and not a failed request.
func TestFailedTry(t *testing.T) {
	got := newReceiver(t)
	tr, err := tracing.New(t.Context(), tracing.Config{Endpoint: got.URL + "/", Node: "a"})
	if err != nil {
		t.Fatal(err)
	}
	s := tr.Request(http.Header{}, router.Record{ID: "1", Route: "v1-embeddings", Model: "m", Start: time.Now()})
	s.Try("b").Tried(router.Attempt{Node: "b", Phase: "header", Result: "unreachable"})
	s.Try("c").Tried(router.Attempt{Node: "c", Phase: "stream", Result: router.ResultOK})
	s.Ended(router.Record{Outcome: router.OutcomeOK, Status: 200, Owner: "c"})
	tr.Request(http.Header{}, router.Record{Route: "show"}).Ended(router.Record{Outcome: router.OutcomeBusy, Status: 503})
	if err := tr.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	status := map[string]string{}
	for _, s := range got.spans {
		status[s.span.Name], _ = get(s.span.Attributes, "error.type")
	}
	want := map[string]string{"embeddings m": "", "try b": "unreachable", "try c": "", "show": "busy"}
	for name, errorType := range want {
		if value, ok := status[name]; !ok || value != errorType {
			t.Errorf("%s: %q, want %q (%v)", name, value, errorType, status)
		}
	}
}

func TestEndpoint(t *testing.T) {
	for _, url := range []string{"", "localhost:4318", "ftp://x", "http://", "http://[x"} {
		if _, err := tracing.New(t.Context(), tracing.Config{Endpoint: url}); err == nil {
			t.Errorf("%q is taken", url)
		}
	}
}
