package backend

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"reflect"
	"strings"
	"testing"
	"time"
)

// clientOf is a client of a handler on a real port.
func clientOf(t *testing.T, base string, h http.Handler) *Client {
	t.Helper()
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	u, err := url.Parse(server.URL + base)
	if err != nil {
		t.Fatal(err)
	}
	c := NewClient(u, nil)
	t.Cleanup(c.CloseIdle)
	return c
}

func request(ctx context.Context, t *testing.T, method, path, body string) *http.Request {
	t.Helper()
	req, err := http.NewRequestWithContext(ctx, method, path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	return req
}

func TestDoAddressesOllamaItself(t *testing.T) {
	var got *http.Request
	var body []byte
	c := clientOf(t, "/ollama/", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got = r
		body, _ = io.ReadAll(r.Body)
		w.Header().Set("Location", "/elsewhere")
		w.WriteHeader(http.StatusFound)
	}))
	req := request(t.Context(), t, http.MethodPost, "/api/chat?x=1", `{"model":"m"}`)
	req.Host = "mesh.example:11435"
	for k, v := range map[string]string{
		"Origin": "https://evil.example", "Referer": "https://evil.example/x", "Cookie": "a=b", "Sec-Fetch-Site": "cross-site",
		"Content-Type": "application/json", "X-Custom": "kept",
	} {
		req.Header.Set(k, v)
	}
	resp, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusFound {
		t.Errorf("status %d: a redirect is relayed, not followed", resp.StatusCode)
	}
	if got.Host != c.Base().Host || got.RequestURI != "/ollama/api/chat?x=1" || string(body) != `{"model":"m"}` {
		t.Errorf("got %s %s with %q", got.Host, got.RequestURI, body)
	}
	for _, k := range []string{"Origin", "Referer", "Cookie", "Sec-Fetch-Site", "Accept-Encoding"} {
		if v := got.Header.Get(k); v != "" {
			t.Errorf("%s: %s reached Ollama", k, v)
		}
	}
	if got.Header.Get("X-Custom") != "kept" {
		t.Error("an ordinary header was lost")
	}
	if req.URL.Host != "" || req.Header.Get("Origin") == "" || req.Host != "mesh.example:11435" {
		t.Error("Do changed its argument")
	}
}

func TestCancellingARequestReachesOllama(t *testing.T) {
	started, stopped := make(chan struct{}), make(chan struct{})
	c := clientOf(t, "", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		close(started)
		<-r.Context().Done()
		close(stopped)
	}))
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-started
		cancel()
	}()
	resp, err := c.Do(request(ctx, t, http.MethodPost, "/api/generate", "{}"))
	if err == nil {
		resp.Body.Close()
		t.Fatal("an answer to a cancelled request")
	}
	select {
	case <-stopped:
	case <-time.After(10 * time.Second):
		t.Fatal("Ollama never noticed")
	}
}

func TestQuestions(t *testing.T) {
	answers := map[string]string{
		"/api/version": `{"version":"0.33.0"}`,
		"/api/tags":    `{"models":[]}`,
		"/api/ps":      `{"models":[{"name":"tiny:latest","digest":"d","size":5,"size_vram":3,"context_length":2048,"expires_at":"2026-11-24T01:02:03Z"}]}`,
		"/api/show":    `{"details":{"family":"llama"},"model_info":{"general.architecture":"llama","llama.block_count":2}}`,
	}
	c := clientOf(t, "", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		answer, ok := answers[r.URL.Path]
		if !ok {
			http.NotFound(w, r)
			return
		}
		_, _ = io.WriteString(w, answer)
	}))
	if v, err := c.Version(t.Context()); v != "0.33.0" || err != nil {
		t.Errorf("version %q, %v", v, err)
	}
	want := []Resident{{
		Key: "tiny:latest", Name: "tiny:latest", Digest: "d", Size: 5, SizeVRAM: 3, Context: 2048,
		Expires: time.Date(2026, 11, 24, 1, 2, 3, 0, time.UTC),
	}}
	if ps, err := c.PS(t.Context()); !reflect.DeepEqual(ps, want) || err != nil {
		t.Errorf("ps %+v, %v", ps, err)
	}
	if s, err := c.Show(t.Context(), "tiny"); s.Layers != 2 || s.Family != "llama" || err != nil {
		t.Errorf("show %+v, %v", s, err)
	}
	if loop, err := c.Loop(t.Context()); loop || err != nil {
		t.Errorf("loop %v, %v", loop, err)
	}
	answers["/mesh/v1/id"] = `{"product":"kage-mesh","version":"1","id":"abc"}`
	if loop, err := c.Loop(t.Context()); !loop || err != nil {
		t.Errorf("a kage-mesh at Ollama's address: loop %v, %v", loop, err)
	}
	answers["/mesh/v1/id"] = `<html>hello</html>`
	if loop, err := c.Loop(t.Context()); loop || err != nil {
		t.Errorf("some other server: loop %v, %v", loop, err)
	}
	delete(answers, "/api/version")
	if _, err := c.Version(t.Context()); !errors.Is(err, ErrStatus) {
		t.Errorf("a 404: %v", err)
	}
}

func TestShowAsksForTheArraysThatAShortAnswerLeavesOut(t *testing.T) {
	var asked []string
	c := clientOf(t, "", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		asked = append(asked, string(body))
		heads := "null"
		if strings.Contains(string(body), `"verbose":true`) {
			heads = "[0,0,8,0,0,8]"
		}
		_, _ = io.WriteString(w, `{"model_info":{"general.architecture":"hy","hy.block_count":6,"hy.attention.head_count_kv":`+heads+`}}`)
	}))
	s, err := c.Show(t.Context(), "hybrid")
	if err != nil || s.Layers != 2 || s.KVHeads != 8 || len(asked) != 2 {
		t.Errorf("show = %+v, %v after %q", s, err, asked)
	}
}

func TestNobodyListens(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := NewClient(&url.URL{Scheme: "http", Host: l.Addr().String()}, nil)
	l.Close()
	if _, err := c.Version(t.Context()); err == nil {
		t.Error("a closed port answered")
	}
	if _, err := c.Loop(t.Context()); err == nil {
		t.Error("a closed port is no proof of anything")
	}
}
