package ollamatest

import (
	"maps"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
)

// Whatever a client sends, it gets an answer with a sensible status.
func FuzzRequest(f *testing.F) {
	caps := []string{"completion", "tools", "thinking", "insert", "vision"}
	s := New(Config{Models: []Model{{Name: "m", Capabilities: caps}, {Name: "e", Embedding: true}}})
	paths := slices.Sorted(maps.Keys(s.routes()))
	for i := range paths {
		f.Add(i, `{"model":"m","prompt":"hi","messages":[{"role":"user","content":"hi"}],"input":"x","max_tokens":3}`)
	}
	f.Add(0, `{"model":"e","input":["a",""],"dimensions":3,"truncate":false,"options":{"num_ctx":1}}`)
	f.Add(0, `{"model":"m","prompt":"x","template":"{{ range .Messages }}{{ .Content }}{{ end }}","context":[1,2,3],"keep_alive":"-1s"}`)
	f.Add(0, `{"model":"m","format":{"type":"object","properties":{"a":{"enum":[1]}}},"think":"low","options":{"stop":["","a"],"num_predict":-5}}`)
	f.Fuzz(func(t *testing.T, route int, body string) {
		path := paths[uint(route)%uint(len(paths))]
		method := "POST"
		if path == "/api/delete" {
			return // it would leave nothing to test
		}
		if m := s.routes()[path].methods; !strings.Contains(m, method) {
			method = "GET"
		}
		w := httptest.NewRecorder()
		s.Handler().ServeHTTP(w, httptest.NewRequest(method, "http://localhost"+path, strings.NewReader(body)))
		if w.Code < 200 || w.Code > 504 {
			t.Errorf("%s: status %d", path, w.Code)
		}
		if n := s.Stats(); n.Running != 0 || n.Waiting != 0 {
			t.Errorf("%s: %d running, %d waiting", path, n.Running, n.Waiting)
		}
	})
}

func FuzzName(f *testing.F) {
	for _, s := range []string{"m", "m:t", "a/m:t", "h:1/a/m:t", "http://h/a/m", "::", "//", "é"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		n := parseName(s)
		if !n.valid() {
			return
		}
		for _, again := range []string{n.full(), n.short()} {
			if got := parseName(again); got.key() != n.key() || !got.valid() {
				t.Errorf("%q → %q → %+v, was %+v", s, again, got, n)
			}
		}
	})
}
