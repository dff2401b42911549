package ollamatest

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"
)

// tags lists what /api/tags shows.
func (b *bubble) tags() []string {
	b.t.Helper()
	var list struct{ Models []struct{ Name string } }
	decodeLine(b.t, do(b.t.Context(), b.client, "GET", "http://ollama/api/tags", "").body, &list)
	var names []string
	for _, m := range list.Models {
		names = append(names, m.Name)
	}
	slices.Sort(names)
	return names
}

func TestListings(t *testing.T) {
	models := []Model{
		{Name: "m:7b", Size: 5 << 30, Family: "qwen2", ParameterSize: "7.6B", Layers: 28, KVHeads: 4},
		{Name: "big:120b-cloud", Remote: "https://ollama.com:443"},
	}
	inBubble(t, Config{Models: models, VRAM: 8 << 30}, func(t *testing.T, b *bubble) {
		type item struct {
			Name, Model, Digest string
			Size                int64
			RemoteHost          string `json:"remote_host"`
			RemoteModel         string `json:"remote_model"`
			Capabilities        []string
			Details             struct {
				Family, Format string
				ParameterSize  string `json:"parameter_size"`
				ContextLength  int    `json:"context_length"`
			}
		}
		var tags struct{ Models []item }
		decodeLine(t, do(t.Context(), b.client, "GET", "http://ollama/api/tags", "").body, &tags)
		slices.SortFunc(tags.Models, func(a, b item) int { return strings.Compare(a.Name, b.Name) })
		cloud, m := tags.Models[0], tags.Models[1]
		if m.Name != "m:7b" || m.Model != m.Name || m.Size != 5<<30 || len(m.Digest) != 64 || m.Details.Family != "qwen2" ||
			m.Details.ParameterSize != "7.6B" || m.Details.ContextLength != 32768 || !slices.Equal(m.Capabilities, []string{"completion"}) {
			t.Errorf("tags: %+v", m)
		}
		if cloud.RemoteHost != "https://ollama.com:443" || cloud.RemoteModel != "big:120b" {
			t.Errorf("cloud model: %+v", cloud)
		}

		<-b.generate(t.Context(), "big:120b-cloud", 1) // takes no memory here
		<-b.generate(t.Context(), "m:7b", 1, "num_ctx", 8192)
		var ps struct {
			Models []struct {
				Name          string
				Size          uint64
				SizeVRAM      uint64    `json:"size_vram"`
				ExpiresAt     time.Time `json:"expires_at"`
				ContextLength int       `json:"context_length"`
			}
		}
		decodeLine(t, do(t.Context(), b.client, "GET", "http://ollama/api/ps", "").body, &ps)
		kv := uint64(2 * 2 * 28 * 4 * 128 * 8192)
		if p := ps.Models[0]; len(ps.Models) != 1 || p.Name != "m:7b" || p.Size != 5<<30+kv || p.SizeVRAM != p.Size || p.ContextLength != 8192 ||
			time.Until(p.ExpiresAt) != 5*time.Minute {
			t.Errorf("ps: %+v", ps)
		}

		var show struct {
			Modelfile, Template, Parameters string
			Capabilities                    []string
			Info                            map[string]any `json:"model_info"`
		}
		decodeLine(t, b.post("/api/show", `{"model":"m:7b"}`).body, &show)
		e, _ := b.catalog.find("m:7b")
		if !strings.Contains(show.Modelfile, "\nFROM "+blobPath(e.Weights)+"\n") || show.Template != e.Template ||
			show.Info["qwen2.block_count"] != 28.0 || show.Info["qwen2.attention.head_count_kv"] != 4.0 || show.Info["qwen2.attention.key_length"] != 128.0 {
			t.Errorf("show: %+v", show)
		}
	})
}

func TestSameModelHasTheSameDigestEverywhere(t *testing.T) {
	find := func(m Model) *entry {
		e, err := New(Config{Models: []Model{m}}).catalog.find(m.Name)
		if err != nil {
			t.Fatal(err)
		}
		return e
	}
	a, b, c := find(Model{Name: "m", Size: 1}), find(Model{Name: "library/m:latest", Size: 1}), find(Model{Name: "m", Size: 2})
	if a.Digest != b.Digest || a.Weights != b.Weights {
		t.Error("the same model has two digests")
	}
	if a.Digest == c.Digest || a.Weights == a.Digest {
		t.Error("digests do not tell different things apart")
	}
}

func TestPull(t *testing.T) {
	size := int64(1000)
	c := Config{Catalog: []Model{{Name: "new", Size: size}}, PullRate: 1000}
	inBubble(t, c, func(t *testing.T, b *bubble) {
		start := time.Now()
		r := b.post("/api/pull", `{"model":"new"}`)
		if took := time.Since(start); took != time.Second {
			t.Errorf("took %v", took)
		}
		var all []status
		for _, line := range r.lines {
			var s status
			decodeLine(t, line, &s)
			all = append(all, s)
		}
		n := len(all)
		if n != 15 || all[0].Status != "pulling manifest" || all[n-3].Status != "verifying sha256 digest" ||
			all[n-2].Status != "writing manifest" || all[n-1].Status != "success" {
			t.Fatalf("%d lines: %+v", n, all)
		}
		for i, s := range all[1 : n-3] {
			if s.Total != size || s.Completed != int64(i)*100 || s.Status != "pulling "+s.Digest[7:19] {
				t.Errorf("line %d: %+v", i+1, s)
			}
		}
		if !slices.Equal(b.tags(), []string{"new:latest"}) {
			t.Errorf("installed: %v", b.tags())
		}
		if r := <-b.generate(t.Context(), "new", 1); r.status != 200 {
			t.Errorf("the pulled model: %d %s", r.status, r.body)
		}
	})
}

func TestPullResumes(t *testing.T) {
	c := Config{Catalog: []Model{{Name: "new", Size: 1000}}, PullRate: 1000}
	inBubble(t, c, func(t *testing.T, b *bubble) {
		ctx, cancel := context.WithTimeout(t.Context(), 650*time.Millisecond)
		defer cancel()
		do(ctx, b.client, "POST", "http://ollama/api/pull", `{"model":"new"}`)
		if len(b.tags()) != 0 {
			t.Fatal("half a model was installed")
		}
		start := time.Now()
		if r := b.post("/api/pull", `{"model":"new","stream":false}`); r.body != `{"status":"success"}` {
			t.Errorf("got %s", r.body)
		}
		if took := time.Since(start); took > 500*time.Millisecond {
			t.Errorf("the rest took %v", took)
		}
	})
}

func TestPullOfNothing(t *testing.T) {
	inBubble(t, Config{}, func(t *testing.T, b *bubble) {
		r := b.post("/api/pull", `{"name":"nosuch"}`)
		want := `{"status":"pulling manifest"}` + "\n" + `{"error":"pull model manifest: file does not exist"}` + "\n"
		if r.status != 200 || r.body != want {
			t.Errorf("streamed: %d %s", r.status, r.body)
		}
		r = b.post("/api/pull", `{"name":"nosuch","stream":false}`)
		if r.status != 500 || r.body != `{"error":"pull model manifest: file does not exist"}` {
			t.Errorf("whole: %d %s", r.status, r.body)
		}
	})
}

func TestCopyCreateDelete(t *testing.T) {
	inBubble(t, Config{Models: []Model{{Name: "a", Size: 7}}}, func(t *testing.T, b *bubble) {
		if r := b.post("/api/copy", `{"source":"a","destination":"b:x"}`); r.status != 200 || r.body != "" {
			t.Errorf("copy: %d %s", r.status, r.body)
		}
		a, _ := b.catalog.find("a")
		if e, err := b.catalog.find("b:x"); err != nil || e.Digest != a.Digest {
			t.Errorf("copy: %v", err)
		}
		r := b.post("/api/create", `{"model":"c","from":"a","system":"be brief","parameters":{"num_predict":3}}`)
		if !strings.HasSuffix(r.body, "{\"status\":\"writing manifest\"}\n{\"status\":\"success\"}\n") {
			t.Errorf("create: %s", r.body)
		}
		if e, err := b.catalog.find("c"); err != nil || e.Weights != a.Weights || e.Digest == a.Digest || e.System != "be brief" {
			t.Errorf("created: %+v, %v", e, err)
		}
		if r := b.post("/api/generate", `{"model":"c","prompt":"x"}`); Verify(r.text(), 3) != nil {
			t.Errorf("parameters of the created model: %s", r.body)
		}
		del := func(name string) int {
			return do(t.Context(), b.client, "DELETE", "http://ollama/api/delete", body("model", name)).status
		}
		if x, y := del("b:x"), del("b:x"); x != 200 || y != 404 {
			t.Errorf("delete: %d, then %d", x, y)
		}
		if !slices.Equal(b.tags(), []string{"a:latest", "c:latest"}) {
			t.Errorf("left: %v", b.tags())
		}
		head := func() int {
			return do(t.Context(), b.client, "HEAD", "http://ollama/api/blobs/sha256:"+a.Weights, "").status
		}
		if head() != 200 {
			t.Error("the weights went with one of their names")
		}
		del("a")
		del("c")
		if head() != 404 {
			t.Error("the weights stayed")
		}
	})
}

func TestBlobsAndCreateFromFiles(t *testing.T) {
	inBubble(t, Config{}, func(t *testing.T, b *bubble) {
		const digest = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad" // of "abc"
		create := func() reply {
			return b.post("/api/create", body("model", "new", "stream", false, "files", map[string]string{"m.gguf": digest}))
		}
		if r := create(); r.status != 500 || !strings.Contains(r.body, "no such file") {
			t.Errorf("create without blob: %d %s", r.status, r.body)
		}
		if r := b.post("/api/blobs/"+digest, "abd"); r.status != 400 || !strings.Contains(r.body, "digest mismatch") {
			t.Errorf("wrong blob: %d %s", r.status, r.body)
		}
		if r := b.post("/api/blobs/xx", "abc"); r.status != 400 || r.body != `{"error":"invalid digest format"}` {
			t.Errorf("bad digest: %d %s", r.status, r.body)
		}
		for _, want := range []int{201, 200} {
			if r := b.post("/api/blobs/"+digest, "abc"); r.status != want {
				t.Errorf("blob: %d, want %d", r.status, want)
			}
		}
		if r := create(); r.status != 200 || r.body != `{"status":"success"}` {
			t.Errorf("create: %d %s", r.status, r.body)
		}
		if e, err := b.catalog.find("new"); err != nil || e.Size != 3 {
			t.Errorf("created %+v, %v", e, err)
		}
	})
}

func TestPush(t *testing.T) {
	inBubble(t, Config{Models: []Model{{Name: "a"}}}, func(t *testing.T, b *bubble) {
		for name, end := range map[string]string{"a": `{"status":"success"}`, "nosuch": `{"error":"file does not exist"}`} {
			r := b.post("/api/push", body("model", name))
			if got := r.lines[len(r.lines)-1]; got != end || !json.Valid([]byte(r.lines[0])) {
				t.Errorf("%s: %s", name, r.body)
			}
		}
	})
}

func TestPlace(t *testing.T) {
	const gb = 1 << 30
	for _, tt := range []struct {
		name       string
		need       uint64
		free       memory
		gpu, alone bool
		want       memory
		fits       bool
	}{
		{"cpu", 4 * gb, memory{0, 8 * gb}, false, true, memory{0, 4 * gb}, true},
		{"cpu, full", 9 * gb, memory{0, 8 * gb}, false, true, memory{0, 9 * gb}, false},
		{"gpu", 4 * gb, memory{8 * gb, 8 * gb}, true, false, memory{4 * gb, 0}, true},
		{"gpu, exactly", 8 * gb, memory{8 * gb, 8 * gb}, true, false, memory{8 * gb, 0}, true},
		{"split when alone", 10 * gb, memory{8 * gb, 8 * gb}, true, true, memory{8 * gb, 2 * gb}, true},
		{"no split beside others", 10 * gb, memory{8 * gb, 8 * gb}, true, false, memory{}, false},
		{"too big", 17 * gb, memory{8 * gb, 8 * gb}, true, true, memory{8 * gb, 9 * gb}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, fits := place(tt.need, tt.free, tt.gpu, tt.alone)
			if got != tt.want || fits != tt.fits {
				t.Errorf("got %v, %v; want %v, %v", got, fits, tt.want, tt.fits)
			}
		})
	}
}
