package router

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"strings"
	"sync"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/wire"
)

// outcome is what one node answered to a short order.
type outcome struct {
	member *mesh.Member
	status int
	header http.Header
	body   []byte
	err    error
}

func (o outcome) good() bool { return o.err == nil && o.status < 300 }

// serveEach deletes or copies a model on every node that has it, or on those
// that the caller named.
func (r *Router) serveEach(w http.ResponseWriter, req *http.Request, o *errand) {
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
	outcomes := make([]outcome, len(members))
	var wait sync.WaitGroup
	for i, m := range members {
		wait.Go(func() { outcomes[i] = r.short(req.Context(), m, o) })
	}
	wait.Wait()
	if req.Context().Err() != nil {
		return
	}
	writeOutcomes(w, outcomes)
}

// short has one node carry out an order whose answer is short.
func (r *Router) short(ctx context.Context, m *mesh.Member, o *errand) outcome {
	out := outcome{member: m}
	resp, err := r.manageAt(ctx, m, o, bytes.NewReader(o.body), int64(len(o.body)))
	if err != nil {
		out.err = err
		return out
	}
	defer resp.Body.Close()
	out.status, out.header = resp.StatusCode, resp.Header
	if out.body, out.err = io.ReadAll(io.LimitReader(resp.Body, errorBodyLimit)); out.err == nil {
		r.shown(ctx, m, resp)
	}
	return out
}

// writeOutcomes answers for several nodes at once: with the one answer they
// gave, or with the error of those that failed, by name when others did it.
func writeOutcomes(w http.ResponseWriter, outcomes []outcome) {
	var done, failed []string
	var bad *outcome
	for i := range outcomes {
		o := &outcomes[i]
		switch {
		case o.good():
			done = append(done, o.member.Name)
			continue
		case o.err != nil:
			failed = append(failed, reason(o.member, o.err))
		default:
			failed = append(failed, o.member.Name+": "+errorText(o.body))
		}
		if bad == nil || bad.err != nil {
			bad = o // an answer of Ollama's own says more than a lost connection
		}
	}
	w.Header().Set(headerNode, strings.Join(done, ","))
	switch {
	case bad == nil:
		answerHeaders(w.Header(), outcomes[0].header)
		w.WriteHeader(outcomes[0].status)
		_, _ = w.Write(outcomes[0].body)
	case len(outcomes) == 1 && bad.err == nil:
		answerHeaders(w.Header(), bad.header)
		w.WriteHeader(bad.status)
		_, _ = w.Write(bad.body)
	default:
		status := http.StatusBadGateway
		if bad.err == nil {
			status = bad.status
		}
		message := strings.Join(failed, "; ")
		if len(done) > 0 {
			message += " (done on " + strings.Join(done, ", ") + ")"
		}
		writeError(w, wire.Ollama, &wire.Error{Status: status, Message: message})
	}
}
