//go:build linux

package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/deploy/lab"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/deploy/need"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/deploy/realollama"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/deploy/standin"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/store"
)

// storeOf is where a server keeps a model, by its own word.
func storeOf(t *testing.T, o *realollama.Ollama, model string) string {
	t.Helper()
	resp, err := o.Client().Post(o.URL+"/api/show", "application/json", strings.NewReader(`{"model":"`+model+`"}`))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var v struct{ Modelfile string }
	if err := json.NewDecoder(resp.Body).Decode(&v); err != nil {
		t.Fatal(err)
	}
	dir := store.FromModelfile(v.Modelfile)
	if dir == "" {
		t.Fatalf("no store in %q", v.Modelfile)
	}
	return dir
}

// digests are the models of a server with their digests.
func digests(t *testing.T, o *realollama.Ollama) map[string]string {
	t.Helper()
	resp, err := o.Client().Get(o.URL + "/api/tags")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var list struct {
		Models []struct{ Name, Digest string }
	}
	if err := json.NewDecoder(resp.Body).Decode(&list); err != nil {
		t.Fatal(err)
	}
	out := make(map[string]string)
	for _, m := range list.Models {
		out[m.Name] = m.Digest
	}
	return out
}

// pulled is what a pull told.
type pulled struct {
	lines   []map[string]any
	first   float64 // completed bytes of the largest layer when first heard of
	last    map[string]any
	took    time.Duration // in all
	copying time.Duration // of the largest layer, to the word that it is whole
}

// pull pulls a model over the node of h, until it ends or stop says so.
func (h *host) pull(t *testing.T, model string, stop func(map[string]any) bool) (p pulled) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://127.0.0.1:11435/api/pull",
		strings.NewReader(`{"model":"`+model+`","insecure":true}`))
	if err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	resp, err := h.HTTPClient().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	defer func() { p.took = time.Since(start) }()
	largest, from := 0.0, time.Time{}
	lines := bufio.NewScanner(resp.Body)
	for lines.Scan() {
		var line map[string]any
		if err := json.Unmarshal(lines.Bytes(), &line); err != nil {
			t.Fatalf("%v in %q", err, lines.Bytes())
		}
		p.lines, p.last = append(p.lines, line), line
		if total, _ := line["total"].(float64); total > 0 {
			if total > largest {
				largest = total
				p.first, _ = line["completed"].(float64)
				from = time.Now()
			}
			// Ollama looks at a layer once a second before it goes on to the
			// next, so the last word of it comes late.
			if done, _ := line["completed"].(float64); total == largest && done == total && p.copying == 0 {
				p.copying = time.Since(from)
			}
		}
		if stop != nil && stop(line) {
			return p
		}
	}
	return p
}

func (p pulled) says(text string) bool {
	for _, l := range p.lines {
		if s, _ := l["status"].(string); strings.Contains(s, text) {
			return true
		}
	}
	return false
}

// A model of 117 MB comes from a peer's disk instead of from the internet: the
// copy is cut off once and goes on from there, has the same digest, and runs.
func TestModelIsCopiedOverTheLAN(t *testing.T) {
	need.NotShort(t, "three hosts with real Ollamas")
	l := lab.Up(t, 3)
	source := realollama.Start(t, realollama.Options{Models: []string{"big"}})
	internet := &standin.Registry{Dir: storeOf(t, source, "big")}
	address := l.Node(1).IP().String() + ":5000" // the first host's way to it
	serve(t, l.Node(1), address, internet)
	model := address + "/library/big"

	var hosts [4]*host
	var ollamas [4]*realollama.Ollama
	for i := 1; i <= 3; i++ {
		ollamas[i] = realollama.Start(t, realollama.Options{On: l.Node(i)})
		hosts[i] = newHost(t, l.Node(i))
		hosts[i].join()
	}
	await(t, 15*time.Second, "three members with Ollamas", func() bool {
		for i := 1; i <= 3; i++ {
			m, _ := hosts[i].members()
			up := 0
			for _, member := range m.Members {
				if member.Status == "alive" && member.Ollama != "" {
					up++
				}
			}
			if up != 3 {
				return false
			}
		}
		return true
	})

	if p := hosts[1].pull(t, model, nil); p.last["status"] != "success" || p.says("copying from") {
		t.Fatalf("from the registry: %v", p.last)
	}
	served := internet.Served()
	if served < 100<<20 {
		t.Fatalf("the registry served %d bytes", served)
	}
	want := digests(t, ollamas[1])[model+":latest"]

	await(t, 10*time.Second, "the model known to all", func() bool {
		for i := 2; i <= 3; i++ {
			m, _ := hosts[i].members()
			known := false
			for _, member := range m.Members {
				known = known || len(member.Models) == 1
			}
			if !known {
				return false
			}
		}
		return true
	})

	// Frames take a while, so that the copy can be cut off in its middle.
	l.Delay(1, 20*time.Millisecond, 0)
	cut := 0.0
	p := hosts[2].pull(t, model, func(line map[string]any) bool {
		cut, _ = line["completed"].(float64)
		total, _ := line["total"].(float64)
		return total > 100<<20 && cut > total/8 && cut < total
	})
	if p.last["status"] == "success" || !p.says("copying from "+hosts[1].String()) {
		t.Fatalf("the copy was not cut off, or is none: %v, %v", p.last, p.lines[:min(3, len(p.lines))])
	}
	l.Heal(1)
	p = hosts[2].pull(t, model, nil)
	if p.last["status"] != "success" || !p.says("copying from "+hosts[1].String()) {
		t.Fatalf("the second copy: %v", p.last)
	}
	if p.first == 0 {
		t.Errorf("after a cut at %.0f bytes it began again at 0", cut)
	}
	t.Logf("cut off at %.0f MB, resumed at %.0f MB", cut/1e6, p.first/1e6)
	got := digests(t, ollamas[2])
	if got[model+":latest"] != want || len(got) != 1 {
		t.Errorf("the copy is %v, the original %s", got, want)
	}
	if internet.Served() != served {
		t.Errorf("%d bytes came from the registry", internet.Served()-served)
	}
	r := askURL(t.Context(), ollamas[2].Client(), ollamas[2].URL+"/api/generate", map[string]any{
		"model": model, "prompt": "hi", "options": map[string]any{"num_predict": 4},
	})
	if r.err != nil || !r.done || r.text == "" {
		t.Errorf("the copy does not run: %+v", r)
	}

	// Once more without a cut, against a plain copy of the same bytes.
	whole := hosts[3].pull(t, model, nil)
	if whole.last["status"] != "success" {
		t.Fatalf("the third host: %v", whole.last)
	}
	plain := plainCopy(t, l, 1, 3, filepath.Join(internet.Dir, "blobs"))
	t.Logf("LAN copy of 117 MB: %.2f s with Ollama's verification, %.2f s of copying; plain TCP copy %.2f s: ratio %.2f",
		whole.took.Seconds(), whole.copying.Seconds(), plain.Seconds(), plain.Seconds()/whole.copying.Seconds())
}

// serve serves a handler on a host until the test ends.
func serve(t *testing.T, n *lab.Node, address string, h http.Handler) {
	t.Helper()
	listener, err := n.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	server := &httptest.Server{Listener: listener, Config: &http.Server{Handler: h}}
	server.Start()
	t.Cleanup(server.Close)
}

// plainCopy times a bare TCP copy of a directory's largest file between hosts,
// from disk to disk.
func plainCopy(t *testing.T, l *lab.Lab, from, to int, dir string) time.Duration {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var file string
	var size int64
	for _, e := range entries {
		if info, err := e.Info(); err == nil && info.Size() > size {
			file, size = filepath.Join(dir, e.Name()), info.Size()
		}
	}
	listener, err := l.Node(from).Listen("tcp", l.Node(from).IP().String()+":5001")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	sent := make(chan error, 1)
	go func() {
		conn, err := listener.Accept()
		if err == nil {
			defer conn.Close()
			var f *os.File
			if f, err = os.Open(file); err == nil {
				defer f.Close()
				_, err = io.Copy(conn, f)
			}
		}
		sent <- err
	}()
	start := time.Now()
	conn, err := l.Node(to).DialContext(t.Context(), "tcp", l.Node(from).IP().String()+":5001")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	out, err := os.Create(filepath.Join(t.TempDir(), "copy"))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	n, err := io.Copy(out, conn)
	took := time.Since(start)
	if err := <-sent; err != nil {
		t.Fatal(err)
	}
	if err != nil || n != size {
		t.Fatalf("copied %d of %d bytes: %v", n, size, err)
	}
	return took
}
