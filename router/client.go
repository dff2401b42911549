package router

import (
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/guard"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/wire"
)

// Client handles what clients send: the dialects of Ollama and OpenAI, the
// health pages, and the admin API under /mesh/.
func (r *Router) Client() http.Handler { return http.HandlerFunc(r.serveClient) }

func (r *Router) serveClient(w http.ResponseWriter, req *http.Request) {
	path := req.URL.Path
	switch {
	case path == "/mesh" || strings.HasPrefix(path, "/mesh/"):
		if r.config.Admin == nil {
			writeError(w, wire.Ollama, wire.ErrNoRoute())
			return
		}
		r.config.Admin.ServeHTTP(w, req)
		return
	case path == "/metrics" && r.config.Metrics != nil:
		r.config.Metrics.ServeHTTP(w, req)
		return
	case path == "/health" || strings.HasPrefix(path, "/health/") || path == "/backends":
		r.serveHealth(w, req)
		return
	}
	route, allowed, ok := wire.Lookup(req.Method, path)
	t, whole := r.journal.begin(w, route), false
	defer func() { t.end(whole) }()
	w = t
	switch {
	case !ok && len(allowed) > 0:
		writeError(w, wire.Ollama, wire.ErrMethod(allowed))
	case !ok:
		writeError(w, wire.Ollama, wire.ErrNoRoute()) // never passed on
	case forwarded(route):
		r.serveForwarded(t, req, route)
	case route.Class == wire.Manage:
		r.serveManage(t, req, route)
	case route.Class == wire.Account:
		r.serveAccount(t, req, route)
	default:
		r.serveRead(w, req, route)
	}
	whole = true
}

// forwarded tells the routes that one owner answers from those that any node
// answers from its view.
func forwarded(route wire.Route) bool {
	return route.Kind.Inference() || route.Kind == wire.Show
}

// serveForwarded reads a request as far as placement needs it, and sends it on
// its way.
func (r *Router) serveForwarded(w *trip, req *http.Request, route wire.Route) {
	id := requestID(req)
	w.Header()[headerRequestID] = w.value(id)
	w.named(id)
	// The body is read before anything can wait: only then does an HTTP/1.1
	// server notice that its client has left.
	body, werr := r.readBody(req)
	if werr != nil {
		writeError(w, route.Kind.Dialect(), werr)
		return
	}
	peek, werr := parse(route.Kind, wire.Field(req.Header, "Content-Type"), body)
	if werr != nil {
		writeError(w, route.Kind.Dialect(), werr)
		return
	}
	key := wire.Canonical(peek.Model)
	r.meet(req.Context(), key)
	f := &flight{
		Request: Request{
			ID: id, Key: key, PromptTokens: peek.PromptTokens,
			OutputTokens: max(peek.NumPredict, 0), Context: peek.NumCtx, Prefixes: peek.Prefixes,
			PrefixTokens: peek.PrefixTokens, Conversation: conversation(route.Kind, &peek), Embedding: !route.Kind.Generates(), Batch: wire.Field(req.Header, headerClass) == "batch",
			Client: clientName(req), Arrived: time.Now(),
			Read: route.Kind == wire.Show, Since: route.Since, Own: FromHere(req),
			Weights: r.talks.weights(route.Kind, peek.Prefixes),
		},
		route: route, peek: peek, body: body, header: callerHeaders(req.Header), only: wire.Field(req.Header, headerNode),
		off: r.config.NoContinue || strings.EqualFold(wire.Field(req.Header, headerContinue), "off"),
		log: r.log, trip: w,
	}
	if werr := r.restrict(f); werr != nil {
		writeError(w, route.Kind.Dialect(), werr)
		return
	}
	w.read(f.Request, peek.Stream, len(r.mesh.View().Holders(f.Key)) > 0)
	w.trace(r.config.Tracer, req.Header)
	r.dispatch(w, req, f)
}

// parse reads what placement needs of a body.
func parse(kind wire.Kind, contentType string, body []byte) (wire.Peek, *wire.Error) {
	if kind == wire.V1Transcriptions {
		return wire.ParseForm(contentType, body)
	}
	return wire.Parse(kind, body)
}

// readBody reads and decodes a request body, bounded.
func (r *Router) readBody(req *http.Request) ([]byte, *wire.Error) {
	return guard.ReadBody(req, r.maxBody.Load())
}

// requestID takes over a caller's id of sane form, so that logs of both sides
// meet, or makes one.
func requestID(req *http.Request) string {
	if id := wire.Field(req.Header, headerRequestID); id != "" && len(id) <= 64 && strings.IndexFunc(id, notIDRune) < 0 {
		return id
	}
	return newID()
}

// idLetters are those of base32 (RFC 4648).
const idLetters = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"

// newID makes an id that no other request of any node has: 120 random bits. It
// is a name and no secret.
func newID() string {
	var id [24]byte
	for i := 0; i < len(id); {
		for n, x := 0, rand.Uint64(); n < 12; n++ { //nolint:gosec // no secret
			id[i] = idLetters[x&31]
			x >>= 5
			i++
		}
	}
	return string(id[:])
}

func notIDRune(c rune) bool {
	switch {
	case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', c == '_', c == '.':
		return false
	}
	return true
}

// clientName is whom fairness counts a request for: the caller's key or
// address.
func clientName(req *http.Request) string {
	if c, ok := guard.From(req.Context()); ok {
		return c.Name
	}
	host, _, err := net.SplitHostPort(req.RemoteAddr)
	if err != nil {
		return req.RemoteAddr
	}
	return host
}

// writeError writes e in the caller's dialect.
func writeError(w http.ResponseWriter, d wire.Dialect, e *wire.Error) {
	contentType, body := e.Body(d)
	h := w.Header()
	e.SetHeader(h)
	h.Set("Content-Type", contentType)
	h.Set("Content-Length", strconv.Itoa(len(body)))
	if e.Status == http.StatusRequestEntityTooLarge {
		h.Set("Connection", "close") // the rest of the body is not read
	}
	w.WriteHeader(e.Status)
	_, _ = w.Write(body) //nolint:gosec // JSON, and said so
}
