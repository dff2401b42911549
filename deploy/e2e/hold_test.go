//go:build linux

package e2e

import (
	"bufio"
	"io"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/deploy/lab"
)

// holder stands between a node and its Ollama, where the node expects Ollama,
// and can stop an answer after so many pieces of text. Without it a test that
// kills a node after the client has k pieces is a race with a model that may be
// through by then.
type holder struct {
	t     testing.TB
	proxy *httputil.ReverseProxy

	mu      sync.Mutex
	after   int           // pieces that may pass; 0: all
	release chan struct{} // closed: what is held flows on
}

// hold starts a holder on the host's Ollama port, in front of the Ollama at
// address.
func hold(t testing.TB, n *lab.Node, address string) *holder {
	t.Helper()
	h := &holder{t: t, release: make(chan struct{})}
	h.proxy = httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: address})
	h.proxy.Transport = n.HTTPClient().Transport
	h.proxy.FlushInterval = -1
	h.proxy.ModifyResponse = func(r *http.Response) error {
		switch r.Header.Get("Content-Type") {
		case "application/x-ndjson", "text/event-stream":
			r.Body = h.held(r)
		}
		return nil
	}
	h.proxy.ErrorHandler = func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) }
	l, err := n.Listen("tcp", "127.0.0.1:11434")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: h.proxy}
	go func() { _ = server.Serve(l) }()
	t.Cleanup(func() {
		h.let()
		_ = server.Close()
	})
	return h
}

// arm lets k pieces of the next answer pass, and no more until let is called.
func (h *holder) arm(k int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.after, h.release = k, make(chan struct{})
}

// let lets everything pass.
func (h *holder) let() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.after = 0
	select {
	case <-h.release:
	default:
		close(h.release)
	}
}

// held is the body of an answer that may be held. The first answer takes what
// the holder is armed with.
func (h *holder) held(r *http.Response) io.ReadCloser {
	h.mu.Lock()
	after, release := h.after, h.release
	h.after = 0
	h.mu.Unlock()
	if after == 0 {
		return r.Body
	}
	out, in := io.Pipe()
	lines := bufio.NewReader(r.Body)
	go func() {
		for n := 0; ; {
			line, err := lines.ReadString('\n')
			if (&spoken{}).line(strings.TrimSpace(line)) != "" {
				if n++; n > after {
					select {
					case <-release:
					case <-r.Request.Context().Done():
					}
				}
			}
			if _, werr := io.WriteString(in, line); werr != nil {
				return
			}
			if err != nil {
				_ = in.CloseWithError(err)
				return
			}
		}
	}()
	return struct {
		io.Reader
		io.Closer
	}{out, closers{out, r.Body}}
}

type closers []io.Closer

func (c closers) Close() error {
	for _, one := range c {
		_ = one.Close()
	}
	return nil
}
