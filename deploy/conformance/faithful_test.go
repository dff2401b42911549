package conformance

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/ollamatest"
)

// scripted is an Ollama whose answers to inference are given byte by byte, and
// which keeps the bodies that it was sent.
type scripted struct {
	mu      sync.Mutex
	answers map[string][]byte // by path
	stream  string            // Content-Type
	got     []byte
	header  http.Header
	rest    http.Handler
}

func (s *scripted) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	s.mu.Lock()
	answer, ok := s.answers[req.URL.Path]
	s.mu.Unlock()
	if !ok {
		s.rest.ServeHTTP(w, req)
		return
	}
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return
	}
	s.mu.Lock()
	s.got, s.header = body, req.Header.Clone()
	kind := s.stream
	s.mu.Unlock()
	w.Header().Set("Content-Type", kind)
	for len(answer) > 0 { // in pieces that are no lines
		n := min(len(answer), 1000)
		if _, err := w.Write(answer[:n]); err != nil {
			return
		}
		http.NewResponseController(w).Flush()
		answer = answer[n:]
	}
}

// scriptedMesh is a mesh of an entry without Ollama and a node with a scripted
// one.
func scriptedMesh(t *testing.T) (*scripted, string) {
	t.Helper()
	fake := ollamatest.Start(t, ollamatest.Config{Models: []ollamatest.Model{{Name: "m", Size: gib}}})
	to, err := url.Parse(fake.URL())
	if err != nil {
		t.Fatal(err)
	}
	s := &scripted{rest: &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(to) }}}
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	spec := machine("owner", 32*gib, nil)
	spec.Host = strings.TrimPrefix(server.URL, "http://")
	f := start(t, spec, machine("entry", 8*gib, nil))
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if _, err := f.Node(1).Mesh().Wait(ctx, held("m:latest", 1)); err != nil {
		t.Fatal(err)
	}
	return s, f.Node(1).Endpoint()
}

func TestAnswersArriveByteForByte(t *testing.T) {
	s, url := scriptedMesh(t)
	long := strings.Repeat("0123456789abcdef", 4096) // 64 KiB
	ndjson := func(lines ...string) string { return strings.Join(lines, "\n") + "\n" }
	sse := func(data ...string) string {
		return "data: " + strings.Join(data, "\n\ndata: ") + "\n\ndata: [DONE]\n\n"
	}
	for _, c := range []struct{ name, path, kind, answer string }{
		{"a line of 64 KiB", "/api/chat", "application/x-ndjson", ndjson(
			`{"model":"m","message":{"role":"assistant","content":"`+long+`"},"done":false}`,
			`{"model":"m","message":{"role":"assistant","content":""},"done":true,"done_reason":"stop","eval_count":1}`)},
		{"a line of 2 MiB", "/api/generate", "application/x-ndjson", ndjson(
			`{"model":"m","response":"`+strings.Repeat(long, 32)+`","done":false}`, `{"model":"m","response":"","done":true}`)},
		{"odd spacing, order and unknown fields", "/api/generate", "application/x-ndjson", ndjson(
			`{ "done" : false , "zzz":[1, 2.50, 1e3],"response":"\u00e9\ud83d\ude00<>&" , "model":"m"}`,
			``, `{"response":"","done":true,"new":{"a":null}}`)},
		{"a tool call", "/api/chat", "application/x-ndjson", ndjson(
			`{"message":{"role":"assistant","content":"","tool_calls":[{"id":"call_1","function":{"index":0,"name":"f","arguments":{"b":1,"a":{"z":[]}}}}]},"done":false}`,
			`{"message":{"role":"assistant","content":""},"done":true,"done_reason":"stop"}`)},
		{"thinking", "/api/chat", "application/x-ndjson", ndjson(
			`{"message":{"role":"assistant","content":"","thinking":" hm "},"done":false}`,
			`{"message":{"role":"assistant","content":"x"},"done":false}`, `{"message":{"role":"assistant","content":""},"done":true}`)},
		{"chunks of OpenAI's", "/v1/chat/completions", "text/event-stream", sse(
			`{"id":"c","object":"chat.completion.chunk","choices":[{"index":0,"delta":{"role":"assistant","content":"`+long+`"},"finish_reason":null}]}`,
			`{"id":"c","choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"id":"x","function":{"name":"f","arguments":"{\"a\": 1}"}}]},"finish_reason":null}]}`,
			`{"id":"c","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}`)},
		{
			"events of Anthropic's", "/v1/messages", "text/event-stream",
			"event: message_start\ndata: {\"type\":\"message_start\",\"message\":{}}\n\nevent: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"hi\"}}\n\n" +
				"event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"}}\n\nevent: message_stop\ndata: {\"type\":\"message_stop\"}\n\n",
		},
		{
			"one schema-bound object", "/api/chat", "application/json; charset=utf-8",
			`{"model":"m","message":{"role":"assistant","content":"{\n  \"ok\": true}"},"done":true}`,
		},
		{
			"a batch of embeddings", "/api/embed", "application/json; charset=utf-8",
			`{"model":"m","embeddings":[` + strings.Repeat(`[0.010000000,-1e-07,3],`, 500) + `[0]]}`,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			s.mu.Lock()
			s.answers, s.stream = map[string][]byte{c.path: []byte(c.answer)}, c.kind
			s.mu.Unlock()
			stream := !strings.HasPrefix(c.kind, "application/json;")
			r := send(t, "POST", url+c.path, map[string]any{
				"model": "m", "stream": stream, "messages": []any{map[string]any{"role": "user", "content": "x"}}, "prompt": "x", "input": "x", "max_tokens": 9,
			}, "X-Kage-Continue", "off")
			if r.status != 200 || r.header.Get("Content-Type") != c.kind || r.header.Get("X-Kage-Node") != "owner" {
				t.Errorf("%d %q by %q", r.status, r.header.Get("Content-Type"), r.header.Get("X-Kage-Node"))
			}
			if !bytes.Equal(r.body, []byte(c.answer)) {
				t.Errorf("%d bytes became %d, different from byte %d on:\n%.200q", len(c.answer), len(r.body), differ(r.body, []byte(c.answer)), r.body)
			}
		})
	}
}

func differ(a, b []byte) int {
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return i
		}
	}
	return min(len(a), len(b))
}

func TestRequestsArriveByteForByte(t *testing.T) {
	s, url := scriptedMesh(t)
	s.answers = map[string][]byte{"/api/chat": []byte(`{"message":{"role":"assistant","content":"seen"},"done":true}`)}
	s.stream = "application/json; charset=utf-8"
	random := rand.New(rand.NewPCG(1, 2))
	image := make([]byte, 15<<20)
	for i := range image {
		image[i] = byte(random.Uint32())
	}
	encoded, err := json.Marshal(image) // base64, 20 MB
	if err != nil {
		t.Fatal(err)
	}
	for _, body := range []string{
		fmt.Sprintf(`{"model":"m","stream":false,"messages":[{"role":"user","content":"what is it","images":[%s]}]}`, encoded),
		"{ \"messages\" : [ ] ,\n\t\"stream\":false, \"model\" : \"M:latest\", \"options\":{\"num_ctx\": 4.0e3 ,\"zz\":[]},\"future\":{\"x\":\"\\u0041\"}}\n",
	} {
		r := send(t, "POST", url+"/api/chat", body, "Content-Type", "application/json", "Authorization", "Bearer secret", "Cookie", "a=b", "X-Custom", "kept")
		if r.status != 200 {
			t.Fatalf("%d %.300s", r.status, r.body)
		}
		s.mu.Lock()
		if sha256.Sum256(s.got) != sha256.Sum256([]byte(body)) {
			t.Errorf("%d bytes became %d", len(body), len(s.got))
		}
		if s.header.Get("Authorization") != "" || s.header.Get("Cookie") != "" || s.header.Get("X-Custom") != "kept" {
			t.Errorf("headers: %v", s.header)
		}
		s.mu.Unlock()
	}
}
