package wire

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"
)

// TestParseRefuses compares with what Ollama 0.11.4 answered to these bodies,
// but for those that it accepts and we must not.
func TestParseRefuses(t *testing.T) {
	tests := []struct {
		name, body string
		kind       Kind
		status     int
		message    string
	}{
		{"empty", "", Generate, 400, "missing request body"},
		{"blank", " \n", Chat, 400, "missing request body"},
		{"empty v1", "", V1Chat, 400, "EOF"},
		{"empty messages", "", V1Messages, 400, "EOF"},
		{"truncated", "{", Generate, 400, "unexpected EOF"},
		{"truncated after model", `{"model":"a"`, Generate, 400, "unexpected EOF"},
		{"truncated in prompt", `{"model":"a","prompt":"x`, Generate, 400, "unexpected EOF"},
		{"array", "[]", Generate, 400, "json: cannot unmarshal array into Go value of type api.GenerateRequest"},
		{"array v1", "[]", V1Chat, 400, "json: cannot unmarshal array into Go value of type openai.ChatCompletionRequest"},
		{"number", "5", Embed, 400, "json: cannot unmarshal number into Go value of type api.EmbedRequest"},
		{"string", `"x"`, Chat, 400, "json: cannot unmarshal string into Go value of type api.ChatRequest"},
		{"bool", `true`, Show, 400, "json: cannot unmarshal bool into Go value of type api.ShowRequest"},
		{"null", `null`, Chat, 400, "json: cannot unmarshal null into Go value of type api.ChatRequest"},
		{"bad literal", `nulx`, Chat, 400, "invalid character 'x' in literal null (expecting 'l')"},
		{"byte order mark", "\ufeff{\"model\":\"a\"}", Generate, 400, "invalid character 'ï' looking for beginning of value"},
		{"no JSON", "model=a", Chat, 400, "invalid character 'm' looking for beginning of value"},
		{"trailing data", `{"model":"a"}{"model":"b"}`, Generate, 400, "invalid character '{' after top-level value"},
		{"trailing brace", `{"model":"a"}}`, Generate, 400, "invalid character '}' after top-level value"},
		{"second model", `{"model":"a","model":"b"}`, Generate, 400, `duplicate "model" in request body`},
		{"second model, same", `{"model":"a","model":"a"}`, V1Chat, 400, `duplicate "model" in request body`},
		{"second model, escaped", `{"model":"a","\u006dodel":"b"}`, Chat, 400, `duplicate "model" in request body`},
		{"case variant", `{"Model":"a"}`, Generate, 400, `"model" must be written in lower case in request body`},
		{"case variant beside", `{"model":"a","MODEL":"b"}`, Generate, 400, `duplicate "model" in request body`},
		{"second name", `{"name":"a","name":"b"}`, Show, 400, `duplicate "name" in request body`},
		{"case variant of source", `{"Source":"a","destination":"b"}`, Copy, 400, `"source" must be written in lower case in request body`},
		{"model number", `{"model":5}`, Generate, 400, "json: cannot unmarshal number into Go struct field GenerateRequest.model of type string"},
		{"model array v1", `{"model":[]}`, V1Completions, 400, "json: cannot unmarshal array into Go struct field CompletionRequest.model of type string"},
		{"model bool embed", `{"model":true}`, V1Embeddings, 400, "json: cannot unmarshal bool into Go struct field EmbedRequest.model of type string"},
		{"model object", `{"model":{"a":1}}`, Chat, 400, "json: cannot unmarshal object into Go struct field ChatRequest.model of type string"},
		{"no model generate", `{}`, Generate, 404, "model '' not found"},
		{"null model generate", `{"model":null}`, Generate, 404, "model '' not found"},
		{"empty model chat", `{"model":""}`, Chat, 400, "model is required"},
		{"no model embed", `{}`, Embed, 404, `model "" not found, try pulling it first`},
		{"no model embeddings", `{}`, Embeddings, 400, "model is required"},
		{"no model show", `{}`, Show, 400, "model is required"},
		{"no model pull", `{}`, Pull, 400, "invalid model name"},
		{"no model push", `{}`, Push, 400, "model is required"},
		{"no model create", `{}`, Create, 400, "invalid model name"},
		{"no model delete", `{}`, Delete, 400, `name "" is invalid`},
		{"no source", `{"model":5}`, Copy, 400, `source "" is invalid`},
		{"no model v1 chat", `{}`, V1Chat, 400, "[] is too short - 'messages'"},
		{"no model v1 chat, messages", `{"messages":[{"role":"user","content":"x"}]}`, V1Chat, 400, "model is required"},
		{"no model v1 completions", `{}`, V1Completions, 404, "model '' not found"},
		{"no input v1 embeddings", `{}`, V1Embeddings, 400, "invalid input"},
		{"no model v1 embeddings", `{"input":"x"}`, V1Embeddings, 404, `model "" not found, try pulling it first`},
		{"no model messages", `{"max_tokens":5}`, V1Messages, 400, "model is required"},
		{"no model responses", `{"input":"x"}`, V1Responses, 400, "model is required"},
		{"long model", `{"model":"` + strings.Repeat("m", MaxModelName+1) + `"}`, Generate, 400, "invalid model name"},
		{"huge model", `{"model":"` + strings.Repeat("m", 1<<20) + `"}`, Generate, 400, "invalid model name"},
		{"control character", "{\"model\":\"a\nb\"}", Chat, 400, `invalid character '\n' in string literal`},
		{"comma", `{"model":"a",}`, Chat, 400, "invalid character '}' looking for beginning of object key string"},
		{"too deep", `{"model":"a","x":` + strings.Repeat("[", maxDepth), Chat, 400, "invalid character '[' exceeded max depth"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Parse(tt.kind, []byte(tt.body))
			if err == nil || err.Status != tt.status || err.Message != tt.message {
				t.Errorf("got %v, want %d %s", err, tt.status, tt.message)
			}
		})
	}
}

func TestParse(t *testing.T) {
	none := Peek{Model: "a", NumPredict: -1, N: 1}
	with := func(change func(*Peek)) Peek {
		p := none
		change(&p)
		return p
	}
	tests := []struct {
		name string
		kind Kind
		body string
		want Peek
	}{
		{"load", Generate, `{"model":"a"}`, with(func(p *Peek) { p.Stream, p.LoadOnly = true, true })},
		{"load, empty prompt", Generate, `{"model":"a","prompt":""}`, with(func(p *Peek) { p.Stream, p.LoadOnly = true, true })},
		{
			"load chat", Chat, `{"messages":[],"model":"a","keep_alive":0}`,
			with(func(p *Peek) { p.Stream, p.LoadOnly, p.KeepAlive = true, true, new(time.Duration(0)) }),
		},
		{"load chat, null", Chat, `{"messages":null,"model":"a"}`, with(func(p *Peek) { p.Stream, p.LoadOnly = true, true })},
		{"messages of a wrong type is no load", Chat, `{"messages":{},"model":"a"}`, with(func(p *Peek) { p.Stream = true })},
		{"v1 has no load", V1Completions, `{"model":"a","prompt":""}`, none},
		{"stream off", Generate, `{"model":"a","stream":false}`, with(func(p *Peek) { p.LoadOnly = true })},
		{"stream null is the default", Generate, `{"model":"a","stream":false,"stream":null}`, with(func(p *Peek) { p.Stream, p.LoadOnly = true, true })},
		{"stream of a wrong type", Generate, `{"model":"a","stream":"no"}`, with(func(p *Peek) { p.Stream, p.LoadOnly = true, true })},
		{"v1 stream null changes nothing", V1Chat, `{"model":"a","stream":true,"stream":null}`, with(func(p *Peek) { p.Stream = true })},
		{"responses stream null", V1Responses, `{"model":"a","stream":true,"stream":null}`, none},
		{
			"folded names", V1Chat, `{"model":"a","ſTREAM":true,"Temperature":0.5}`,
			with(func(p *Peek) { p.Stream, p.Temperature = true, new(0.5) }),
		},
		{"embeddings never stream", Embed, `{"model":"a","stream":true}`, none},
		{
			"options", Generate, `{"model":"a","options":{"num_predict":12.7,"num_ctx":4096,"temperature":0,"seed":7,"stop":["x","\n"]},"raw":true,"think":"high"}`,
			with(func(p *Peek) {
				p.Stream, p.LoadOnly, p.Raw, p.Think, p.ThinkSet = true, true, true, true, true
				p.NumPredict, p.NumCtx, p.Temperature, p.Seed, p.Stop = 12, 4096, new(0.0), new(int64(7)), []string{"x", "\n"}
			}),
		},
		{
			"options are exact, add up, and wrong types unset", Generate,
			`{"model":"a","options":{"num_predict":5,"seed":1,"Num_ctx":9},"Options":{"num_predict":"5"}}`,
			with(func(p *Peek) { p.Stream, p.LoadOnly, p.Seed = true, true, new(int64(1)) }),
		},
		{"options null", Generate, `{"model":"a","options":{"num_ctx":5},"options":null}`, with(func(p *Peek) { p.Stream, p.LoadOnly = true, true })},
		{"v1 has no options", V1Chat, `{"model":"a","options":{"num_ctx":5},"keep_alive":"5m","raw":true}`, none},
		{
			"v1 limits", V1Chat, `{"model":"a","max_tokens":5,"max_completion_tokens":6,"stop":"x","seed":3,"n":2,"logprobs":true,"stream_options":{"include_usage":true},"response_format":{"type":"json_schema","json_schema":{}}}`,
			with(func(p *Peek) {
				p.NumPredict, p.Stop, p.Seed, p.N, p.HasLogprobs, p.IncludeUsage, p.HasFormat = 5, []string{"x"}, new(int64(3)), 2, true, true, true
			}),
		},
		{
			"v1 newer limit", V1Chat, `{"model":"a","max_completion_tokens":6,"reasoning_effort":"none","response_format":{"type":"text"}}`,
			with(func(p *Peek) { p.NumPredict, p.ThinkSet = 6, true }),
		},
		{
			"v1 limit that is no int", V1Chat, `{"model":"a","max_tokens":1.5,"reasoning":{"effort":"low"}}`,
			with(func(p *Peek) { p.Think, p.ThinkSet = true, true }),
		},
		{
			"v1 completions", V1Completions, `{"model":"a","suffix":"z","logprobs":2}`,
			with(func(p *Peek) { p.HasSuffix, p.HasLogprobs, p.PromptBytes = true, true, 1 }),
		},
		{
			"responses", V1Responses, `{"model":"a","max_output_tokens":9,"max_tokens":1,"text":{"format":{"type":"json_schema"}},"reasoning":{"effort":"high"}}`,
			with(func(p *Peek) { p.NumPredict, p.HasFormat, p.Think, p.ThinkSet = 9, true, true, true }),
		},
		{
			"messages", V1Messages, `{"model":"a","max_tokens":9,"stop_sequences":["x"],"stop":"y","thinking":{"type":"enabled","budget_tokens":5},"stream":true}`,
			with(func(p *Peek) {
				p.NumPredict, p.Stop, p.Think, p.ThinkSet, p.Stream = 9, []string{"x"}, true, true, true
			}),
		},
		{"thinking disabled", V1Messages, `{"model":"a","thinking":{"type":"disabled"}}`, with(func(p *Peek) { p.ThinkSet = true })},
		{"format", Generate, `{"model":"a","format":"json"}`, with(func(p *Peek) { p.Stream, p.LoadOnly, p.HasFormat = true, true, true })},
		{"schema", Chat, `{"model":"a","format":{"type":"object"}}`, with(func(p *Peek) { p.Stream, p.LoadOnly, p.HasFormat = true, true, true })},
		{"no format", Chat, `{"model":"a","format":""}`, with(func(p *Peek) { p.Stream, p.LoadOnly = true, true })},
		{"think false", Chat, `{"model":"a","think":false,"logprobs":false,"top_logprobs":0}`, with(func(p *Peek) { p.Stream, p.LoadOnly, p.ThinkSet = true, true, true })},
		{"pull by name", Pull, `{"name":"a","insecure":true,"prompt":"x"}`, with(func(p *Peek) { p.Stream, p.Insecure = true, true })},
		{"model before name", Show, `{"name":"b","model":"a"}`, none},
		{"empty model, name", Delete, `{"model":"","name":"a"}`, none},
		{"copy", Copy, `{"source":"a","destination":"b","model":"c","Model":"d"}`, with(func(p *Peek) { p.Destination = "b" })},
		{"name is not read for inference", Chat, `{"name":"b","Name":"c","model":"a"}`, with(func(p *Peek) { p.Stream, p.LoadOnly = true, true })},
		{"escaped model", Chat, `{"model":"\u0061"}`, with(func(p *Peek) { p.Stream, p.LoadOnly = true, true })},
		{"nested model", Chat, `{"options":{"model":"x"},"tools":[],"model":"a"}`, with(func(p *Peek) { p.Stream, p.LoadOnly = true, true })},
		{
			"context, template, images", Generate, `{"model":"a","context":[1,2],"template":"{{x}}","images":["aGk="]}`,
			with(func(p *Peek) {
				p.Stream, p.LoadOnly, p.HasContext, p.HasTemplate, p.HasImages = true, true, true, true, true
			}),
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := Parse(tt.kind, []byte(tt.body))
			if err != nil {
				t.Fatal(err)
			}
			got.Prefixes, got.PrefixTokens, got.PrefixKey, got.Messages = nil, nil, 0, 0
			if !reflect.DeepEqual(got, tt.want) {
				t.Errorf("got  %+v\nwant %+v", got, tt.want)
			}
		})
	}
}

func TestParseWithoutBody(t *testing.T) {
	for _, k := range []Kind{Tags, Blob, WebSearch, NoKind, Kind(99), V1Transcriptions} {
		p, err := Parse(k, []byte("\x00 anything"))
		if err != nil || p.Model != "" {
			t.Errorf("%v: %+v, %v", k, p, err)
		}
	}
}

func TestKeepAlive(t *testing.T) {
	forever := time.Duration(1<<63 - 1)
	tests := []struct {
		json   string
		want   *time.Duration
		unload bool
	}{
		{`"5m"`, new(5 * time.Minute), false},
		{`"0s"`, new(time.Duration(0)), true},
		{`0`, new(time.Duration(0)), true},
		{`0.4`, new(400 * time.Millisecond), true},
		{`30`, new(30 * time.Second), false},
		{`1e300`, &forever, false},
		{`-1`, &forever, false},
		{`"-1m"`, &forever, false},
		{`"5"`, nil, false},
		{`null`, nil, false},
		{`[1]`, nil, false},
		{`"` + strings.Repeat("1h", 60) + `"`, nil, false},
	}
	for _, tt := range tests {
		t.Run(tt.json, func(t *testing.T) {
			p, err := Parse(Generate, []byte(`{"model":"a","keep_alive":`+tt.json+`}`))
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(p.KeepAlive, tt.want) || p.Unloads() != tt.unload {
				t.Errorf("got %v unload %v, want %v unload %v", p.KeepAlive, p.Unloads(), tt.want, tt.unload)
			}
		})
	}
	p, _ := Parse(Generate, []byte(`{"model":"a","keep_alive":0,"prompt":"x"}`))
	if p.Unloads() {
		t.Error("a request with a prompt unloads only afterwards")
	}
}

func TestReloadOptions(t *testing.T) {
	reload := func(body string) uint64 {
		t.Helper()
		p, err := Parse(Generate, []byte(body))
		if err != nil {
			t.Fatal(err)
		}
		return p.Reload
	}
	if reload(`{"model":"a","options":{"num_ctx":5,"seed":1,"num_gpu":null}}`) != 0 {
		t.Error("options that need no reload are counted")
	}
	a := reload(`{"model":"a","options":{"num_gpu":1,"num_thread":2}}`)
	b := reload(`{"model":"a","options":{"num_thread":2,"seed":4,"num_gpu":1}}`)
	c := reload(`{"model":"a","options":{"num_thread":1,"num_gpu":2}}`)
	if a == 0 || a != b || a == c {
		t.Errorf("got %x %x %x: want the first two equal, the third another", a, b, c)
	}
}

// FuzzParse holds Parse against encoding/json, which is what Ollama binds
// bodies with: it never reports another model, refuses whatever is no JSON, and
// accepts whatever is not ambiguous.
func FuzzParse(f *testing.F) {
	for _, s := range jsonSeeds {
		f.Add(byte(Chat), []byte(s))
	}
	for _, s := range []string{
		`{"model":"a","prompt":"hello","stream":false}`,
		`{"model":"a","Model":"b"}`, `{"MODEL":"b"}`, `{"model":"a","model":"b"}`, `{"model":"\ud800"}`, `{"mode\u006c":"a"}`,
		`{"model":"a","messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"data:"}},{"type":"text","text":"x"}]}]}`,
		`{"model":"a","messages":[{"role":"tool","content":[{"type":"tool_result","content":[{"type":"text","text":"x"}]}]}],"system":[{"type":"text","text":"y"}]}`,
		`{"model":"a","input":["x","y"],"keep_alive":"5m","options":{"num_ctx":1,"stop":["a"]}}`,
		`{"model":"a","stream":false,"Stream":true}`, `{"model":"a","ſtream":true,"stream":null}`,
		"\ufeff{\"model\":\"a\"}", `{"model":"a"} {"model":"b"}`, `{"model":"a"`,
		`{"source":"a","destination":"b"}`, `{"name":"a","insecure":true}`, `{"model":null,"name":"x"}`,
		`{"model":"a","stream":nul}`, `{"model":"a","tools":[{}],"think":true,"format":{}}`, `{"model":"a","shift":true}`,
		`{"model":"a","text":{"format":{"type":"json_schema"}},"reasoning":{"effort":"x"},"stream_options":{}}`,
	} {
		for _, k := range []Kind{Generate, Chat, Embed, V1Chat, V1Completions, V1Responses, V1Messages, Show, Copy} {
			f.Add(byte(k), []byte(s))
		}
	}
	f.Fuzz(func(t *testing.T, k byte, body []byte) {
		kind := Kind(k % byte(kindEnd))
		if q, _ := kind.structName(); q == "" {
			return
		}
		p, perr := Parse(kind, body)

		var ref struct {
			Model       string `json:"model"`
			Name        string `json:"name"`
			Source      string `json:"source"`
			Destination string `json:"destination"`
			Stream      *bool  `json:"stream"`
		}
		err := json.Unmarshal(body, &ref)
		want := ref.Model
		switch primary, secondary := naming(kind); {
		case primary == "source":
			want = ref.Source
		case secondary == "name" && want == "":
			want = ref.Name
		}
		if perr == nil {
			if !json.Valid(body) {
				t.Fatalf("%v %q: accepted, but it is no JSON: %v", kind, body, err)
			}
			if p.Model != want {
				t.Fatalf("%v %q: model %q, encoding/json reads %q", kind, body, p.Model, want)
			}
			if want := streamOf(kind, body, ref.Stream); err == nil && kind.Streams() && p.Stream != want {
				t.Fatalf("%v %q: stream %v, encoding/json reads %v", kind, body, p.Stream, want)
			}
			if len(p.Prefixes) > maxPrefixes || len(p.Prefixes) != len(p.PrefixTokens) || p.PromptTokens < 0 || p.PromptBytes > len(body) {
				t.Fatalf("%v %q: %+v", kind, body, p)
			}
			return
		}
		if err == nil && want != "" && len(want) <= MaxModelName && plain(body, kind) {
			t.Fatalf("%v %q: refused with %v, though encoding/json reads %q", kind, body, perr, want)
		}
	})
}

// streamOf is whether a body asks for a stream. Ollama's own requests and those
// for responses have a pointer for it, which null clears; others a bool, which
// null leaves.
func streamOf(kind Kind, body []byte, own *bool) bool {
	switch {
	case kind.DefaultStream():
		return own == nil || *own
	case kind == V1Responses:
		return own != nil && *own
	}
	var other struct {
		Stream bool `json:"stream"`
	}
	_ = json.Unmarshal(body, &other)
	return other.Stream
}

// plain reports whether the members of body that name the model are there once
// each at most, in lower case.
func plain(body []byte, kind Kind) bool {
	primary, secondary := naming(kind)
	d := json.NewDecoder(strings.NewReader(string(body)))
	if open, err := d.Token(); err != nil || open != json.Delim('{') {
		return false
	}
	seen := map[string]bool{}
	for d.More() {
		tok, err := d.Token()
		if err != nil {
			return false
		}
		key := tok.(string)
		for _, name := range []string{primary, secondary} {
			if name != "" && strings.EqualFold(key, name) {
				if key != name || seen[name] {
					return false
				}
				seen[name] = true
			}
		}
		var v json.RawMessage
		if d.Decode(&v) != nil {
			return false
		}
	}
	return true
}
