package conformance

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/ollamatest"
)

// catalog is what can be pulled.
func catalog(names ...string) []ollamatest.Model {
	var out []ollamatest.Model
	for _, n := range names {
		out = append(out, ollamatest.Model{Name: n, Size: gib})
	}
	return out
}

func holders(t *testing.T, url, name string) string {
	t.Helper()
	var list struct {
		Models []struct {
			Name string
			Kage struct{ Nodes []string }
		}
	}
	if err := json.Unmarshal(send(t, "GET", url+"/api/tags", nil).body, &list); err != nil {
		t.Fatal(err)
	}
	for _, m := range list.Models {
		if m.Name == name {
			return strings.Join(m.Kage.Nodes, ",")
		}
	}
	return ""
}

func TestPullGoesToTheBestNodeOrWhereTold(t *testing.T) {
	f := start(t,
		machine("small", 4*gib, &ollamatest.Config{Catalog: catalog("m", "n", "o")}),
		machine("large", 64*gib, &ollamatest.Config{Catalog: catalog("m", "n", "o")}),
		machine("entry", 8*gib, nil))
	url := f.Node(2).Endpoint()

	r := send(t, "POST", url+"/api/pull", `{"model":"m"}`)
	lines := r.lines(t)
	if r.status != 200 || r.header.Get("Content-Type") != "application/x-ndjson" || r.header.Get("X-Kage-Node") != "large" {
		t.Fatalf("%d %q by %q", r.status, r.header.Get("Content-Type"), r.header.Get("X-Kage-Node"))
	}
	if first, last := lines[0]["status"], lines[len(lines)-1]["status"]; first != "pulling manifest" || last != "success" {
		t.Errorf("from %v to %v", first, last)
	}
	if got := holders(t, url, "m:latest"); got != "large" {
		t.Errorf("when the pull returned the listing had it on %q", got)
	}

	r = send(t, "POST", url+"/api/pull?node=small", `{"model":"n","stream":false}`)
	if r.status != 200 || r.object(t)["status"] != "success" || holders(t, url, "n:latest") != "small" {
		t.Errorf("by query: %d %s, on %q", r.status, r.body, holders(t, url, "n:latest"))
	}
	r = send(t, "POST", url+"/api/pull", `{"model":"o"}`, "X-Kage-Node", "all")
	lines = r.lines(t)
	if last := lines[len(lines)-1]; last["status"] != "success" || holders(t, url, "o:latest") != "large,small" {
		t.Errorf("on all: %v, on %q", last, holders(t, url, "o:latest"))
	}
	var sum bool
	for _, l := range lines {
		if l["digest"] != nil {
			sum = true
			if l["total"] != float64(2*gib) {
				t.Errorf("a layer of two nodes: %v", l)
			}
		}
	}
	if !sum {
		t.Errorf("no layer in %v", lines)
	}
	if r := send(t, "POST", url+"/api/pull?node=nosuch", `{"model":"m"}`); r.status != 400 || !strings.Contains(string(r.body), "large, small") {
		t.Errorf("unknown node: %d %s", r.status, r.body)
	}
	if r := send(t, "POST", url+"/api/pull", `{"model":"nosuch"}`); r.status != 200 || r.lines(t)[len(r.lines(t))-1]["error"] == nil {
		t.Errorf("unknown model: %d %s", r.status, r.body)
	}
	if r := send(t, "POST", url+"/api/pull", `{"model":"nosuch","stream":false}`); r.status != 500 || r.object(t)["error"] == nil {
		t.Errorf("unknown model, unstreamed: %d %s", r.status, r.body)
	}
	if r := send(t, "POST", url+"/api/pull", `{"model":"a b:c:d"}`); r.status != 400 {
		t.Errorf("invalid name: %d %s", r.status, r.body)
	}
}

func TestOneNodesFailureDoesNotEndTheOthersPull(t *testing.T) {
	f := start(t,
		machine("a", 32*gib, &ollamatest.Config{Catalog: catalog("m"), PullRate: 4 * gib}),
		machine("b", 32*gib, &ollamatest.Config{PullRate: gib}), // its registry lacks it
		machine("c", 32*gib, &ollamatest.Config{Catalog: catalog("m"), PullRate: gib / 4}),
		machine("entry", 8*gib, nil))
	url := f.Node(3).Endpoint()
	req, err := http.NewRequestWithContext(t.Context(), "POST", url+"/api/pull?node=all", strings.NewReader(`{"model":"m"}`))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	dec := json.NewDecoder(resp.Body)
	var last map[string]any
	killed := false
	for dec.More() {
		last = nil
		if err := dec.Decode(&last); err != nil {
			t.Fatal(err)
		}
		if done, ok := last["completed"].(float64); ok && done > 0 && !killed {
			killed = true
			f.Node(2).Kill() // in the middle of its pull
		}
	}
	text, _ := last["error"].(string)
	if !killed || !strings.Contains(text, "b: pull model manifest") || !strings.Contains(text, "c: ") || !strings.Contains(text, "done on a") {
		t.Errorf("the last line is %v", last)
	}
	if got := holders(t, url, "m:latest"); got != "a" {
		t.Errorf("on %q", got)
	}
}

func TestPullIsNeverStartedTwiceOnANode(t *testing.T) {
	f := start(t, machine("a", 32*gib, &ollamatest.Config{Catalog: catalog("m"), PullRate: gib / 2}), machine("entry", 8*gib, nil))
	type result struct {
		node  string
		lines int
		last  string
	}
	results := make(chan result, 3)
	for _, i := range []int{0, 1, 1} {
		go func() {
			r := send(t, "POST", f.Node(i).Endpoint()+"/api/pull", `{"model":"m:latest"}`)
			lines := r.lines(t)
			results <- result{r.header.Get("X-Kage-Node"), len(lines), fmt.Sprint(lines[len(lines)-1]["status"])}
		}()
	}
	for range 3 {
		if r := <-results; r.node != "a" || r.last != "success" || r.lines < 4 {
			t.Errorf("%+v", r)
		}
	}
	if n := f.Node(0).Ollama.Stats().Requests["POST /api/pull"]; n != 1 {
		t.Errorf("Ollama was told to pull %d times", n)
	}
}

func TestPullEndsWhenNobodyFollowsIt(t *testing.T) {
	f := start(t, machine("a", 32*gib, &ollamatest.Config{Catalog: catalog("m"), PullRate: 1}), machine("entry", 8*gib, nil))
	// Whoever comes after the last follower has left starts the pull anew;
	// before that, it would follow the first. That one has left is noticed within
	// moments: who comes sooner keeps the pull alive.
	deadline := time.Now().Add(10 * time.Second)
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for ; f.Node(0).Ollama.Stats().Requests["POST /api/pull"] < 2; <-tick.C {
		if time.Now().After(deadline) {
			t.Fatal("the pull goes on without anybody")
		}
		ctx, cancel := context.WithCancel(t.Context())
		req, err := http.NewRequestWithContext(ctx, "POST", f.Node(1).Endpoint()+"/api/pull", strings.NewReader(`{"model":"m"}`))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		cancel()
		resp.Body.Close()
	}
}

func TestDeleteAndCopyReachAllHolders(t *testing.T) {
	f := start(t,
		machine("a", 32*gib, &ollamatest.Config{Models: catalog("m")}),
		machine("b", 32*gib, &ollamatest.Config{Models: catalog("m")}),
		machine("entry", 8*gib, nil))
	url := f.Node(2).Endpoint()
	if r := send(t, "POST", url+"/api/copy", `{"source":"m","destination":"alias"}`); r.status != 200 || holders(t, url, "alias:latest") != "a,b" {
		t.Errorf("copy: %d %s, on %q", r.status, r.body, holders(t, url, "alias:latest"))
	}
	if r := send(t, "DELETE", url+"/api/delete?node=a", `{"model":"alias"}`); r.status != 200 || holders(t, url, "alias:latest") != "b" {
		t.Errorf("delete on one: %d %s, on %q", r.status, r.body, holders(t, url, "alias:latest"))
	}
	if r := send(t, "DELETE", url+"/api/delete", `{"name":"m"}`); r.status != 200 || len(r.body) > 0 || holders(t, url, "m:latest") != "" {
		t.Errorf("delete: %d %s, on %q", r.status, r.body, holders(t, url, "m:latest"))
	}
	if r := send(t, "DELETE", url+"/api/delete", `{"model":"m"}`); r.status != 404 || r.object(t)["error"] != "model 'm' not found" {
		t.Errorf("delete of what is gone: %d %s", r.status, r.body)
	}
	if r := send(t, "POST", url+"/api/copy", `{"source":"nosuch","destination":"x"}`); r.status != 404 || r.object(t)["error"] != `model "nosuch" not found` {
		t.Errorf("copy of nothing: %d %s", r.status, r.body)
	}
}

func TestUploadsAndCreateMeetOnOneNode(t *testing.T) {
	f := start(t,
		machine("a", 32*gib, &ollamatest.Config{Models: catalog("base")}),
		machine("b", 32*gib, &ollamatest.Config{}),
		machine("entry", 8*gib, nil))
	url := f.Node(2).Endpoint()
	data := []byte(strings.Repeat("weights", 1<<16))
	sum := sha256.Sum256(data)
	digest := "sha256:" + hex.EncodeToString(sum[:])
	if r := send(t, "HEAD", url+"/api/blobs/"+digest, nil); r.status != 404 {
		t.Fatalf("HEAD: %d", r.status)
	}
	if r := send(t, "POST", url+"/api/blobs/"+digest, data); r.status != 201 {
		t.Fatalf("POST: %d %s", r.status, r.body)
	}
	if r := send(t, "HEAD", url+"/api/blobs/"+digest, nil); r.status != 200 {
		t.Errorf("HEAD after POST: %d", r.status)
	}
	r := send(t, "POST", url+"/api/create", map[string]any{"model": "made", "files": map[string]string{"m.gguf": digest}})
	lines := r.lines(t)
	where := r.header.Get("X-Kage-Node")
	if r.status != 200 || lines[len(lines)-1]["status"] != "success" || holders(t, url, "made:latest") != where {
		t.Errorf("create: %d by %q: %s; listed on %q", r.status, where, r.body, holders(t, url, "made:latest"))
	}
	if r := send(t, "POST", url+"/api/create", `{"model":"child","from":"base","stream":false}`); r.status != 200 || r.header.Get("X-Kage-Node") != "a" || holders(t, url, "child:latest") != "a" {
		t.Errorf("create from a model: %d by %q: %s", r.status, r.header.Get("X-Kage-Node"), r.body)
	}
	if r := send(t, "POST", url+"/api/push", `{"model":"child","stream":false}`); r.status != 200 || r.header.Get("X-Kage-Node") != "a" {
		t.Errorf("push: %d by %q: %s", r.status, r.header.Get("X-Kage-Node"), r.body)
	}
}

func TestManagementIsForTheNodesOwnMachine(t *testing.T) {
	f := start(t, machine("a", 32*gib, &ollamatest.Config{Models: catalog("m"), Catalog: catalog("n")}))
	url := f.Node(0).Endpoint()
	_, port, err := net.SplitHostPort(strings.TrimPrefix(url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	calls := []struct{ method, path, body string }{
		{"POST", "/api/pull", `{"model":"n"}`},
		{"POST", "/api/push", `{"model":"m"}`},
		{"POST", "/api/create", `{"model":"x","from":"m"}`},
		{"POST", "/api/copy", `{"source":"m","destination":"x"}`},
		{"DELETE", "/api/delete", `{"model":"m"}`},
		{"HEAD", "/api/blobs/sha256:" + strings.Repeat("0", 64), ""},
		{"POST", "/api/blobs/sha256:" + strings.Repeat("0", 64), "x"},
		{"POST", "/api/me", ""},
		{"POST", "/api/signout", ""},
	}
	strangers := [][]string{
		{"Origin", "https://evil.example"},
		{"Host", "evil.example:" + port},
		{"Sec-Fetch-Site", "cross-site"},
	}
	for _, c := range calls {
		for _, header := range strangers {
			r := send(t, c.method, url+c.path, c.body, header...)
			if r.status != http.StatusForbidden || c.method != "HEAD" && r.object(t)["error"] == nil {
				t.Errorf("%s %s with %v: %d %s", c.method, c.path, header, r.status, r.body)
			}
		}
	}
	if names := modelNames(t, url); !slices.Equal(names, []string{"m:latest"}) {
		t.Errorf("models are now %v", names)
	}
}

// A peer whose files cannot be read (a fake has none) leads on to the registry,
// and what that says is the end of the story.
func TestPullGoesOnWithoutAPeerThatCannotGive(t *testing.T) {
	f := start(t,
		machine("holder", 32*gib, &ollamatest.Config{Models: catalog("m", "rare")}),
		machine("other", 32*gib, &ollamatest.Config{Catalog: catalog("m")}))
	url := f.Node(1).Endpoint()
	for model, end := range map[string]string{"m": "success", "rare": "pull model manifest: file does not exist"} {
		var told []string
		for _, l := range send(t, "POST", url+"/api/pull?node=other", map[string]string{"model": model}).lines(t) {
			told = append(told, fmt.Sprint(l["status"], l["error"]))
		}
		story := strings.Join(told, "\n")
		if !strings.Contains(story, "copying from holder") || !strings.Contains(story, "cannot copy it from holder") || !strings.Contains(told[len(told)-1], end) {
			t.Errorf("%s:\n%s", model, story)
		}
	}
	if r := send(t, "POST", url+"/api/pull?node=other&source=registry", `{"model":"rare"}`); strings.Contains(string(r.body), "copying from") {
		t.Errorf("from a peer against the caller's word: %s", r.body)
	}
	if names := modelNames(t, f.Node(1).Endpoint()); len(names) != 2 {
		t.Errorf("listed: %v", names)
	}
}
