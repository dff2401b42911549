package wire

import (
	"slices"
	"testing"
)

func TestLookup(t *testing.T) {
	tests := []struct {
		methods string // separated by blanks
		path    string
		kind    Kind
		class   Class
		dialect Dialect
		streams bool
		byDef   bool
	}{
		{"GET HEAD", "/", Root, Read, Ollama, false, false},
		{"GET HEAD", "/api/version", Version, Read, Ollama, false, false},
		{"GET", "/api/status", Status, Read, Ollama, false, false},
		{"GET HEAD", "/api/tags", Tags, Read, Ollama, false, false},
		{"GET", "/v1/models", V1Models, Read, OpenAI, false, false},
		{"GET", "/api/ps", Ps, Read, Ollama, false, false},
		{"POST", "/api/show", Show, Read, Ollama, false, false},
		{"GET", "/v1/models/tiny:latest", V1Model, Read, OpenAI, false, false},
		{"POST", "/api/generate", Generate, Inference, Ollama, true, true},
		{"POST", "/api/chat", Chat, Inference, Ollama, true, true},
		{"POST", "/api/embed", Embed, Inference, Ollama, false, false},
		{"POST", "/api/embeddings", Embeddings, Inference, Ollama, false, false},
		{"POST", "/v1/chat/completions", V1Chat, Inference, OpenAI, true, false},
		{"POST", "/v1/completions", V1Completions, Inference, OpenAI, true, false},
		{"POST", "/v1/embeddings", V1Embeddings, Inference, OpenAI, false, false},
		{"POST", "/v1/responses", V1Responses, Inference, OpenAI, true, false},
		{"POST", "/v1/messages", V1Messages, Inference, Anthropic, true, false},
		{"POST", "/v1/audio/transcriptions", V1Transcriptions, Inference, OpenAI, false, false},
		{"POST", "/api/pull", Pull, Manage, Ollama, true, true},
		{"POST", "/api/push", Push, Manage, Ollama, true, true},
		{"POST", "/api/create", Create, Manage, Ollama, true, true},
		{"HEAD POST", "/api/blobs/sha256:ab", Blob, Manage, Ollama, false, false},
		{"POST", "/api/copy", Copy, Manage, Ollama, false, false},
		{"DELETE", "/api/delete", Delete, Manage, Ollama, false, false},
		{"POST", "/api/me", Me, Account, Ollama, false, false},
		{"POST", "/api/signout", Signout, Account, Ollama, false, false},
		{"DELETE", "/api/user/keys/abc", UserKey, Account, Ollama, false, false},
		{"POST", "/api/experimental/web_search", WebSearch, Account, Ollama, false, false},
		{"POST", "/api/experimental/web_fetch", WebFetch, Account, Ollama, false, false},
		{"GET", "/api/experimental/model-recommendations", Recommendations, Account, Ollama, false, false},
	}
	for _, tt := range tests {
		t.Run(tt.path, func(t *testing.T) {
			for _, method := range []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "CONNECT", "TRACE", "get", ""} {
				r, allowed, ok := Lookup(method, tt.path)
				want := slices.Contains(splitWords(tt.methods), method)
				if ok != want {
					t.Fatalf("%s: ok %v, want %v", method, ok, want)
				}
				if !ok {
					if !slices.Equal(allowed, splitWords(tt.methods)) || r != (Route{}) {
						t.Errorf("%s: allowed %v, want %v; route %+v", method, allowed, tt.methods, r)
					}
					continue
				}
				k := r.Kind
				if k != tt.kind || r.Class != tt.class || r.Method != method || r.Path != tt.path || allowed != nil {
					t.Errorf("%s: %+v", method, r)
				}
				if k.Dialect() != tt.dialect || k.Streams() != tt.streams || k.DefaultStream() != tt.byDef || k.Inference() != (tt.class == Inference) {
					t.Errorf("%s: kind %v: %v %v %v %v", method, k, k.Dialect(), k.Streams(), k.DefaultStream(), k.Inference())
				}
			}
		})
	}
	if len(tests) != len(routes) {
		t.Errorf("%d routes tested, there are %d", len(tests), len(routes))
	}
}

func splitWords(s string) (words []string) {
	for len(s) > 0 {
		i := 0
		for i < len(s) && s[i] != ' ' {
			i++
		}
		words = append(words, s[:i])
		s = s[min(i+1, len(s)):]
	}
	return words
}

func TestLookupIsExact(t *testing.T) {
	for _, path := range []string{
		"", "//", "/api", "/api/", "/api/chat/", "//api/chat", "/api//chat", "/api/../api/chat", "/api/./chat", "/API/chat",
		"/api/chat?x=1", "/api/chat%2f", "/api/%63hat", "/api/chat ", "/api/chat\x00", "api/chat", "/v1/models/", "/v1/models/a/b",
		"/api/blobs/", "/api/blobs/../chat", "/debug/pprof", "/api/generate\n", "http://x/api/chat", "/v1", "/v1/images/generations",
	} {
		if r, allowed, ok := Lookup("POST", path); ok || allowed != nil {
			t.Errorf("%q: %+v, allowed %v", path, r, allowed)
		}
	}
}

func TestLookupParam(t *testing.T) {
	r, _, ok := Lookup("GET", "/v1/models/tiny:latest")
	if !ok || r.Param != "tiny:latest" || r.Pattern != "/v1/models/:model" {
		t.Errorf("%+v %v", r, ok)
	}
	if r, _, _ := Lookup("POST", "/v1/responses"); r.Since != "0.13.3" {
		t.Errorf("%+v", r)
	}
}

func TestKindsAndClassesHaveNames(t *testing.T) {
	seen := map[string]bool{}
	for k := range kindEnd {
		if name := k.String(); name == "" || seen[name] {
			t.Errorf("kind %d: %q", k, name)
		}
		seen[k.String()] = true
	}
	if Kind(-1).String() != "none" || kindEnd.String() != "none" || Kind(-1).Streams() || kindEnd.Inference() {
		t.Error("kinds out of range are no kind")
	}
	for c, want := range map[Class]string{Inference: "inference", Read: "read", Manage: "manage", Account: "account", 0: "none"} {
		if c.String() != want || c.Repeatable() != (c == Inference || c == Read) {
			t.Errorf("%v: %v", c, c.Repeatable())
		}
	}
	for d, want := range map[Dialect]string{Ollama: "ollama", OpenAI: "openai", Anthropic: "anthropic"} {
		if d.String() != want {
			t.Errorf("%d: %v", d, d)
		}
	}
}
