package router

import (
	"bytes"
	"net/http"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/wire"
)

// serveAccount passes what concerns the account at ollama.com on to this node's
// own Ollama, for callers on this machine. It never crosses the mesh: the
// account belongs to the machine's owner.
func (r *Router) serveAccount(w http.ResponseWriter, req *http.Request, route wire.Route) {
	if !FromHere(req) {
		writeError(w, wire.Ollama, wire.ErrForbidden("the account at ollama.com is for callers on the node's own machine"))
		return
	}
	r.pass(w, req, route)
}

// pass streams a request to this node's own Ollama and its answer back.
func (r *Router) pass(w http.ResponseWriter, req *http.Request, route wire.Route) {
	body, werr := r.readBody(req)
	if werr != nil {
		writeError(w, wire.Ollama, werr)
		return
	}
	out, err := http.NewRequestWithContext(req.Context(), route.Method, route.Path, bytes.NewReader(body))
	if err != nil {
		writeError(w, wire.Ollama, wire.ErrInternal(err))
		return
	}
	out.Header = callerHeaders(req.Header)
	resp, err := r.backend.Do(out)
	if err != nil {
		writeError(w, wire.Ollama, &wire.Error{Status: http.StatusServiceUnavailable, Message: "this node's Ollama does not answer"})
		return
	}
	defer resp.Body.Close()
	if err := relayResponse(w, resp); err != nil {
		panic(http.ErrAbortHandler)
	}
}
