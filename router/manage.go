package router

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strconv"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/guard"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/wire"
)

// errManage is the answer to a caller that may not change models.
var errManage = wire.ErrForbidden("models are changed from a node's own machine only; run this there, against its 127.0.0.1")

// mayManage reports whether the caller may change what is on the nodes' disks:
// the guard in front has decided it, or there is none and only this machine may.
func mayManage(req *http.Request) bool {
	if c, ok := guard.From(req.Context()); ok {
		return c.Owner
	}
	return FromHere(req)
}

// errand is one management request on its way.
type errand struct {
	route  wire.Route
	peek   wire.Peek
	body   []byte
	header http.Header
	where  string // which nodes, as the caller said: "", a name, names, "all" or "capable"
	source string // for a pull: where it may come from; see sourceRegistry
	client string
}

// serveManage changes the models of one or several nodes. Nothing of it is ever
// tried twice: a node that fails has failed.
func (r *Router) serveManage(w http.ResponseWriter, req *http.Request, route wire.Route) {
	if !mayManage(req) {
		writeError(w, wire.Ollama, errManage)
		return
	}
	query := req.URL.Query()
	o := &errand{
		route: route, header: callerHeaders(req.Header), where: query.Get("node"),
		source: query.Get("source"), client: clientName(req),
	}
	if o.where == "" {
		o.where = req.Header.Get(headerNode)
	}
	if route.Kind == wire.Blob {
		r.serveBlob(w, req, o)
		return
	}
	var werr *wire.Error
	if o.body, werr = r.readBody(req); werr == nil {
		o.peek, werr = wire.Parse(route.Kind, o.body)
	}
	if werr != nil {
		writeError(w, wire.Ollama, werr)
		return
	}
	switch route.Kind {
	case wire.Pull:
		r.servePull(w, req, o)
	case wire.Delete, wire.Copy:
		r.serveEach(w, req, o)
	case wire.Create:
		r.serveCreate(w, req, o)
	default:
		r.servePush(w, req, o)
	}
}

// servePush sends a model to a registry, from a node that has it.
func (r *Router) servePush(w http.ResponseWriter, req *http.Request, o *errand) {
	v := r.mesh.View()
	members, werr := holdersFor(v, o.where, wire.Canonical(o.peek.Model))
	if werr != nil {
		writeError(w, wire.Ollama, werr)
		return
	}
	if members = orAnyone(v, members); len(members) == 0 {
		writeError(w, wire.Ollama, wire.ErrModelNotFound(o.route.Kind, o.peek.Model, nil))
		return
	}
	r.relayFrom(w, req.Context(), members[0], o, bytes.NewReader(o.body), int64(len(o.body)))
}

// orAnyone gives a request for a model that nobody has to one Ollama, this
// node's if it has one, so that it is refused in Ollama's own words.
func orAnyone(v *mesh.View, members []*mesh.Member) []*mesh.Member {
	if len(members) > 0 {
		return members
	}
	var one []*mesh.Member
	for _, m := range v.Members() {
		if m.Serving() && (one == nil || m.Self) {
			one = []*mesh.Member{m}
		}
	}
	return one
}

// relayFrom has one node do it and passes its answer on as it comes.
func (r *Router) relayFrom(w http.ResponseWriter, ctx context.Context, m *mesh.Member, o *errand, body io.Reader, length int64) {
	w.Header().Set(headerNode, m.Name)
	resp, err := r.manageAt(ctx, m, o, body, length)
	if err != nil {
		if ctx.Err() == nil {
			writeError(w, wire.Ollama, &wire.Error{Status: http.StatusBadGateway, Message: reason(m, err), Err: err})
		}
		return
	}
	defer resp.Body.Close()
	if streamed(resp.Header) && resp.StatusCode == http.StatusOK {
		story := &storyteller{w: w, flush: http.NewResponseController(w), stream: true}
		if err := r.follow(ctx, m, resp, story.tell); err != nil && ctx.Err() == nil {
			story.tell(errorLine(reason(m, err)))
			panic(http.ErrAbortHandler)
		}
		return
	}
	// A client takes an answer of known length as its end, so the change must
	// show before any of it is written.
	answer, err := io.ReadAll(io.LimitReader(resp.Body, errorBodyLimit))
	if err != nil {
		if ctx.Err() == nil {
			writeError(w, wire.Ollama, &wire.Error{Status: http.StatusBadGateway, Message: reason(m, err), Err: err})
		}
		return
	}
	r.shown(ctx, m, resp)
	answerHeaders(w.Header(), resp.Header)
	if o.route.Method != http.MethodHead {
		w.Header().Set("Content-Length", strconv.Itoa(len(answer)))
	}
	w.WriteHeader(resp.StatusCode)
	_, _ = w.Write(answer)
}

// relayResponse copies an answer, each piece flushed as it comes.
func relayResponse(w http.ResponseWriter, resp *http.Response) error {
	answerHeaders(w.Header(), resp.Header)
	if n := resp.Header.Get("Content-Length"); n != "" {
		w.Header().Set("Content-Length", n)
	}
	buf := bufferPool.Get().(*[]byte)
	defer bufferPool.Put(buf)
	out := http.NewResponseController(w)
	begun := false
	for {
		n, err := resp.Body.Read(*buf)
		if !begun {
			w.WriteHeader(resp.StatusCode)
			begun = true
		}
		if n > 0 {
			if _, werr := w.Write((*buf)[:n]); werr != nil {
				return nil // the client has left
			}
			if err == nil {
				_ = out.Flush()
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// errorLine is an error as the last line of a stream of progress.
func errorLine(text string) []byte {
	line, err := json.Marshal(map[string]string{"error": text})
	if err != nil {
		return []byte("{}\n") // cannot happen: a string
	}
	return append(line, '\n')
}

// reason words for a client why a node did not do what it was told.
func reason(m *mesh.Member, err error) string {
	return people(&AttemptError{Name: m.Name, Phase: PhaseHeader, Err: err})
}
