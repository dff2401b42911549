//go:build linux

package e2e

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/deploy/lab"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/deploy/need"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/ollamatest"
)

// series counts the time series of a host's metrics.
func (h *host) series() (n int) {
	h.t.Helper()
	resp, err := h.HTTPClient().Get("http://127.0.0.1:11435/metrics")
	if err != nil {
		h.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		h.t.Fatal(resp.Status, err)
	}
	for line := range strings.Lines(string(body)) {
		if !strings.HasPrefix(line, "#") {
			n++
		}
	}
	return n
}

// flat is how many MiB more a node may take under any flood than in calm: the
// size of one request.
const flat = 64

// Whatever a guest on the network throws at a node, a person's request beside
// it begins as before, and the node's memory stays where it was.
func TestAFloodHarmsNobodyElse(t *testing.T) {
	need.NotShort(t, "hosts in namespaces")
	l := lab.Up(t, 2)
	node, person, guest := newHost(t, l.Node(1)), l.Node(2), l.Node(0)
	node.fakeOllama(ollamatest.Model{Name: "tiny", Size: 1 << 20, Decode: 2000})
	node.join("--no-mdns")
	await(t, patience, "the model known", func() bool {
		m, _ := node.members()
		return len(m.Members) == 1 && len(m.Members[0].Models) == 1
	})
	addr := node.IP().String() + ":11435"
	url := "http://" + addr

	// first is the median time to the first token of a person's requests.
	first := func(t *testing.T) time.Duration {
		t.Helper()
		var lags []time.Duration
		for range 9 {
			r := askURL(t.Context(), person.HTTPClient(), url+"/api/generate", map[string]any{
				"model": "tiny", "prompt": "hi", "options": map[string]any{"num_predict": 4},
			})
			if r.err != nil || !r.done {
				t.Fatalf("a person's request: %+v", r)
			}
			lags = append(lags, r.firstLag)
		}
		slices.Sort(lags)
		return lags[len(lags)/2]
	}
	calm, series := first(t), node.series()
	memory, _ := node.Memory()
	t.Logf("calm: first token after %v, %d MiB, %d time series", calm, memory, series)

	post := func(ctx context.Context, body io.Reader, encoding string) (int, error) {
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, url+"/api/generate", struct{ io.Reader }{body})
		if err != nil {
			return 0, err
		}
		if encoding != "" {
			req.Header.Set("Content-Encoding", encoding)
		}
		resp, err := guest.HTTPClient().Do(req)
		if err != nil {
			return 0, err
		}
		defer resp.Body.Close()
		_, _ = io.Copy(io.Discard, resp.Body)
		return resp.StatusCode, nil
	}
	floods := []struct {
		name string
		// begin starts the flood and returns when it is at its height.
		begin func(t *testing.T) (end func())
	}{
		{"10,000 idle connections", func(t *testing.T) func() {
			return connections(t, guest, addr, 10_000, "")
		}},
		{"2,000 slow heads", func(t *testing.T) func() {
			return connections(t, guest, addr, 2000, "POST /api/generate HTTP/1.1\r\nHost: x.local\r\nX-Slow: ")
		}},
		{"200 slow bodies", func(t *testing.T) func() {
			return connections(t, guest, addr, 200, "POST /api/generate HTTP/1.1\r\nHost: x.local\r\nContent-Length: 1000000\r\n\r\n{")
		}},
		{"20 bodies of 60 MiB that never end", func(t *testing.T) func() {
			return hoard(t, guest, addr, 20, 60<<20)
		}},
		{"a body of 1 GiB in chunks", func(t *testing.T) func() {
			status, err := post(t.Context(), io.LimitReader(endless{}, 1<<30), "")
			if status != 413 {
				t.Errorf("status %d, %v; want 413", status, err)
			}
			return func() {}
		}},
		{"bombs", func(t *testing.T) func() {
			for encoding, bomb := range bombs(t) {
				if status, err := post(t.Context(), bytes.NewReader(bomb), encoding); status != 413 {
					t.Errorf("%s: status %d, %v; want 413", encoding, status, err)
				}
			}
			return func() {}
		}},
		{"a model name of 1 MB", func(t *testing.T) func() {
			status, err := post(t.Context(), strings.NewReader(`{"model":"`+strings.Repeat("m", 1_000_000)+`","prompt":"x"}`), "")
			if status != 400 && status != 404 {
				t.Errorf("status %d, %v", status, err)
			}
			return func() {}
		}},
		{"400 requests of one script at once", func(t *testing.T) func() {
			ctx, cancel := context.WithCancel(t.Context())
			var wait sync.WaitGroup
			for range 400 {
				wait.Go(func() {
					for ctx.Err() == nil {
						status, _ := post(ctx, strings.NewReader(`{"model":"tiny","prompt":"x","options":{"num_predict":100}}`), "")
						if status == http.StatusOK {
							continue
						}
						select { // both machines are on the same two cores
						case <-time.After(time.Second):
						case <-ctx.Done():
						}
					}
				})
			}
			await(t, patience, "a queue", func() bool {
				m, _ := node.members()
				return len(m.Members) == 1 && m.Members[0].Waiting > 50
			})
			return func() { cancel(); wait.Wait() }
		}},
		{"10,000 models that do not exist", func(t *testing.T) func() {
			var wait sync.WaitGroup
			for w := range 8 {
				wait.Go(func() {
					for i := range 1250 {
						status, err := post(t.Context(), strings.NewReader(fmt.Sprintf(`{"model":"no-%d-%d","prompt":"x"}`, w, i)), "")
						if status != 404 {
							t.Errorf("status %d, %v", status, err)
							return
						}
					}
				})
			}
			wait.Wait()
			return func() {}
		}},
	}
	for _, f := range floods {
		t.Run(f.name, func(t *testing.T) {
			before, _ := node.Memory()
			end := f.begin(t)
			lag := first(t)
			took, peak := node.Memory()
			end()
			t.Logf("first token after %v, %d MiB (%+d), at most %d so far", lag, took, took-before, peak)
			if lag > calm+250*time.Millisecond {
				t.Errorf("a person waits %v, %v when it is calm", lag, calm)
			}
			if peak > memory+flat {
				t.Errorf("the node took %d MiB, %d when it is calm", peak, memory)
			}
		})
	}
	// Outcomes of their own may have come, but nothing per model or caller.
	if n := node.series(); n > series+100 {
		t.Errorf("%d time series, %d when it was calm", n, series)
	} else {
		t.Logf("%d time series", n)
	}
}

// connections opens n connections that say what is given and then nothing.
func connections(t *testing.T, from *lab.Node, addr string, n int, say string) (end func()) {
	t.Helper()
	conns := make([]net.Conn, 0, n)
	for range n {
		c, err := from.DialContext(t.Context(), "tcp", addr)
		if err != nil {
			t.Fatalf("connection %d: %v", len(conns), err)
		}
		_, _ = io.WriteString(c, say)
		conns = append(conns, c)
	}
	return func() {
		for _, c := range conns {
			c.Close()
		}
	}
}

// hoard sends n bodies all but their end, which never comes.
func hoard(t *testing.T, from *lab.Node, addr string, n, size int) (end func()) {
	t.Helper()
	conns := make([]net.Conn, 0, n)
	piece := make([]byte, 1<<20)
	for range n {
		c, err := from.DialContext(t.Context(), "tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		conns = append(conns, c)
		_, _ = fmt.Fprintf(c, "POST /api/generate HTTP/1.1\r\nHost: x.local\r\nContent-Length: %d\r\n\r\n", size)
		for range size>>20 - 1 {
			if _, err := c.Write(piece); err != nil {
				break // refused: its share is full
			}
		}
	}
	return func() {
		for _, c := range conns {
			c.Close()
		}
	}
}

type endless struct{}

func (endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = ' '
	}
	return len(p), nil
}

// bombs are 256 MiB of blanks, packed.
func bombs(t *testing.T) map[string][]byte {
	t.Helper()
	var gz, zs bytes.Buffer
	g := gzip.NewWriter(&gz)
	z, err := zstd.NewWriter(&zs)
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range []io.WriteCloser{g, z} {
		if _, err := io.CopyN(w, endless{}, 256<<20); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
	}
	return map[string][]byte{"gzip": gz.Bytes(), "zstd": zs.Bytes()}
}
