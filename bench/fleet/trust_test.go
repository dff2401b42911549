package fleet

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/admin"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/ollamatest"
)

// Fifty streams run without a pause while the mesh key is rotated and then a
// node is evicted. No client sees anything of it.
func TestRotationAndEvictionUnderLoad(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	defer cancel()
	old := mesh.NewKey()
	specs := ten()[:4]
	for i := range specs {
		for j := range specs[i].Ollama.Models {
			specs[i].Ollama.Models[j].Decode /= 10 // streams of some tenths of a second
		}
		specs[i].Ollama.Parallel = 16
	}
	f, err := Start(ctx, specs, Options{Key: old})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	entries := []string{f.Node(0).Endpoint(), f.Node(1).Endpoint(), f.Node(2).Endpoint()}
	evicted := f.Node(3)

	load, stop := context.WithCancel(ctx)
	var wait sync.WaitGroup
	var answers, failures, byEvicted atomic.Int32
	var first atomic.Pointer[error]
	for i := range 50 {
		wait.Go(func() {
			for n := 0; load.Err() == nil; n++ {
				a := Ask(ctx, entries[(i+n)%len(entries)], "common", fmt.Sprint("q", i, n), 60, true)
				if a.Err != nil {
					failures.Add(1)
					first.CompareAndSwap(nil, &a.Err)
				}
				if a.Node == evicted.Spec.Name {
					byEvicted.Add(1)
				}
				answers.Add(1)
			}
		})
	}
	running := func(n int32) {
		t.Helper()
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for from := answers.Load(); answers.Load() < from+n; <-tick.C {
			if ctx.Err() != nil {
				t.Fatal("the load stands still")
			}
		}
	}
	running(100)
	api := admin.Client{Base: f.Node(1).Endpoint()}
	rotated, err := api.RotateKey(ctx)
	if err != nil {
		t.Fatal(err)
	}
	running(100)
	if byEvicted.Load() == 0 {
		t.Error("the node to be evicted had no part in the load: the rest proves nothing")
	}
	again, err := api.Evict(ctx, evicted.Spec.Name)
	if err != nil {
		t.Fatal(err)
	}
	running(100)
	before := byEvicted.Load()
	running(200)
	late := byEvicted.Load() - before
	stop()
	wait.Wait()
	t.Logf("%d answers, %d failed, %d by the node that was evicted", answers.Load(), failures.Load(), byEvicted.Load())
	if failures.Load() > 0 {
		t.Errorf("%d requests failed, the first with %v", failures.Load(), *first.Load())
	}
	if late > 0 {
		t.Errorf("the evicted node still answered %d requests", late)
	}
	keys, err := api.Keys(ctx)
	if err != nil || len(keys.Nodes) != 3 {
		t.Fatalf("keys: %+v, %v", keys, err)
	}
	want, err := mesh.ParseKey(again.Key)
	if err != nil || rotated.Key == again.Key {
		t.Fatalf("the second key: %v", err)
	}
	for _, n := range keys.Nodes {
		if len(n.Keys) != 1 || n.Keys[0] != want.Fingerprint() {
			t.Errorf("%s has %v", n.Name, n.Keys)
		}
	}
	// It comes back with what it has: the old key and its own id.
	evicted.Kill()
	if err := evicted.Restart(ctx); err == nil {
		t.Error("the evicted node joined again")
	}
}

// Prompts, answers, keys and query strings appear in no log, at any level, nor
// in anything that a node tells of itself, whatever goes wrong.
func TestNothingTellsSecrets(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var logs lockedBuffer
	key := mesh.NewKey()
	logger := slog.New(slog.NewTextHandler(&logs, &slog.HandlerOptions{Level: slog.LevelDebug}))
	f, err := Start(ctx, ten()[:3], Options{Key: key, Logger: logger})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	const canary = "canary-b7e1f9"
	url := f.Node(0).Endpoint()
	send := func(method, path, body string, header ...string) {
		t.Helper()
		req, err := http.NewRequestWithContext(ctx, method, url+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		for i := 0; i < len(header); i += 2 {
			req.Header.Set(header[i], header[i+1])
		}
		resp, err := http.DefaultClient.Do(req)
		if err == nil {
			_ = resp.Body.Close()
		}
	}
	whole := `{"model":"common","prompt":"` + canary + `","system":"` + canary + `","options":{"num_predict":8}}`
	secret := []string{"Authorization", "Bearer " + canary, "X-Api-Key", canary, "Cookie", canary}
	send("POST", "/api/generate?token="+canary, whole, secret...)
	send("POST", "/api/chat", `{"model":"common","messages":[{"role":"user","content":"`+canary+`"}]}`, secret...)
	send("POST", "/v1/chat/completions", `{"model":"`+"common"+`","messages":[{"role":"user","content":"`+canary+`"}]`, secret...) // cut JSON
	send("POST", "/api/generate", `{"model":7,"prompt":"`+canary+`"}`)
	send("POST", "/api/generate", `{"model":"nowhere","prompt":"`+canary+`"}`)
	send("GET", "/"+canary+"?"+canary, "")
	send("POST", "/api/generate", whole, "Origin", "https://evil.example")
	send("POST", "/api/generate", whole, "Content-Encoding", "gzip")
	send("POST", "/api/generate", whole, "X-Kage-Request-Id", "a b "+canary)
	for _, path := range []string{"/v1/completions", "/v1/responses", "/v1/messages", "/api/embed", "/api/embeddings", "/v1/embeddings"} {
		send("POST", path, `{"model":"common","prompt":"`+canary+`","input":"`+canary+`","max_tokens":4,"messages":[{"role":"user","content":"`+canary+`"}]}`, secret...)
	}
	send("POST", "/api/generate", `{"model":"common","prompt":"x","images":["`+strings.Repeat(canary, 200_000)+`"]}`) // spooled
	send("POST", "/api/show?"+canary, `{"model":"common","system":"`+canary+`"}`, secret...)
	send("POST", "/api/create", `{"model":"mine","from":"common","system":"`+canary+`"}`, secret...)
	send("POST", "/api/pull", `{"model":"nowhere","username":"`+canary+`","password":"`+canary+`"}`, secret...)
	send("POST", "/api/me", canary, secret...)
	send("GET", "/mesh/v1/explain?model=common&prompt="+canary, "", secret...)
	send("POST", "/mesh/v1/keys/remove", `{"key":"`+canary+`"}`, secret...)
	// What a model says breaks off in the middle, and goes on elsewhere.
	undo := f.Node(2).Ollama.Fault(ollamatest.Fault{Kind: ollamatest.Die, After: 3})
	for range 3 {
		_ = Ask(ctx, url, "common", canary, 8, true)
	}
	undo()
	short, leave := context.WithTimeout(ctx, 2*time.Millisecond) // a client that leaves
	_ = Ask(short, url, "common", canary, 4000, true)
	leave()
	f.Node(1).Kill()
	for range 6 { // nodes that die
		_ = Ask(ctx, url, "common", canary, 8, true)
	}
	api := admin.Client{Base: url}
	if _, err := f.Node(0).Mesh().Wait(ctx, func(v *mesh.View) bool {
		m, ok := v.Member(f.Node(1).ID())
		return ok && m.Status == mesh.Failed
	}); err != nil {
		t.Fatal(err)
	}
	rotated, err := api.RotateKey(ctx)
	if err != nil {
		t.Fatal(err)
	}
	// What the node tells of itself: to monitoring, to its owner, and to
	// whoever looks into a problem.
	var told strings.Builder
	for _, path := range []string{
		"/metrics", "/health", "/backends", "/mesh/v1/requests", "/mesh/v1/members", "/mesh/v1/status", "/mesh/v1/models",
		"/mesh/v1/keys", "/mesh/v1/history", "/mesh/v1/checkup", "/mesh/v1/explain?model=common",
	} {
		resp, err := http.Get(url + path)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if err != nil || resp.StatusCode >= 500 || len(body) == 0 {
			t.Errorf("%s: %s, %d bytes, %v", path, resp.Status, len(body), err)
		}
		fmt.Fprintf(&told, "%s\n%s\n", path, body)
	}
	if !strings.Contains(told.String(), "kage_attempts_total") || !strings.Contains(told.String(), `"model":"common`) {
		t.Error("no metrics or no requests were told; the test proves nothing")
	}
	f.Close()
	text := logs.String() + told.String()
	for what, bad := range map[string]string{
		"a canary": canary, "the mesh key": key.String()[6:40], "the new mesh key": rotated.Key[6:40],
	} {
		if i := strings.Index(text, bad); i >= 0 {
			t.Errorf("%s is told: ...%s...", what, text[max(0, i-200):min(len(text), i+60)])
		}
	}
	if answer := answerText.FindString(text); answer != "" {
		t.Errorf("an answer is told: %s", answer)
	}
	if !strings.Contains(text, "level=DEBUG") || len(text) < 1000 {
		t.Errorf("the log is not at debug level; the test proves nothing:\n%s", text)
	}
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}
