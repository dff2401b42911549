package backend

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/lane"
)

// ErrLoop says that the address given as Ollama's belongs to a kage-mesh node:
// forwarding to it would send requests in a circle.
var ErrLoop = errors.New("backend: this address is a kage-mesh node, not an Ollama; set OLLAMA_HOST to Ollama's own address, usually 127.0.0.1:11434")

// ErrStatus says that Ollama answered a question of ours with an error.
var ErrStatus = errors.New("backend: unexpected status from ollama")

// ErrUnreached says that there was no connection to Ollama: nothing was sent.
var ErrUnreached = errors.New("backend: no connection to ollama")

// Bounds of the answers that the node itself asks for. A catalog entry has some
// hundred bytes; a verbose show carries the vocabulary, which is megabytes.
const (
	readLimit = 16 << 20
	showLimit = 64 << 20
)

// askLimit bounds every question that the node itself asks. They are answered
// from memory within milliseconds, but inference on all cores can delay them;
// show reads the model file's header.
const (
	askLimit  = 3 * time.Second
	showAfter = 20 * time.Second
)

// Client talks to one Ollama. It is safe for concurrent use.
type Client struct {
	base      *url.URL
	transport http.RoundTripper
	lane      *lane.Transport // the same; nil: it is another
}

// NewClient makes a client for the Ollama at base (see [ParseHost]). A nil
// transport makes a pooled one of its own.
func NewClient(base *url.URL, transport http.RoundTripper) *Client {
	if transport == nil {
		transport = NewTransport(base)
	}
	c := &Client{base: base, transport: transport}
	c.lane, _ = transport.(*lane.Transport)
	return c
}

// NewTransport is the transport for inference. It has no limit on the time to
// the first byte, because a cold load of a large model takes minutes and the
// callers watch for life themselves; it keeps as many idle connections as a
// node may have streams; and it neither compresses nor uses a proxy, so that
// bytes arrive as Ollama wrote them. To an Ollama behind TLS it is net/http's.
func NewTransport(base *url.URL) http.RoundTripper {
	dialer := &net.Dialer{Timeout: 2 * time.Second, KeepAlive: 15 * time.Second}
	if base.Scheme == "http" {
		addr := net.JoinHostPort(base.Hostname(), cmp.Or(base.Port(), "80"))
		return &lane.Transport{Always: hopHeader + ": " + hopMark + "\r\n", Dial: func(ctx context.Context, _ string) (net.Conn, error) {
			return dialer.DialContext(ctx, "tcp", addr)
		}}
	}
	return &http.Transport{
		DialContext:         dialer.DialContext,
		TLSHandshakeTimeout: 5 * time.Second,
		MaxIdleConns:        512,
		MaxIdleConnsPerHost: 512,
		IdleConnTimeout:     60 * time.Second,
		DisableCompression:  true,
	}
}

// Base is where this client's Ollama listens. The URL belongs to the client.
func (c *Client) Base() *url.URL { return c.base }

// Do sends req to Ollama and returns its answer, whatever its status; the
// caller closes the body. Only path and query of req.URL count. Host becomes
// Ollama's own address and headers that tell of a browser are dropped: bound to
// loopback, Ollama answers a foreign Host or Origin with an empty 403. req is
// not changed. Redirects are not followed. Cancelling req's context stops
// Ollama's work at its next token.
func (c *Client) Do(req *http.Request) (*http.Response, error) {
	if c.lane == nil {
		out := c.rewritten(req)
		if out.Header = maps.Clone(out.Header); out.Header == nil {
			out.Header = make(http.Header, 1)
		}
		out.Header.Set(hopHeader, hopMark)
		return c.traced(out)
	}
	resp, err := c.lane.RoundTrip(c.rewritten(req))
	if errors.Is(err, lane.ErrDial) {
		return nil, &unreached{err}
	}
	return resp, err
}

// traced sends req by net/http's transport.
func (c *Client) traced(req *http.Request) (*http.Response, error) {
	var connected atomic.Bool
	trace := &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) { connected.Store(true) }}
	resp, err := c.transport.RoundTrip(req.WithContext(httptrace.WithClientTrace(req.Context(), trace)))
	if err != nil && !connected.Load() {
		return nil, &unreached{err}
	}
	return resp, err
}

// unreached is why there was no connection.
type unreached struct{ error }

func (e *unreached) Unwrap() error        { return e.error }
func (e *unreached) Is(target error) bool { return target == ErrUnreached }

// sent is a request as Ollama gets it.
type sent struct {
	http.Request
	url url.URL
}

// rewritten is req as Ollama gets it, but for hopHeader.
func (c *Client) rewritten(req *http.Request) *http.Request {
	out := &sent{Request: *req, url: *c.base}
	out.url.Path = strings.TrimSuffix(out.url.Path, "/") + req.URL.Path
	if c.base.Path == "" {
		out.url.RawPath = req.URL.RawPath
	}
	out.url.RawQuery = req.URL.RawQuery
	out.URL, out.Host, out.RequestURI = &out.url, "", ""
	out.Header = withoutPage(req.Header)
	return &out.Request
}

// pageHeaders tell of a browser, or have no use behind this client.
var pageHeaders = [...]string{"Origin", "Referer", "Cookie", "Host", "Expect", "Sec-Fetch-Site", "Sec-Fetch-Mode", "Sec-Fetch-Dest"}

// withoutPage is h without pageHeaders: h itself when it has none.
func withoutPage(h http.Header) http.Header {
	out := h
	for _, name := range pageHeaders {
		if _, ok := out[name]; !ok {
			continue
		}
		if len(out) == len(h) {
			out = maps.Clone(h)
		}
		delete(out, name)
	}
	return out
}

const hopMark = "1"

// hopHeader tells a kage-mesh that was given to us as Ollama that this is a
// loop; Ollama ignores it.
const hopHeader = "X-Kage-Hop"

// CloseIdle closes connections that carry nothing.
func (c *Client) CloseIdle() {
	if t, ok := c.transport.(interface{ CloseIdleConnections() }); ok {
		t.CloseIdleConnections()
	}
}

// Version asks for Ollama's version.
func (c *Client) Version(ctx context.Context) (string, error) {
	body, err := c.ask(ctx, "/api/version", nil, askLimit, readLimit)
	if err != nil {
		return "", err
	}
	return parseVersion(body)
}

// Tags returns the raw list of models on disk.
func (c *Client) Tags(ctx context.Context) ([]byte, error) {
	return c.ask(ctx, "/api/tags", nil, askLimit, readLimit)
}

// PS lists the models in memory.
func (c *Client) PS(ctx context.Context) ([]Resident, error) {
	body, err := c.ask(ctx, "/api/ps", nil, askLimit, readLimit)
	if err != nil {
		return nil, err
	}
	return parsePS(body)
}

// Show asks what a model is. Where Ollama leaves a long array out of the short
// answer (the KV heads of models whose layers differ), Show asks again for the
// long one.
func (c *Client) Show(ctx context.Context, name string) (Shape, error) {
	for _, verbose := range []bool{false, true} {
		question, err := json.Marshal(map[string]any{"model": name, "name": name, "verbose": verbose})
		if err != nil {
			return Shape{}, err
		}
		body, err := c.ask(ctx, "/api/show", question, showAfter, showLimit)
		if err != nil {
			return Shape{}, err
		}
		shape, elided, err := parseShow(body)
		if err != nil || !elided || verbose {
			return shape, err
		}
	}
	panic("unreachable")
}

// Loop reports whether a kage-mesh answers at Ollama's address.
func (c *Client) Loop(ctx context.Context) (bool, error) {
	body, err := c.ask(ctx, "/mesh/v1/id", nil, askLimit, readLimit)
	if errors.Is(err, ErrStatus) {
		return false, nil // a real Ollama: 404
	}
	if err != nil {
		return false, err
	}
	var id struct {
		Product string `json:"product"`
		ID      string `json:"id"`
	}
	return json.Unmarshal(body, &id) == nil && (id.Product == "kage-mesh" || id.ID != ""), nil
}

// ask puts one bounded question: a GET, or a POST when there is a body.
func (c *Client) ask(ctx context.Context, path string, body []byte, limit time.Duration, most int64) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	method, reader := http.MethodGet, io.Reader(http.NoBody)
	if body != nil {
		method, reader = http.MethodPost, strings.NewReader(string(body))
	}
	req, err := http.NewRequestWithContext(ctx, method, path, reader)
	if err != nil {
		return nil, err
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := c.Do(req)
	if err != nil {
		return nil, fmt.Errorf("backend: %s: %w", path, err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, most+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("backend: %s: %w", path, err)
	case resp.StatusCode != http.StatusOK:
		return nil, fmt.Errorf("%w: %d for %s", ErrStatus, resp.StatusCode, path)
	case int64(len(answer)) > most:
		return nil, fmt.Errorf("backend: %s: answer is larger than %d bytes", path, most)
	}
	return answer, nil
}

// Modelfile asks for a model's modelfile, whose FROM line names the file with
// its weights.
func (c *Client) Modelfile(ctx context.Context, name string) (string, error) {
	question, err := json.Marshal(map[string]any{"model": name, "name": name})
	if err != nil {
		return "", err
	}
	body, err := c.ask(ctx, "/api/show", question, showAfter, showLimit)
	if err != nil {
		return "", err
	}
	var v struct {
		Modelfile string `json:"modelfile"`
	}
	if err := json.Unmarshal(body, &v); err != nil {
		return "", fmt.Errorf("backend: read show: %w", err)
	}
	return v.Modelfile, nil
}
