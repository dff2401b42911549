package router

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"time"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/wire"
)

// sizeLimit bounds the question how large a model is that no node has.
const sizeLimit = 5 * time.Second

// servePull has one or several nodes pull a model and tells of their progress
// as one Ollama would.
func (r *Router) servePull(w http.ResponseWriter, req *http.Request, o *errand) {
	ctx := req.Context()
	v := r.mesh.View()
	key := wire.Canonical(o.peek.Model)
	members, werr := pullTargets(v, o.where, key, r.sizeOf(ctx, v, o, key))
	if werr != nil {
		writeError(w, wire.Ollama, werr)
		return
	}
	story := &storyteller{w: w, stream: o.peek.Stream, flush: http.NewResponseController(w)}
	if len(members) == 1 {
		r.pullOne(ctx, story, members[0], o)
		return
	}
	r.pullMany(ctx, story, members, o)
}

// sizeOf is how many bytes the model takes, 0 when that cannot be known.
func (r *Router) sizeOf(ctx context.Context, v *mesh.View, o *errand, key string) uint64 {
	for _, h := range v.Holders(key) {
		if h.Model.Remote == "" {
			return h.Model.Size
		}
	}
	if r.config.Sizes == nil || wire.IsCloud(key) {
		return 0
	}
	ctx, cancel := context.WithTimeout(ctx, sizeLimit)
	defer cancel()
	size, err := r.config.Sizes(ctx, o.peek.Model)
	if err != nil {
		r.log.Debug("the size of a model cannot be learnt", "model", key, "err", err)
		return 0
	}
	return size
}

// storyteller writes progress to a client: line by line, or only its end.
type storyteller struct {
	w      http.ResponseWriter
	flush  *http.ResponseController
	stream bool
	begun  bool
	last   []byte
}

func (s *storyteller) tell(line []byte) {
	s.last = line
	if !s.stream {
		return
	}
	if !s.begun {
		s.begun = true
		s.w.Header().Set("Content-Type", "application/x-ndjson")
		s.w.WriteHeader(http.StatusOK)
	}
	_, _ = s.w.Write(line) // a client that has left ends the request's context
	_ = s.flush.Flush()
}

// end tells the end to a client that wanted only that.
func (s *storyteller) end() {
	if s.stream {
		return
	}
	if last, ok := parseStep(s.last); !ok || last.Error != "" {
		writeError(s.w, wire.Ollama, &wire.Error{Status: http.StatusInternalServerError, Message: last.Error})
		return
	}
	s.w.Header().Set("Content-Type", "application/json")
	_, _ = s.w.Write(bytes.TrimSpace(s.last))
}

// pullOne passes one node's progress on as it comes.
func (r *Router) pullOne(ctx context.Context, story *storyteller, m *mesh.Member, o *errand) {
	story.w.Header().Set(headerNode, m.Name)
	resp, err := r.manageAt(ctx, m, o, bytes.NewReader(o.body), int64(len(o.body)))
	if err == nil {
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			_ = relayResponse(story.w, resp)
			return
		}
		err = r.follow(ctx, m, resp, story.tell)
	}
	if ctx.Err() != nil {
		return
	}
	if err != nil {
		story.tell(errorLine(reason(m, err)))
	}
	story.end()
}

// follow reads a node's progress line by line; its last line is told when the
// view shows the change.
func (r *Router) follow(ctx context.Context, m *mesh.Member, resp *http.Response, tell func([]byte)) error {
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, errorBodyLimit)
	var held []byte
	for lines.Scan() {
		line := append(bytes.Clone(lines.Bytes()), '\n')
		if s, ok := parseStep(line); ok && s.Status == "success" {
			held = line
			continue
		}
		tell(line)
	}
	if err := lines.Err(); err != nil {
		return err
	}
	if held != nil {
		r.shown(ctx, m, resp)
		tell(held)
	}
	return nil
}

// pullMany has several nodes pull at once. One that fails ends nobody's pull
// but its own.
func (r *Router) pullMany(ctx context.Context, story *storyteller, members []*mesh.Member, o *errand) {
	type news struct {
		node int
		step
	}
	names := make([]string, len(members))
	for i, m := range members {
		names[i] = m.Name
	}
	all, ctx, stop := newMerge(names), ctx, make(chan struct{})
	defer close(stop)
	feed := make(chan news)
	say := func(i int, s step) {
		select {
		case feed <- news{i, s}:
		case <-stop:
		}
	}
	for i, m := range members {
		names[i] = m.Name
		go func() { // ends with ctx, at the latest when the client has left
			err := r.pullFrom(ctx, m, o, func(s step) { say(i, s) })
			if err != nil {
				say(i, step{Error: reason(m, err)})
			}
			say(i, step{}) // no more
		}()
	}
	for open := len(members); open > 0; {
		var n news
		select {
		case n = <-feed:
		case <-ctx.Done():
			return
		}
		if n.step == (step{}) {
			open--
			continue
		}
		for _, line := range all.add(n.node, n.step) {
			story.tellMerged(line)
		}
	}
	story.tellMerged(all.end())
	story.end()
}

func (s *storyteller) tellMerged(m mergedStep) {
	b, err := json.Marshal(m)
	if err != nil {
		return // cannot happen: plain values only
	}
	s.tell(append(b, '\n'))
}

// pullFrom has one of several nodes pull. It always ends with a success or an
// error.
func (r *Router) pullFrom(ctx context.Context, m *mesh.Member, o *errand, say func(step)) error {
	resp, err := r.manageAt(ctx, m, o, bytes.NewReader(o.body), int64(len(o.body)))
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		body, _ := io.ReadAll(io.LimitReader(resp.Body, errorBodyLimit))
		say(step{Error: errorText(body)})
		return nil
	}
	ended := false
	err = r.follow(ctx, m, resp, func(line []byte) {
		if s, ok := parseStep(line); ok {
			ended = ended || s.Error != "" || s.Status == "success"
			say(s)
		}
	})
	if err == nil && !ended {
		err = ErrCut
	}
	return err
}

// errorText is what an error answer of Ollama says.
func errorText(body []byte) string {
	var e struct {
		Error string `json:"error"`
	}
	if json.Unmarshal(body, &e) == nil && e.Error != "" {
		return e.Error
	}
	return "no reason given"
}
