package ollamatest

import (
	"strings"
	"testing"
)

// Status and body of refusals, as recorded from 0.9.6, 0.11.4 and 0.33.
func TestRefusals(t *testing.T) {
	const old, now = "0.9.6", "0.33.0"
	type answer struct {
		status int
		body   string
	}
	e := func(status int, text string) answer { return answer{status, `{"error":` + quote(text) + `}`} }
	openAI := func(status int, kind, text string) answer {
		return answer{status, `{"error":{"message":` + quote(text) + `,"type":"` + kind + `","param":null,"code":null}}`}
	}
	hi := `"messages":[{"role":"user","content":"hi"}]`
	pulling := func(name string) string { return `model "` + name + `" not found, try pulling it first` }
	for _, tt := range []struct {
		name, path, body string
		old, now         answer
	}{
		{"unknown, generate", "/api/generate", `{"model":"nosuch","prompt":"x"}`, e(404, "model 'nosuch' not found"), e(404, "model 'nosuch' not found")},
		{"unknown, chat", "/api/chat", `{"model":"nosuch",` + hi + `}`, e(404, pulling("nosuch")), e(404, "model 'nosuch' not found")},
		{"unknown, embed", "/api/embed", `{"model":"nosuch","input":"x"}`, e(404, pulling("nosuch")), e(404, pulling("nosuch"))},
		{"unknown, show", "/api/show", `{"model":"nosuch"}`, e(404, "model 'nosuch' not found"), e(404, "model 'nosuch:latest' not found")},
		{"unknown, copy", "/api/copy", `{"source":"nosuch","destination":"x"}`, e(404, `model "nosuch" not found`), e(404, `model "nosuch" not found`)},
		{
			"unknown, openai", "/v1/chat/completions", `{"model":"nosuch",` + hi + `,"stream":true}`,
			openAI(404, "api_error", pulling("nosuch")), openAI(404, "not_found_error", "model 'nosuch' not found"),
		},
		{
			"unknown, completions", "/v1/completions", `{"model":"nosuch","prompt":"x"}`,
			openAI(404, "api_error", "model 'nosuch' not found"), openAI(404, "not_found_error", "model 'nosuch' not found"),
		},
		{
			"unknown, anthropic", "/v1/messages", `{"model":"nosuch","max_tokens":1,` + hi + `}`,
			answer{404, "404 page not found"},
			answer{404, `{"type":"error","error":{"type":"not_found_error","message":"model 'nosuch' not found"},"request_id":"req_N"}`},
		},
		{"malformed", "/api/generate", `{"model":`, e(400, "unexpected EOF"), e(400, "unexpected EOF")},
		{
			"malformed, openai", "/v1/chat/completions", `{"model":`,
			openAI(400, "invalid_request_error", "unexpected EOF"), openAI(400, "invalid_request_error", "unexpected EOF"),
		},
		{"empty body", "/api/chat", ``, e(400, "missing request body"), e(400, "missing request body")},
		{"no model, generate", "/api/generate", `{}`, e(404, "model '' not found"), e(404, "model '' not found")},
		{"no model, chat", "/api/chat", `{}`, e(400, "model is required"), e(400, "model is required")},
		{"no model, show", "/api/show", `{}`, e(400, "model is required"), e(400, "model is required")},
		{"bad name", "/api/generate", `{"model":"a b:c:d","prompt":"x"}`, e(404, "model 'a b:c:d' not found"), e(400, "invalid model name")},
		{"bad name, pull", "/api/pull", `{"model":"a b"}`, e(400, "invalid model name"), e(400, "invalid model name")},
		{"bad name, copy", "/api/copy", `{"source":"m","destination":"a b"}`, e(400, `destination "a b" is invalid`), e(400, `destination "a b" is invalid`)},
		{
			"wrong type", "/api/generate", `{"model":5}`,
			e(400, "json: cannot unmarshal number into Go struct field GenerateRequest.model of type string"),
			e(400, "json: cannot unmarshal number into Go struct field GenerateRequest.model of type string"),
		},
		{
			"wrong option", "/api/generate", `{"model":"m","prompt":"x","options":{"num_predict":"a"}}`,
			e(500, `option "num_predict" must be of type integer`), e(500, `option "num_predict" must be of type integer`),
		},
		{
			"wrong stop", "/api/generate", `{"model":"m","prompt":"x","options":{"stop":"a"}}`,
			e(500, `option "stop" must be of type array`), e(500, `option "stop" must be of type array`),
		},
		{"bad keep_alive", "/api/generate", `{"model":"m","keep_alive":"zz"}`, e(400, `time: invalid duration "zz"`), e(400, `time: invalid duration "zz"`)},
		{
			"cannot think", "/api/chat", `{"model":"m","think":true,` + hi + `}`,
			e(400, "registry.ollama.ai/library/m:latest does not support thinking"), e(400, `"m" does not support thinking`),
		},
		{
			"cannot call tools", "/api/chat", `{"model":"m","tools":[{}],` + hi + `}`,
			e(400, "registry.ollama.ai/library/m:latest does not support tools"), e(400, "registry.ollama.ai/library/m:latest does not support tools"),
		},
		{
			"cannot insert", "/api/generate", `{"model":"m","prompt":"x","suffix":"y"}`,
			e(400, "registry.ollama.ai/library/m:latest does not support insert"), e(400, "registry.ollama.ai/library/m:latest does not support insert"),
		},
		{"cannot generate", "/api/generate", `{"model":"vec","prompt":"x"}`, e(400, `"vec" does not support generate`), e(400, `"vec" does not support generate`)},
		{"cannot chat", "/api/chat", `{"model":"vec",` + hi + `}`, e(400, `"vec" does not support chat`), e(400, `"vec" does not support chat`)},
		{"cannot embed", "/api/embed", `{"model":"m","input":"x"}`, answer{200, ""}, e(501, "This server does not support embeddings. Start it with `--embeddings`")},
		{
			"raw and system", "/api/generate", `{"model":"m","prompt":"x","raw":true,"system":"y"}`,
			e(400, "raw mode does not support template, system, or context"), e(400, "raw mode does not support template, system, or context"),
		},
		{
			"bad format, streamed", "/api/generate", `{"model":"m","prompt":"x","format":"bad"}`,
			answer{200, `{"error":"invalid format: \"\\\"bad\\\"\"; expected \"json\" or a valid JSON Schema object"}`},
			e(500, `invalid format: "\"bad\""; expected "json" or a valid JSON Schema object`),
		},
		{
			"bad format, whole", "/api/generate", `{"model":"m","prompt":"x","format":"bad","stream":false}`,
			e(500, `invalid format: "\"bad\""; expected "json" or a valid JSON Schema object`),
			e(500, `invalid format: "\"bad\""; expected "json" or a valid JSON Schema object`),
		},
		{
			"bad template", "/api/generate", `{"model":"m","prompt":"x","template":"{{ .Response"}`,
			e(500, "template: :1: unclosed action"), e(500, "template: :1: unclosed action"),
		},
		{
			"input too long", "/api/embed", `{"model":"vec","input":"` + strings.Repeat("word ", 5000) + `","truncate":false}`,
			e(400, "input length exceeds maximum context length"), e(400, "input length exceeds maximum context length"),
		},
		{"bad input", "/api/embed", `{"model":"vec","input":5}`, e(400, "invalid input type"), e(400, "invalid input type")},
		{
			"no messages, openai", "/v1/chat/completions", `{"model":"m","messages":[]}`,
			openAI(400, "invalid_request_error", "[] is too short - 'messages'"), openAI(400, "invalid_request_error", "[] is too short - 'messages'"),
		},
		{
			"bad content, openai", "/v1/chat/completions", `{"model":"m","messages":[{"role":"user","content":5}]}`,
			openAI(400, "invalid_request_error", "invalid message content type: float64"), openAI(400, "invalid_request_error", "invalid message content type: float64"),
		},
		{
			"nothing to create from", "/api/create", `{"model":"x","stream":false}`,
			e(400, "neither 'from' or 'files' was specified"), e(400, "neither 'from' or 'files' was specified"),
		},
		{
			"responses", "/v1/responses", `{"model":"m","input":5}`,
			answer{404, "404 page not found"},
			answer{400, ""},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for version, want := range map[string]answer{old: tt.old, now: tt.now} {
				models := []Model{{Name: "m"}, {Name: "vec", Embedding: true}}
				inBubble(t, Config{Version: version, Models: models}, func(t *testing.T, b *bubble) {
					r := b.post(tt.path, tt.body)
					got := answer{r.status, strings.TrimSpace(settled(r.body))}
					if want.body == "" {
						got.body = ""
					}
					if got != want {
						t.Errorf("%s:\ngot  %d %s\nwant %d %s", version, got.status, got.body, want.status, want.body)
					}
				})
			}
		})
	}
}

func TestRoutes(t *testing.T) {
	for _, tt := range []struct {
		method, path, version string
		status                int
		allow, body           string
	}{
		{"GET", "/", "", 200, "", "Ollama is running"},
		{"HEAD", "/", "", 200, "", ""},
		{"GET", "/api/version", "0.9.6", 200, "", `{"version":"0.9.6"}`},
		{"HEAD", "/api/version", "", 200, "", ""},
		{"HEAD", "/api/tags", "", 200, "", ""},
		{"HEAD", "/api/ps", "", 405, "GET", ""},
		{"POST", "/api/tags", "", 405, "HEAD, GET", "405 method not allowed"},
		{"GET", "/api/chat", "", 405, "POST", "405 method not allowed"},
		{"GET", "/nope", "", 404, "", "404 page not found"},
		{"GET", "/api/tags/", "", 200, "", `{"models":[]}`}, // redirected
		{"POST", "/v1/messages", "0.13.9", 404, "", "404 page not found"},
		{"POST", "/v1/responses", "0.13.2", 404, "", "404 page not found"},
		{"GET", "/v1/models", "", 200, "", `{"object":"list","data":[]}`},
		{"GET", "/v1/models/nosuch", "", 404, "", `{"error":{"message":"model 'nosuch:latest' not found","type":"not_found_error","param":null,"code":null}}`},
		{"DELETE", "/api/delete", "", 400, "", `{"error":"missing request body"}`},
	} {
		t.Run(tt.method+" "+tt.path, func(t *testing.T) {
			inBubble(t, Config{Version: tt.version}, func(t *testing.T, b *bubble) {
				r := do(t.Context(), b.client, tt.method, "http://ollama"+tt.path, "")
				if r.err != nil {
					t.Fatal(r.err)
				}
				if got := strings.TrimSpace(r.body); r.status != tt.status || r.header.Get("Allow") != tt.allow || got != tt.body {
					t.Errorf("got %d, Allow %q, %s", r.status, r.header.Get("Allow"), got)
				}
			})
		})
	}
}

func TestReportedVersion(t *testing.T) {
	inBubble(t, Config{Reports: "0.0.0"}, func(t *testing.T, b *bubble) {
		if r := do(t.Context(), b.client, "GET", "http://ollama/api/version", ""); r.body != `{"version":"0.0.0"}` {
			t.Errorf("got %s", r.body)
		}
		if r := b.post("/v1/messages", `{}`); r.status == 404 {
			t.Error("behaves like 0.0.0 too")
		}
	})
}

func TestNames(t *testing.T) {
	inBubble(t, Config{Models: []Model{{Name: "Llama3.2"}, {Name: "hf.co/someone/Some-GGUF:Q4_K_M"}}}, func(t *testing.T, b *bubble) {
		for name, want := range map[string]int{
			"llama3.2": 200, "llama3.2:latest": 200, "LLAMA3.2:Latest": 200, "library/llama3.2": 200,
			"registry.ollama.ai/library/llama3.2:latest": 200, "llama3.2:1b": 404, "someone/llama3.2": 404,
			"hf.co/someone/some-gguf:q4_k_m": 200, "hf.co/someone/Some-GGUF": 404,
			"": 404, ":": 400, "a/b/c/d/e:f": 400, "-x": 400, "x y": 400,
		} {
			r := b.post("/api/generate", body("model", name, "prompt", "x", "stream", false))
			if r.status != want {
				t.Errorf("%q: %d, want %d: %s", name, r.status, want, r.body)
			}
		}
		r := b.post("/api/generate", body("model", "LIBRARY/llama3.2", "prompt", "x", "stream", false))
		if !strings.HasPrefix(r.body, `{"model":"LIBRARY/llama3.2"`) {
			t.Errorf("the name does not come back as it was sent: %s", r.body)
		}
	})
}

func TestHostAndOrigin(t *testing.T) {
	s := Start(t, Config{Hosts: []string{"gateway.example"}})
	client := tcpClient(t)
	for _, tt := range []struct {
		header, value string
		status        int
	}{
		{"Host", "localhost:11434", 200},
		{"Host", "127.0.0.1", 200},
		{"Host", "[::1]:11434", 200},
		{"Host", "192.168.1.7:11434", 200},
		{"Host", "box.local", 200},
		{"Host", "gateway.example", 200},
		{"Host", "evil.example", 403},
		{"Host", "8.8.8.8", 403},
		{"Origin", "http://localhost:3000", 200},
		{"Origin", "https://127.0.0.1", 200},
		{"Origin", "app://obsidian.md", 200},
		{"Origin", s.URL(), 200},
		{"Origin", "http://evil.example", 403},
		{"Origin", "http://localhost.evil.example", 403},
	} {
		t.Run(tt.header+" "+tt.value, func(t *testing.T) {
			r := do(t.Context(), client, "GET", s.URL()+"/api/version", "", tt.header, tt.value)
			if r.status != tt.status || r.status == 403 && r.body != "" {
				t.Errorf("%d %s, %v", r.status, r.body, r.err)
			}
		})
	}
	r := do(t.Context(), client, "OPTIONS", s.URL()+"/api/chat", "", "Origin", "http://localhost:3000", "Access-Control-Request-Method", "POST")
	if r.status != 204 || r.header.Get("Access-Control-Allow-Origin") != "http://localhost:3000" {
		t.Errorf("preflight: %d %v", r.status, r.header)
	}
}
