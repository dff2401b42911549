package router

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/wire"
)

// ManagePath is where nodes tell each other to change models: ManagePath plus
// the route's own path, with its method, body and answer. When a change is
// done the answer's trailer says what the node now has, so that the node that
// asked can wait until its own listings show it.
const ManagePath = "/mesh/v1/manage"

const (
	headerChanged = "X-Kage-Changed" // trailer: "key digest", the digest empty when the model is gone
	headerSource  = "X-Kage-Source"  // where a pull may take the model from
)

// settleLimit bounds the wait for a change to show; the change itself is done.
// It shows within a second, but 5 s were once too few on two cores with forty
// busy processes.
const settleLimit = 20 * time.Second

// errNoDisk says that this node has no Ollama to manage.
var errNoDisk = errors.New("router: this node manages no models")

// manageAt has m carry out o, and returns its answer; the caller closes it. The
// work ends with ctx or, on another node, with that node.
func (r *Router) manageAt(ctx context.Context, m *mesh.Member, o *errand, body io.Reader, length int64) (*http.Response, error) {
	if m.Self {
		return r.manageHere(ctx, o, body, length)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(m.Context(), func() { cancel(context.Cause(m.Context())) })
	release := func() { stop(); cancel(nil) }
	req, err := http.NewRequestWithContext(ctx, o.route.Method, "https://"+string(m.ID)+ManagePath+o.route.Path, body)
	if err != nil {
		release()
		return nil, err
	}
	req.Header = o.header.Clone()
	req.ContentLength = length
	if o.source != "" {
		req.Header.Set(headerSource, o.source)
	}
	resp, err := r.peers.RoundTrip(req)
	if err != nil {
		err = because(ctx, err)
		release()
		return nil, err
	}
	resp.Body = released{resp.Body, ctx, release}
	return resp, nil
}

// because prefers the reason that a context ended for to the error that
// followed from it.
func because(ctx context.Context, err error) error {
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// released ends its context when it is closed, and reads fail with the reason
// that the context ended for.
type released struct {
	io.ReadCloser
	ctx     context.Context
	release func()
}

func (b released) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		err = because(b.ctx, err)
	}
	return n, err
}

func (b released) Close() error {
	err := b.ReadCloser.Close()
	b.release()
	return err
}

// manageHere carries out o on this node's own Ollama.
func (r *Router) manageHere(ctx context.Context, o *errand, body io.Reader, length int64) (*http.Response, error) {
	if r.config.Disk == nil {
		return nil, errNoDisk
	}
	if o.route.Kind == wire.Pull {
		return r.pullHere(ctx, o)
	}
	req, err := http.NewRequestWithContext(ctx, o.route.Method, o.route.Path, body)
	if err != nil {
		return nil, err
	}
	req.Header, req.ContentLength = o.header.Clone(), length
	resp, err := r.backend.Do(req)
	if err != nil {
		r.backend.Poke()
		return nil, fmt.Errorf("%w: %w", errDown, err)
	}
	if key := changes(o.route.Kind, o.peek); key != "" && resp.StatusCode < http.StatusBadRequest {
		resp.Trailer = http.Header{}
		resp.Body = &settling{ReadCloser: resp.Body, settle: func() { r.settle(ctx, key, resp.Trailer) }}
	}
	return resp, nil
}

// changes is the model that a request of kind k changes, "" when none.
func changes(k wire.Kind, p wire.Peek) string {
	switch k {
	case wire.Pull, wire.Create, wire.Delete:
		return wire.Canonical(p.Model)
	case wire.Copy:
		return wire.Canonical(p.Destination)
	}
	return ""
}

// settling does something when the answer has been read, before its reader
// sees the end.
type settling struct {
	io.ReadCloser
	settle func()
}

func (s *settling) Read(p []byte) (int, error) {
	n, err := s.ReadCloser.Read(p)
	if err == io.EOF && s.settle != nil {
		s.settle()
		s.settle = nil
	}
	return n, err
}

// settle looks at the local Ollama anew after a change of the model, waits
// until this node's own view shows it, and writes into trailer what it is.
func (r *Router) settle(ctx context.Context, key string, trailer http.Header) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleLimit)
	defer cancel()
	if err := r.config.Disk.Refresh(ctx); err != nil {
		r.log.Warn("a changed model is not seen yet", "model", key, "err", err)
		return
	}
	digest := ""
	if m := r.config.Disk.State().Model(key); m != nil {
		digest = m.Digest
	}
	if self := r.mesh.View().Self(); self != nil {
		r.await(ctx, self.ID, key, digest)
	}
	trailer.Set(headerChanged, key+" "+digest)
}

// shown waits until the view shows what m says it did.
func (r *Router) shown(ctx context.Context, m *mesh.Member, resp *http.Response) {
	key, digest, ok := strings.Cut(resp.Trailer.Get(headerChanged), " ")
	if !ok || m.Self {
		return // own changes were waited for when they were made
	}
	ctx, cancel := context.WithTimeout(ctx, settleLimit)
	defer cancel()
	r.await(ctx, m.ID, key, digest)
}

func (r *Router) await(ctx context.Context, id mesh.NodeID, key, digest string) {
	if r.config.Await == nil {
		return
	}
	_, err := r.config.Await(ctx, func(v *mesh.View) bool {
		m, ok := v.Member(id)
		if !ok || m.Card == nil || m.Status != mesh.Alive {
			return true // it will not show any more
		}
		model := m.Card.Catalog.Find(key)
		return model == nil && digest == "" || model != nil && model.Digest == digest
	})
	if err != nil {
		r.log.Warn("a changed model is not in the view yet", "model", key, "node", id, "err", err)
	}
}

// Manage handles what other nodes tell this one to change, on a listener that
// has verified them as members.
func (r *Router) Manage() http.Handler { return http.HandlerFunc(r.serveManagePeer) }

func (r *Router) serveManagePeer(w http.ResponseWriter, req *http.Request) {
	route, _, ok := wire.Lookup(req.Method, strings.TrimPrefix(req.URL.Path, ManagePath))
	if !ok || route.Class != wire.Manage {
		http.NotFound(w, req)
		return
	}
	o := &errand{route: route, header: callerHeaders(req.Header), source: req.Header.Get(headerSource)}
	var body io.Reader = req.Body
	if route.Kind != wire.Blob {
		var werr *wire.Error
		if o.body, werr = r.readBody(req); werr == nil {
			o.peek, werr = wire.Parse(route.Kind, o.body)
		}
		if werr != nil {
			writeError(w, wire.Ollama, werr)
			return
		}
		body = strings.NewReader(string(o.body))
	}
	resp, err := r.manageHere(req.Context(), o, body, req.ContentLength)
	if err != nil {
		if req.Context().Err() == nil {
			r.log.Warn("cannot do what another node asked", "path", route.Pattern, "err", err)
			writeError(w, wire.Ollama, &wire.Error{Status: http.StatusServiceUnavailable, Message: "its Ollama does not answer"})
		}
		return
	}
	defer resp.Body.Close()
	if resp.Trailer != nil { // which an HTTP/1.1 answer of a said length cannot have
		resp.Header.Del("Content-Length")
	}
	err = relayResponse(w, resp)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	for k, vs := range resp.Trailer {
		for _, v := range vs {
			w.Header().Set(http.TrailerPrefix+k, v)
		}
	}
}
