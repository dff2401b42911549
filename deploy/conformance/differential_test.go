//go:build linux || darwin

package conformance

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/deploy/need"
)

// question is one raw request. Two differences are meant and not asked for: the
// mesh matches paths byte for byte where Ollama cleans "//api/tags", and refuses
// a body with two models, which parsers read differently.
type question struct {
	name, method, path string
	body               any
	headers            []string
}

func questions() []question {
	few := map[string]any{"num_predict": 6, "temperature": 0}
	hello := []any{map[string]any{"role": "user", "content": "hi"}}
	tool := []any{map[string]any{"type": "function", "function": map[string]any{
		"name": "get_weather", "description": "weather", "parameters": map[string]any{"type": "object", "properties": map[string]any{"city": map[string]any{"type": "string"}}},
	}}}
	big := strings.Repeat("QUJD", 5<<20) // 20 MB of base64
	type m = map[string]any
	all := []question{
		{name: "root", method: "GET", path: "/"},
		{name: "root HEAD", method: "HEAD", path: "/"},
		{name: "version", method: "GET", path: "/api/version"},
		{name: "version HEAD", method: "HEAD", path: "/api/version"},
		{name: "tags", method: "GET", path: "/api/tags"},
		{name: "tags HEAD", method: "HEAD", path: "/api/tags"},
		{name: "ps HEAD", method: "HEAD", path: "/api/ps"},
		{name: "v1 models", method: "GET", path: "/v1/models"},
		{name: "v1 model", method: "GET", path: "/v1/models/tiny"},
		{name: "v1 model unknown", method: "GET", path: "/v1/models/nosuch"},
		{name: "unknown path", method: "GET", path: "/api/nosuch"},
		{name: "wrong method", method: "GET", path: "/api/generate"},
		{name: "wrong method, delete", method: "POST", path: "/api/delete", body: m{"model": "x"}},
		{name: "newer route", method: "POST", path: "/v1/messages", body: m{"model": "tiny", "max_tokens": 4, "messages": hello}},
		{name: "show", method: "POST", path: "/api/show", body: m{"model": "tiny"}},
		{name: "show by name", method: "POST", path: "/api/show", body: m{"name": "registry.ollama.ai/library/TINY:latest"}},
		{name: "show verbose", method: "POST", path: "/api/show", body: m{"model": "tiny", "verbose": true}},
		{name: "show unknown", method: "POST", path: "/api/show", body: m{"model": "nosuch"}},
		{name: "show nothing", method: "POST", path: "/api/show", body: "{}"},
		{name: "generate", method: "POST", path: "/api/generate", body: m{"model": "tiny", "prompt": "hi", "stream": false, "options": few}},
		{name: "generate stream", method: "POST", path: "/api/generate", body: m{"model": "tiny", "prompt": "hi", "options": few}},
		{name: "generate raw", method: "POST", path: "/api/generate", body: m{"model": "tiny", "prompt": "hi", "raw": true, "options": few}},
		{name: "generate other case", method: "POST", path: "/api/generate", body: m{"model": "Tiny:LATEST", "prompt": "hi", "stream": false, "options": few}},
		{name: "generate without content type", method: "POST", path: "/api/generate", body: m{"model": "tiny", "prompt": "hi", "stream": false, "options": few}, headers: []string{"Content-Type", "text/plain"}},
		{name: "generate unknown fields", method: "POST", path: "/api/generate", body: m{"model": "tiny", "prompt": "hi", "stream": false, "options": few, "future": m{"a": []int{1}}}},
		{name: "load", method: "POST", path: "/api/generate", body: m{"model": "tiny"}},
		{name: "load by chat", method: "POST", path: "/api/chat", body: m{"model": "tiny", "messages": []any{}}},
		{name: "chat", method: "POST", path: "/api/chat", body: m{"model": "tiny", "messages": hello, "stream": false, "options": few}},
		{name: "chat stream", method: "POST", path: "/api/chat", body: m{"model": "tiny", "messages": hello, "options": few}},
		{name: "chat tools", method: "POST", path: "/api/chat", body: m{"model": "tool", "messages": hello, "tools": tool, "options": m{"temperature": 0}}},
		{name: "chat thinking", method: "POST", path: "/api/chat", body: m{"model": "think", "messages": hello, "think": true, "options": few}},
		{name: "chat schema", method: "POST", path: "/api/chat", body: m{"model": "tiny", "messages": hello, "stream": false, "format": m{"type": "object", "properties": m{"ok": m{"type": "boolean"}}, "required": []string{"ok"}}, "options": m{"temperature": 0, "num_predict": 100}}},
		{name: "chat with a 20 MB image", method: "POST", path: "/api/chat", body: m{"model": "tiny", "messages": []any{m{"role": "user", "content": "see", "images": []string{big}}}, "stream": false, "options": few}},
		{name: "embed", method: "POST", path: "/api/embed", body: m{"model": "embed", "input": "one"}},
		{name: "embed batch", method: "POST", path: "/api/embed", body: m{"model": "embed", "input": slices.Repeat([]string{"word"}, 64)}},
		{name: "embed nothing", method: "POST", path: "/api/embed", body: m{"model": "embed", "input": []string{}}},
		{name: "embeddings", method: "POST", path: "/api/embeddings", body: m{"model": "embed", "prompt": "one"}},
		{name: "v1 chat", method: "POST", path: "/v1/chat/completions", body: m{"model": "tiny", "messages": hello, "max_tokens": 6, "temperature": 0}},
		{name: "v1 chat stream", method: "POST", path: "/v1/chat/completions", body: m{"model": "tiny", "messages": hello, "max_tokens": 6, "temperature": 0, "stream": true}},
		{name: "v1 chat usage", method: "POST", path: "/v1/chat/completions", body: m{"model": "tiny", "messages": hello, "max_tokens": 6, "temperature": 0, "stream": true, "stream_options": m{"include_usage": true}}},
		{name: "v1 chat tools", method: "POST", path: "/v1/chat/completions", body: m{"model": "tool", "messages": hello, "tools": tool, "temperature": 0}},
		{name: "v1 completions", method: "POST", path: "/v1/completions", body: m{"model": "tiny", "prompt": "hi", "max_tokens": 6, "temperature": 0}},
		{name: "v1 completions stream", method: "POST", path: "/v1/completions", body: m{"model": "tiny", "prompt": "hi", "max_tokens": 6, "temperature": 0, "stream": true}},
		{name: "v1 embeddings", method: "POST", path: "/v1/embeddings", body: m{"model": "embed", "input": []string{"a", "b"}}},
		{name: "bad option", method: "POST", path: "/api/generate", body: m{"model": "tiny", "prompt": "x", "options": m{"num_predict": "many"}}},
		{name: "bad format", method: "POST", path: "/api/generate", body: m{"model": "tiny", "prompt": "x", "format": "nonsense"}},
		{name: "tools unsupported", method: "POST", path: "/api/chat", body: m{"model": "tiny", "messages": hello, "tools": tool}},
		{name: "copy invalid", method: "POST", path: "/api/copy", body: m{"source": "a b:c:d", "destination": "x"}},
		{name: "delete invalid", method: "DELETE", path: "/api/delete", body: m{"model": "a b:c:d"}},
		{name: "pull invalid", method: "POST", path: "/api/pull", body: m{"model": "a b:c:d"}},
		{name: "pull from nowhere", method: "POST", path: "/api/pull", body: m{"model": "127.0.0.1:1/library/x", "insecure": true, "stream": false}},
		{name: "pull from nowhere, stream", method: "POST", path: "/api/pull", body: m{"model": "127.0.0.1:1/library/x", "insecure": true}},
		{name: "create from nothing", method: "POST", path: "/api/create", body: m{"model": "x"}},
		{name: "push unknown", method: "POST", path: "/api/push", body: m{"model": "nosuch", "stream": false}},
		{name: "blob HEAD", method: "HEAD", path: "/api/blobs/sha256:" + strings.Repeat("0", 64)},
		{name: "blob bad digest", method: "POST", path: "/api/blobs/sha256:" + strings.Repeat("0", 64), body: "x"},
		{name: "blob invalid digest", method: "POST", path: "/api/blobs/nonsense", body: "x"},
	}
	for _, kind := range []string{"/api/generate", "/api/chat", "/api/embed", "/api/embeddings", "/v1/chat/completions", "/v1/completions", "/v1/embeddings"} {
		body := m{"model": "nosuch", "prompt": "x", "input": "x", "messages": hello}
		all = append(all,
			question{name: "unknown model " + kind, method: "POST", path: kind, body: body},
			question{name: "no body " + kind, method: "POST", path: kind},
			question{name: "cut JSON " + kind, method: "POST", path: kind, body: `{"model":"tiny"`},
			question{name: "wrong type " + kind, method: "POST", path: kind, body: `{"model":3}`},
			question{name: "no model " + kind, method: "POST", path: kind, body: `{"prompt":"x","input":"x","messages":[{"role":"user","content":"x"}]}`},
			question{name: "no object " + kind, method: "POST", path: kind, body: `[1]`},
		)
	}
	return all
}

func TestDifferential(t *testing.T) {
	need.NotShort(t, "conformance: a real Ollama beside a mesh")
	s := realSubjects(t, "tiny", "think", "tool", "embed")
	ask := func(url string, q question) reply { return send(t, q.method, url+q.path, q.body, q.headers...) }
	for _, q := range questions() {
		t.Run(q.name, func(t *testing.T) {
			want := ask(s.direct.URL, q)
			for _, one := range s.mesh {
				got := ask(one.url, q)
				if got.status != want.status {
					t.Errorf("%s: status %d, one Ollama has %d\n%.300s\n%.300s", one.name, got.status, want.status, got.body, want.body)
					continue
				}
				// The charset of JSON means nothing (RFC 8259 section 11), and
				// Ollama itself writes it here and not there.
				if g, w := mediaType(got), mediaType(want); g != w {
					t.Errorf("%s: Content-Type is %q, at one Ollama %q", one.name, g, w)
				}
				for _, h := range []string{"Allow", "Cache-Control", "Retry-After"} {
					if g, w := got.header.Get(h), want.header.Get(h); g != w {
						t.Errorf("%s: %s is %q, at one Ollama %q", one.name, h, g, w)
					}
				}
				if g, w := shapeOf(got), shapeOf(want); g != w {
					t.Errorf("%s: body\n%s\nat one Ollama\n%s\n(%.200s)", one.name, g, w, got.body)
				}
			}
		})
	}
}

func mediaType(r reply) string {
	kind, _, _ := strings.Cut(r.header.Get("Content-Type"), ";")
	return kind
}

// shapeOf is a body's form, field by field: names and types, for streams those
// of each line in their order, repetitions once.
func shapeOf(r reply) string {
	kind := mediaType(r)
	var out []string
	add := func(s string) {
		if len(out) == 0 || out[len(out)-1] != s {
			out = append(out, s)
		}
	}
	switch {
	case kind == "application/json" && len(r.body) > 0:
		add(shapeOfJSON(r.body))
	case kind == "application/x-ndjson":
		for line := range bytes.Lines(r.body) {
			add(shapeOfJSON(line))
		}
	case kind == "text/event-stream":
		for line := range bytes.Lines(r.body) {
			if data, ok := bytes.CutPrefix(line, []byte("data: ")); ok && data[0] == '{' {
				add(shapeOfJSON(data))
			} else {
				add(string(line))
			}
		}
	default:
		add(string(r.body))
	}
	return strings.Join(out, "\n")
}

func shapeOfJSON(b []byte) string {
	var v any
	if err := json.Unmarshal(b, &v); err != nil {
		return fmt.Sprintf("no JSON: %v", err)
	}
	return shape(v)
}

func shape(v any) string {
	switch v := v.(type) {
	case map[string]any:
		var keys []string
		for k, x := range v {
			if k != "kage" && k != "node" {
				keys = append(keys, k+":"+shape(x))
			}
		}
		slices.Sort(keys)
		return "{" + strings.Join(keys, " ") + "}"
	case []any:
		var kinds []string
		for _, x := range v {
			if s := shape(x); !slices.Contains(kinds, s) {
				kinds = append(kinds, s)
			}
		}
		return "[" + strings.Join(kinds, " ") + "]"
	case string:
		return "string"
	case float64:
		return "number"
	}
	return fmt.Sprint(v)
}
