package router

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/wire"
)

// resume decides what follows a failure after the client has a part of its
// answer: true, the loop goes on with the next candidate as f says now; false,
// the answer has been ended here.
func (r *Router) resume(out *relay, f *flight, e *AttemptError) bool {
	switch {
	case errors.Is(e.Err, ErrClientGone):
		r.ended(f, false)
		return false
	case errors.Is(e.Err, ErrStopping):
		r.lose(out, f, e, "ask another node")
		return false
	case errors.Is(e.Err, ErrDiffers):
		f.exclude(e, false)
		return r.within(out, f, e, "it cannot be continued")
	case e.Phase == PhaseStream:
		return r.broke(out, f, e)
	case e.Refusal == RefusedMoved, e.Refusal == RefusedLate:
		if !f.course.Refused(e.Node, e.RetryAfter, time.Now()) {
			f.exclude(e, false)
		}
	case e.Refusal == RefusedFinished:
		r.finish(out, f, e)
		return false
	case e.Refusal == RefusedCannot,
		f.path == Exact && errors.Is(e.Err, ErrStatus) && e.Status < 500:
		f.unable = append(f.unable, e.Node)
	case e.Refusal == RefusedSaturated:
		f.full = append(f.full, e.Node)
	default:
		f.exclude(e, false)
	}
	return r.within(out, f, e, "too many nodes failed")
}

// within lets f go on unless its tries are used up.
func (r *Router) within(out *relay, f *flight, e *AttemptError, why string) bool {
	if f.spent < maxSpent {
		return true
	}
	r.lose(out, f, e, why)
	return false
}

// broke plans how the answer goes on that e's node broke off.
func (r *Router) broke(out *relay, f *flight, e *AttemptError) bool {
	f.exclude(e, e.amicable())
	f.full = nil
	path, why := plan(f.route.Kind, &f.peek, &f.story)
	if f.off && path != Finish {
		path, why = Refuse, "continuation is off"
	}
	if path != Refuse && path != Finish && f.spent >= maxSpent {
		path, why = Refuse, "too many nodes failed"
	}
	f.continued++
	r.continued.broke(lossOf(e), path.String())
	f.logger().Info("answer broke off", "node", e.Name, "err", e.Err, "path", path.String(), "tokens", f.story.tokens, "break", f.continued)
	switch path {
	case Refuse:
		r.lose(out, f, e, why)
		return false
	case Finish:
		r.finish(out, f, e)
		return false
	}
	r.take(f, path, e)
	return true
}

// take sets f on a path of continuation.
func (r *Router) take(f *flight, path Path, e *AttemptError) {
	f.path, f.composer = path, f.compose()
	f.course.repicks = 0
	if f.continued == 1 {
		// As it was when it began: a node whose Ollama has died says none.
		if f.first = r.ollamaOf(e.Node); f.answerer.Member != nil && f.answerer.ID == e.Node {
			f.first = f.answerer.Info.Ollama
		}
	}
	if path != Exact {
		f.takeup, f.takeBody = nil, nil
		return
	}
	f.takeup = &takeup{
		Kind: f.route.Kind.String(), Request: f.body, Text: string(f.story.text),
		Thinking: string(f.story.thinking), Tokens: f.story.tokens, Ollama: f.first,
	}
	f.takeBody = f.takeup.encode()
	f.PromptTokens = f.peek.PromptTokens + f.story.tokens
	if f.peek.NumPredict > 0 {
		f.OutputTokens = max(f.peek.NumPredict-f.story.tokens, 1)
	}
}

func (f *flight) compose() *wire.Composer {
	return wire.NewComposer(f.route.Kind, f.story.first, f.peek.IncludeUsage).On(&f.story.blocks)
}

// encode is t as JSON. It cannot fail: the request is JSON that was parsed.
func (t *takeup) encode() []byte {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if enc.Encode(t) != nil {
		return nil
	}
	return b.Bytes()
}

// ollamaOf is the version of a member's Ollama, "" unknown.
func (r *Router) ollamaOf(id mesh.NodeID) string {
	m, ok := r.mesh.View().Member(id)
	if !ok {
		return ""
	}
	return m.Info.Ollama
}

// Waiting for a place in a queue: the mesh is full, and the client has waited
// for half an answer already.
const (
	maxWaits    = 30
	longestWait = 2 * time.Second
)

// stillHope makes one more round possible when no candidate is left: on the
// other path, after a wait for a full node, or on the node itself whose Ollama
// broke one answer off and lives on.
func (r *Router) stillHope(ctx context.Context, f *flight, last *AttemptError) bool {
	switch {
	case f.path == Exact && len(f.unable) > 0:
		path, _ := again(&f.peek, &f.story)
		if path == Refuse {
			return false
		}
		r.take(f, path, last)
		return true
	case len(f.full) > 0 && f.waits < maxWaits:
		f.waits++
		pause := time.NewTimer(min(max(last.RetryAfter, 100*time.Millisecond), longestWait))
		defer pause.Stop()
		select {
		case <-ctx.Done():
			return false
		case <-pause.C:
		}
		f.full = nil
		return true
	case last != nil && errors.Is(last.Err, ErrStatus) && !f.same && f.spent < maxSpent:
		f.same = true
		f.tried = nil
		return true
	}
	return false
}

// finish ends an answer of which nothing is missing.
func (r *Router) finish(out *relay, f *flight, e *AttemptError) {
	s := &f.story
	end := wire.Final{
		Reason: "length", Told: s.finished, Prompt: f.peek.PromptTokens, Output: s.tokens,
		Total: time.Since(f.Arrived), Eval: s.latest.Sub(s.began),
		Continued: f.continued, Path: Finish.String(),
	}
	c := f.compose()
	frames := c.End(c.Note(nil, noteText(f.continued, Finish)), end)
	f.logger().Info("answer finished here", "node", e.Name, "tokens", s.tokens)
	r.ended(f, out.send(frames) == nil)
}

// lose ends an answer in an error: it cannot go on.
func (r *Router) lose(out *relay, f *flight, e *AttemptError, why string) {
	r.ended(f, false)
	reason := "the mesh has no node for it"
	if e != nil {
		reason = people(e)
	}
	out.fail(wire.ErrInterrupted(reason + "; " + why))
}

// ended counts what became of a broken answer.
func (r *Router) ended(f *flight, whole bool) {
	if f.continued > 0 {
		r.continued.ended(whole)
	}
}
