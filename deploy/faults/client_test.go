//go:build linux

package faults

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/ollamatest"
)

// lone is a mesh of one node with an Ollama, and how often that was asked for
// work.
func (s *scene) lone() (h *host, asked func() int) {
	s.Helper()
	s.up(1)
	h = s.hosts[1]
	h.ollama(configOf("m", 1000, 4))
	h.join()
	s.eventually(30*time.Second, "the model known", func() bool { return h.knows("m", 1) })
	s.clock()
	return h, func() int {
		n := 0
		for what, times := range h.fake.Stats().Requests {
			if strings.HasPrefix(what, "POST ") && what != "POST /api/show" {
				n += times
			}
		}
		return n
	}
}

func TestCase36IdleAndSlowConnections(t *testing.T) {
	s := begin(t, 36, "a guest holds 3,000 idle connections and 500 that send their headers a byte at a time",
		"a request of somebody else begins as before (within 50 ms of it); memory under 64 MiB more; the slow ones are hung up on within 12 s")
	h, _ := s.lone()
	guest := s.lab.Node(0)
	lag := func() time.Duration {
		var all []time.Duration
		for range 9 {
			r := s.ask(question{to: h, model: "m", tokens: 2})
			if r.perfect(2) != nil {
				t.Fatalf("%v", r)
			}
			all = append(all, r.took)
		}
		slices.Sort(all)
		return all[4]
	}
	calm, before := lag(), h.rss()
	addr := h.IP().String() + ":11435"
	var conns []net.Conn
	for i := range 3500 {
		c, err := guest.DialContext(s.ctx, "tcp", addr)
		if err != nil {
			t.Fatalf("connection %d: %v", i, err)
		}
		defer c.Close()
		if i >= 3000 {
			_, _ = io.WriteString(c, "POST /api/generate HTTP/1.1\r\nHost: x.local\r\nX-Slow: ")
		}
		conns = append(conns, c)
	}
	full, after := lag(), h.rss()
	if full > calm+50*time.Millisecond {
		t.Errorf("a request takes %v, %v when it is calm", full, calm)
	}
	if after > before+64 {
		t.Errorf("%d MiB, %d before", after, before)
	}
	slow := conns[len(conns)-1]
	began := time.Now()
	_ = slow.SetReadDeadline(began.Add(15 * time.Second))
	_, err := io.Copy(io.Discard, slow)
	hung := time.Since(began)
	if hung > 12*time.Second {
		t.Errorf("a slow one is held for %v: %v", hung, err)
	}
	s.saw("a request takes %.1f ms, %.1f when calm; %d MiB, %d before; slow headers end after %.1f s",
		ms(full), ms(calm), after, before, hung.Seconds())
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

func TestCase37HugeBodies(t *testing.T) {
	s := begin(t, 37, "a body of 65 MiB with its length and without, a gzip bomb of 256 MiB, broken zstd",
		"413, 413, 413, 400; the Ollama hears of none; memory bounded")
	var bomb bytes.Buffer
	z := gzip.NewWriter(&bomb)
	_, _ = io.CopyN(z, blanks{}, 256<<20)
	_ = z.Close()
	big := make([]byte, 65<<20)
	h, asked := s.lone()
	before := h.rss()
	for _, c := range []struct {
		name     string
		body     io.Reader
		encoding string
		want     int
	}{
		{"65 MiB", bytes.NewReader(big), "", 413},
		{"65 MiB in chunks", struct{ io.Reader }{bytes.NewReader(big)}, "", 413},
		{"gzip bomb", bytes.NewReader(bomb.Bytes()), "gzip", 413},
		{"broken zstd", strings.NewReader("no zstd"), "zstd", 400},
	} {
		header := map[string]string{}
		if c.encoding != "" {
			header["Content-Encoding"] = c.encoding
		}
		resp, err := s.post(s.ctx, s.lab.Node(0), h, "/api/generate", c.body, header)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		text, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode != c.want || !bytes.Contains(text, []byte(`{"error":`)) {
			t.Errorf("%s: %d %s, want %d", c.name, resp.StatusCode, text, c.want)
		}
		s.saw("%s: %d", c.name, resp.StatusCode)
	}
	if n, after := asked(), h.rss(); n > 0 || after > before+400 {
		t.Errorf("%d requests at the Ollama, %d MiB, before %d", n, after, before)
	}
}

type blanks struct{}

func (blanks) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = ' '
	}
	return len(p), nil
}

// raw sends bytes and reads the statuses of the answers until the end of the
// connection, or a second of silence.
func (s *scene) raw(to *host, data string) (statuses []int, text string) {
	s.Helper()
	c, err := s.lab.Node(0).DialContext(s.ctx, "tcp", net.JoinHostPort(to.IP().String(), "11435"))
	if err != nil {
		s.Fatal(err)
	}
	defer c.Close()
	go func() { _, _ = io.WriteString(c, data) }()
	_ = c.SetReadDeadline(time.Now().Add(5 * time.Second))
	in := bufio.NewReader(c)
	for {
		resp, err := http.ReadResponse(in, nil)
		if err != nil {
			return statuses, text
		}
		body, _ := io.ReadAll(resp.Body)
		statuses, text = append(statuses, resp.StatusCode), text+string(body)
	}
}

func TestCase38AmbiguousRequests(t *testing.T) {
	s := begin(t, 38, "requests that two servers could read differently, and bodies that are no request",
		"400 (404 for a name that nobody has), in the caller's dialect; the Ollama hears of none")
	h, asked := s.lone()
	good := `{"model":"m","prompt":"x"}`
	post := func(extra, body string) string {
		return "POST /api/generate HTTP/1.1\r\nHost: x.local\r\nConnection: close\r\n" + extra + "\r\n" + body
	}
	length := func(body string) string { return "Content-Length: " + itoa(len(body)) + "\r\n" }
	json := func(body string) string { return post(length(body), body) }
	cases := []struct {
		name, data string
		want       []int
	}{
		{"length and chunks", post(length(good)+"Transfer-Encoding: chunked\r\n", "0\r\n\r\n"), []int{400}},
		{"two lengths", post("Content-Length: 5\r\nContent-Length: 26\r\n", good), []int{400}},
		{"two hosts", "POST /api/generate HTTP/1.1\r\nHost: a.local\r\nHost: b.local\r\n" + length(good) + "\r\n" + good, []int{400}},
		{"bare line feeds", strings.ReplaceAll(post(length(good), good), "\r\n", "\n"), []int{400}},
		{"a folded header", post("X-A: 1\r\n 2\r\n"+length(good), good), []int{400}},
		{"no JSON", json(`{"model":`), []int{400}},
		{"model twice", json(`{"model":"m","prompt":"x","model":"n"}`), []int{400}},
		{"model twice, in capitals", json(`{"model":"m","prompt":"x","Model":"n"}`), []int{400}},
		{"no model", json(`{"prompt":"x"}`), []int{400, 404}},
		{"a name of 1 MB", json(`{"model":"` + strings.Repeat("m", 1<<20) + `","prompt":"x"}`), []int{400, 404}},
		{"NUL in the name", json(`{"model":"m\u0000","prompt":"x"}`), []int{400, 404}},
		{"a name in other letters", json(`{"model":"мodel","prompt":"x"}`), []int{400, 404}},
		{"a name with a path", json(`{"model":"../../m","prompt":"x"}`), []int{400, 404}},
	}
	bad := 0
	for _, c := range cases {
		statuses, text := s.raw(h, c.data)
		if len(statuses) != 1 || !slices.Contains(c.want, statuses[0]) {
			t.Errorf("%s: %v %.200s, want one of %v", c.name, statuses, text, c.want)
			bad++
		}
	}
	v1 := `{"messages":[]}`
	_, text := s.raw(h, "POST /v1/chat/completions HTTP/1.1\r\nHost: x.local\r\nConnection: close\r\n"+length(v1)+"\r\n"+v1)
	if !strings.Contains(text, `{"error":{"`) {
		t.Errorf("OpenAI's dialect: %s", text)
	}
	if n := asked(); n > 0 {
		t.Errorf("%d requests reached the Ollama", n)
	}
	s.saw("%d of %d refused as they must, none reached the Ollama", len(cases)-bad, len(cases))
}

func TestCase39ForeignPaths(t *testing.T) {
	s := begin(t, 39, "unknown paths, dots, encoded dots, absolute URIs, CONNECT and TRACE",
		"4xx, never passed on to Ollama or anywhere else")
	h, _ := s.lone()
	before := h.fake.Stats().Requests
	requests := []string{
		"GET /unknown HTTP/1.1", "GET //api/../debug/pprof HTTP/1.1", "GET /%2e%2e/api/tags/x HTTP/1.1",
		"GET /api/%2e%2e/debug/pprof/ HTTP/1.1", "GET /debug/pprof/ HTTP/1.1", "GET http://127.0.0.1:11434/secret HTTP/1.1",
		"CONNECT 127.0.0.1:11434 HTTP/1.1", "TRACE /api/tags HTTP/1.1", "POST /api/unknown HTTP/1.1", "DELETE /api/generate HTTP/1.1",
	}
	for _, line := range requests {
		statuses, text := s.raw(h, line+"\r\nHost: x.local\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
		if len(statuses) != 1 || statuses[0] < 400 || statuses[0] >= 500 {
			t.Errorf("%s: %v %.100s", line, statuses, text)
		}
	}
	for what := range h.fake.Stats().Requests {
		if _, known := before[what]; !known && !strings.HasPrefix(what, "GET /api/") && what != "POST /api/show" {
			t.Errorf("the Ollama was asked %s", what)
		}
	}
	s.saw("%d of %d refused, nothing passed on", len(requests), len(requests))
}

func TestCase40ForeignHostAndOrigin(t *testing.T) {
	s := begin(t, 40, "a web page asks: foreign Origin, rebound Host, null origin; then the Ollama CLI's plain request",
		"403 for pages; the plain request works")
	h, asked := s.lone()
	body := `{"model":"m","prompt":"x","stream":false,"options":{"num_predict":2}}`
	for _, header := range []string{
		"Host: evil.example", "Host: x.local\r\nOrigin: https://evil.example", "Host: x.local\r\nOrigin: null",
		"Host: evil.example\r\nOrigin: http://evil.example",
	} {
		statuses, text := s.raw(h, "POST /api/generate HTTP/1.1\r\n"+header+"\r\nConnection: close\r\nContent-Length: "+itoa(len(body))+"\r\n\r\n"+body)
		if len(statuses) != 1 || statuses[0] != 403 && statuses[0] != 421 {
			t.Errorf("%q: %v %.100s", header, statuses, text)
		}
	}
	if n := asked(); n > 0 {
		t.Errorf("%d requests reached the Ollama", n)
	}
	if r := s.ask(question{to: h, model: "m", tokens: 2}); r.perfect(2) != nil {
		t.Errorf("from loopback: %v", r)
	}
	s.saw("4 of 4 pages refused; loopback works")
}

func TestCase41DescriptorsExhausted(t *testing.T) {
	s := begin(t, 41, "a node may open 96 files and a guest opens 400 connections",
		"no crash; the others answer meanwhile; it answers again in under 10 s when they are gone")
	s.up(2)
	s.hosts[1].Prefix = []string{"prlimit", "--nofile=96:96"}
	for _, h := range s.hosts[1:] {
		h.ollama(configOf("m", 500, 4))
		h.join()
	}
	s.eventually(30*time.Second, "two members", func() bool {
		return s.hosts[1].alive() == 2 && s.hosts[2].knows("m", 2)
	})
	s.clock()
	short, other := s.hosts[1], s.hosts[2]
	var conns []net.Conn
	for range 400 {
		c, err := s.lab.Node(0).DialContext(s.ctx, "tcp", short.IP().String()+":11435")
		if err != nil {
			break
		}
		conns = append(conns, c)
	}
	good := 0
	for range 20 {
		if s.ask(question{to: other, model: "m", tokens: 4}).perfect(4) == nil {
			good++
		}
	}
	if good < 20 {
		t.Errorf("%d of 20 answers of the other are whole", good)
	}
	select {
	case <-short.Proc.Done():
		t.Fatalf("it ended:\n%.2000s", short.stderr())
	default:
	}
	for _, c := range conns {
		c.Close()
	}
	took := s.eventually(10*time.Second, "answering again", func() bool {
		return s.ask(question{from: s.lab.Node(0), to: short, model: "m", tokens: 4}).perfect(4) == nil
	})
	s.saw("%d connections: it lives, the other answered %d of 20; answers again %.1f s after", len(conns), good, took.Seconds())
}

func TestCase47ThunderingHerd(t *testing.T) {
	s := begin(t, 47, "500 requests at once; the model is warm on one of four owners and takes 2 s to load on the others",
		"500 whole; spread over all; no Ollama runs more than its slots; fewer than 1.2 runs per request")
	ingress, owners := s.mesh(4, 200, "m")
	if r := s.ask(question{to: ingress, model: "m", tokens: 2}); r.perfect(2) != nil {
		t.Fatalf("%v", r)
	}
	for _, h := range owners {
		if h.fake.Stats().Loads == 0 {
			h.fake.Fault(ollamatest.Fault{Kind: ollamatest.SlowLoad, Delay: 2 * time.Second})
		}
	}
	const n, tokens = 500, 10
	start := time.Now()
	c := s.gather(n, func(i int) question {
		return question{to: ingress, model: "m", tokens: tokens, id: "herd-" + itoa(i)}
	})
	good := c.perfect(tokens)
	took := time.Since(start)
	runs, shares := 0, []int{}
	for _, h := range owners {
		st := h.fake.Stats()
		share := 0
		for id, times := range st.Executions {
			if strings.HasPrefix(id, "herd-") {
				share += times
			}
		}
		runs += share
		shares = append(shares, share)
		t.Logf("%s: %d whole, %d left, %d failed, %d loads, %.1f s of CPU", h, st.Completed, st.Cancelled, st.Failed, st.Loads, h.CPU().Seconds())
		if st.MaxRunning["m:latest"] > 4 {
			t.Errorf("%s ran %d at once", h, st.MaxRunning["m:latest"])
		}
	}
	t.Logf("%.1f s of CPU at the ingress; failed attempts: %v", ingress.CPU().Seconds(), ingress.failures())
	if good != n || runs > n*12/10 {
		t.Errorf("%d whole, %d runs", good, runs)
	}
	s.saw("%d of %d whole in %.1f s, %d runs, shares %v", good, n, took.Seconds(), runs, shares)
}

func TestCase49StaleLoad(t *testing.T) {
	s := begin(t, 49, "no load report passes (UDP is blocked everywhere) while two ingresses send to four owners for 8 s",
		"what each sent itself and what answers bring keeps the busiest owner under twice the mean")
	s.up(6)
	for _, h := range s.hosts[3:] {
		h.ollama(configOf("m", 100, 4))
	}
	for _, h := range s.hosts[1:] {
		h.join()
	}
	s.eventually(60*time.Second, "a mesh that stands", func() bool {
		for _, h := range s.hosts[1:] {
			if h.alive() != 6 || !h.knows("m", 4) {
				return false
			}
		}
		return true
	})
	s.clock()
	for _, h := range s.hosts[1:] {
		s.lab.BlockUDP(h.Index())
	}
	stop := time.After(8 * time.Second)
	stopped := make(chan struct{})
	go func() { <-stop; close(stopped) }()
	failed := make(chan int, 12)
	for w := range 12 {
		go func() {
			bad := 0
			defer func() { failed <- bad }()
			for {
				select {
				case <-stopped:
					return
				default:
				}
				if r := s.ask(question{to: s.hosts[1+w%2], model: "m", tokens: 10}); r.perfect(10) != nil {
					bad++
					t.Errorf("%v", r)
				}
			}
		}()
	}
	for range 12 {
		<-failed
	}
	most, total, shares := 0, 0, []int{}
	for _, h := range s.hosts[3:] {
		n := h.fake.Stats().Completed
		most, total, shares = max(most, n), total+n, append(shares, n)
	}
	ratio := float64(most) / (float64(total) / 4)
	if ratio >= 2 {
		t.Errorf("shares %v: %.2f", shares, ratio)
	}
	s.saw("%d answers, shares %v, busiest %.2f of the mean", total, shares, ratio)
}
