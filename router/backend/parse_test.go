package backend

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh"
)

func captured(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestParseTags(t *testing.T) {
	catalog, err := parseTags([]byte(`{"models":[
		{"name":"qwen2.5:72b","model":"qwen2.5:72b","modified_at":"2026-11-20T10:00:00.5+02:00","size":47415724625,"digest":"424bad2cc13f","details":{"parameter_size":"72.7B","quantization_level":"Q4_K_M","context_length":32768},"capabilities":["completion","tools"],"new_field":{"kept":true}},
		{"name":"Alpha","size":-5,"digest":"a1"},
		{"name":"alpha:latest","size":7,"digest":"a2"},
		{"name":"gpt-oss:120b-cloud","size":384,"digest":"c1","remote_host":"https://ollama.com:443","remote_model":"gpt-oss:120b"},
		{"name":"other:cloud","size":1,"digest":"c2"},
		{"name":""},
		{"size":"not a number","name":"bad"},
		"not an object"
	]}`))
	if err != nil {
		t.Fatal(err)
	}
	keys := []string{}
	for _, m := range catalog {
		keys = append(keys, m.Key)
		if m.Tag == nil || !json.Valid(m.Tag) {
			t.Errorf("%s: tag %s", m.Key, m.Tag)
		}
	}
	if want := []string{"alpha:latest", "gpt-oss:120b-cloud", "other:cloud", "qwen2.5:72b"}; !slices.Equal(keys, want) {
		t.Fatalf("keys %q, want %q", keys, want)
	}
	q := catalog.Find("qwen2.5:72b")
	if q.Size != 47415724625 || q.ParameterSize != "72.7B" || q.Quantization != "Q4_K_M" || q.ContextLength != 32768 ||
		q.Modified.IsZero() || len(q.Capabilities) != 2 || q.Remote != "" || !strings.Contains(string(q.Tag), "new_field") {
		t.Errorf("qwen: %+v", q)
	}
	if a := catalog[0]; a.Digest != "a1" || a.Size != 0 {
		t.Errorf("of two spellings of one name the first counts, and a negative size is unknown: %+v", a)
	}
	if catalog[1].Remote != "https://ollama.com:443" || catalog[2].Remote == "" {
		t.Errorf("cloud models: %q, %q", catalog[1].Remote, catalog[2].Remote)
	}
	for _, bad := range []string{``, `[]`, `{"models":{}}`, `<html>`} {
		if _, err := parseTags([]byte(bad)); err == nil {
			t.Errorf("parseTags(%q) took it", bad)
		}
	}
}

func TestParseShow(t *testing.T) {
	for name, c := range map[string]struct {
		in     string
		want   Shape
		elided bool
	}{
		"grouped heads": {
			`{"modelfile":"# comment\n# FROM qwen\nFROM /root/.ollama/models/blobs/sha256-6e7fdda508e91cb0f63de5c15ff79ac63a1584ccafd751c07ca12b7f442101b8\nTEMPLATE x","parameters":"num_ctx    8192\nstop \"x\"","details":{"family":"qwen2"},"capabilities":["completion"],
			"model_info":{"general.architecture":"qwen2","qwen2.block_count":80,"qwen2.attention.head_count":64,"qwen2.attention.head_count_kv":8,"qwen2.embedding_length":8192,"qwen2.context_length":32768}}`,
			Shape{Family: "qwen2", Blob: "6e7fdda508e91cb0f63de5c15ff79ac63a1584ccafd751c07ca12b7f442101b8", Layers: 80, KVHeads: 8, HeadDim: 128, ContextLength: 32768, NumCtx: 8192, Capabilities: []string{"completion"}},
			false,
		},
		"key length wins over the quotient": {
			`{"model_info":{"general.architecture":"gemma3","gemma3.block_count":62,"gemma3.attention.head_count":32,"gemma3.attention.head_count_kv":16,"gemma3.attention.key_length":128,"gemma3.embedding_length":5376}}`,
			Shape{Family: "gemma3", Layers: 62, KVHeads: 16, HeadDim: 128},
			false,
		},
		"every head has its own": {
			`{"model_info":{"general.architecture":"llama","llama.block_count":32,"llama.attention.head_count":32,"llama.embedding_length":4096}}`,
			Shape{Family: "llama", Layers: 32, KVHeads: 32, HeadDim: 128},
			false,
		},
		"layers with and without attention": {
			`{"model_info":{"general.architecture":"h","h.block_count":5,"h.attention.head_count":[0,32,0,0,32],"h.attention.head_count_kv":[0,8,0,0,4],"h.embedding_length":4096}}`,
			Shape{Family: "h", Layers: 2, KVHeads: 8, HeadDim: 128},
			false,
		},
		"array left out": {
			`{"model_info":{"general.architecture":"h","h.block_count":50,"h.attention.head_count_kv":null}}`,
			Shape{Family: "h", Layers: 50},
			true,
		},
		"windows path and quotes": {
			`{"modelfile":"FROM \"C:\\Users\\me\\.ollama\\models\\blobs\\sha256-6E7FDDA508E91CB0F63DE5C15FF79AC63A1584CCAFD751C07CA12B7F442101B8\"\r\n"}`,
			Shape{Blob: "6e7fdda508e91cb0f63de5c15ff79ac63a1584ccafd751c07ca12b7f442101b8"},
			false,
		},
		"from a name, then a blob": {
			"{\"modelfile\":\"FROM llama3\\nfrom x/sha256-6e7fdda508e91cb0f63de5c15ff79ac63a1584ccafd751c07ca12b7f442101b8\\nADAPTER y\"}",
			Shape{Blob: "6e7fdda508e91cb0f63de5c15ff79ac63a1584ccafd751c07ca12b7f442101b8"},
			false,
		},
		"nonsense stays unknown": {
			`{"modelfile":"FROM sha256-short","parameters":"num_ctx many\nnum_ctx","model_info":{"general.architecture":"x","x.block_count":-3,"x.context_length":1e300,"x.attention.head_count":"eight","x.embedding_length":[],"x.attention.head_count_kv":{}}}`,
			Shape{Family: "x"},
			false,
		},
		"remote": {
			`{"remote_host":"https://ollama.com","model_info":{}}`, Shape{Remote: "https://ollama.com"}, false,
		},
		"empty": {`{}`, Shape{}, false},
	} {
		t.Run(name, func(t *testing.T) {
			got, elided, err := parseShow([]byte(c.in))
			if err != nil || elided != c.elided || !reflect.DeepEqual(got, c.want) {
				t.Errorf("got %+v, %v, %v\nwant %+v, %v", got, elided, err, c.want, c.elided)
			}
		})
	}
	if _, _, err := parseShow([]byte(`<html>`)); err == nil {
		t.Error("took a web page")
	}
}

func TestParsersReadWhatOllamaWrote(t *testing.T) {
	tags, err := parseTags(captured(t, "tags-0.11.4.json"))
	if err != nil || len(tags) == 0 {
		t.Fatalf("tags: %d models, %v", len(tags), err)
	}
	m := tags.Find("tiny:latest")
	shape, elided, err := parseShow(captured(t, "show-0.11.4.json"))
	if err != nil || elided || m == nil {
		t.Fatalf("show: %v, elided %v, model %v", err, elided, m)
	}
	full := shape.with(*m)
	if full.Blob == "" || full.Layers == 0 || full.KVHeads == 0 || full.HeadDim == 0 || full.ContextLength == 0 || full.Size == 0 ||
		!slices.Contains(full.Capabilities, "completion") {
		t.Errorf("tiny: %+v", full)
	}
	ps, err := parsePS(captured(t, "ps-0.11.4.json"))
	if err != nil || len(ps) != 1 || ps[0].Key != "tiny:latest" || ps[0].Size == 0 || ps[0].Context == 0 || ps[0].Expires.IsZero() {
		t.Errorf("ps: %+v, %v", ps, err)
	}
	if ps[0].Digest != m.Digest {
		t.Errorf("ps and tags name different digests: %s, %s", ps[0].Digest, m.Digest)
	}
	if v, err := parseVersion([]byte(`{"version":"0.11.4"}`)); v != "0.11.4" || err != nil {
		t.Errorf("version %q, %v", v, err)
	}
}

func FuzzParseTags(f *testing.F) {
	f.Add(captured(f, "tags-0.11.4.json"))
	f.Add([]byte(`{"models":[{"name":"a:b","size":1e400,"digest":3}]}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		catalog, err := parseTags(body)
		if err != nil {
			return
		}
		if !slices.IsSortedFunc(catalog, func(a, b mesh.Model) int { return strings.Compare(a.Key, b.Key) }) {
			t.Fatal("catalog is not sorted")
		}
		for i, m := range catalog {
			if m.Key == "" || m.Name == "" || i > 0 && m.Key == catalog[i-1].Key || !json.Valid(m.Tag) {
				t.Fatalf("entry %d: %+v", i, m)
			}
			if m.ContextLength < 0 {
				t.Fatalf("entry %d: %+v", i, m)
			}
			_ = m.Need(0, 1).Total()
		}
	})
}

func FuzzParsePS(f *testing.F) {
	f.Add(captured(f, "ps-0.11.4.json"))
	f.Add([]byte(`{"models":[{"model":"a","size":-1,"context_length":1e30,"expires_at":"2319-01-01T00:00:00Z"}]}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		list, err := parsePS(body)
		if err != nil {
			return
		}
		for _, r := range list {
			if r.Key == "" || r.Name == "" || r.Context < 0 {
				t.Fatalf("%+v", r)
			}
		}
	})
}

func FuzzParseShow(f *testing.F) {
	f.Add(captured(f, "show-0.11.4.json"))
	f.Add([]byte(`{"model_info":{"general.architecture":"h","h.attention.head_count_kv":[1,null,3],"h.attention.head_count":0}}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		s, _, err := parseShow(body)
		if err != nil {
			return
		}
		if s.Layers < 0 || s.KVHeads < 0 || s.HeadDim < 0 || s.NumCtx < 0 || s.ContextLength < 0 || s.Blob != "" && len(s.Blob) != 64 {
			t.Fatalf("%+v", s)
		}
		m := s.with(mesh.Model{})
		_ = m.Need(0, 1).Total()
	})
}

func FuzzParseVersion(f *testing.F) {
	f.Add([]byte(`{"version":"0.33.0"}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		v, err := parseVersion(body)
		if err == nil && (len(v) > 64 || strings.ContainsAny(v, "\n\r\x00\x1b")) {
			t.Fatalf("%q", v)
		}
		if n := ParallelOf(v); n < 1 || n > 2 {
			t.Fatalf("ParallelOf(%q) = %d", v, n)
		}
	})
}
