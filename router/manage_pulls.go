package router

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"sync"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/wire"
)

// pulls are the pulls that run on this node's Ollama, by canonical name: a
// second request for a model follows the first one's pull.
type pulls struct {
	mu      sync.Mutex
	running map[string]*pull
}

func newPulls() *pulls { return &pulls{running: make(map[string]*pull)} }

// pull is one running pull. It ends when all who follow it have left.
type pull struct {
	story   *progress
	cancel  context.CancelFunc
	refs    int            // guarded by pulls.mu
	begun   chan struct{}  // closed when refused is decided
	refused *http.Response // Ollama's own refusal; decided before begun
	told    bool           // owned by run: followers are past refusals
	trailer http.Header    // complete when the story has ended
}

// join follows the running pull of key, or starts one with run.
func (p *pulls) join(key string, run func(context.Context, *pull)) (one *pull, leave func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	one = p.running[key]
	if one == nil {
		ctx, cancel := context.WithCancel(context.Background())
		one = &pull{story: newProgress(), cancel: cancel, begun: make(chan struct{}), trailer: http.Header{}}
		p.running[key] = one
		go func() { // ends when the pull does, or when nobody follows it
			defer cancel()
			run(ctx, one)
			p.mu.Lock()
			if p.running[key] == one {
				delete(p.running, key)
			}
			p.mu.Unlock()
			one.story.end()
		}()
	}
	one.refs++
	return one, sync.OnceFunc(func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		if one.refs--; one.refs == 0 {
			if p.running[key] == one {
				delete(p.running, key) // who comes now starts anew; Ollama resumes
			}
			one.cancel()
		}
	})
}

// pullHere pulls a model into this node's Ollama, or follows the pull of it
// that runs.
func (r *Router) pullHere(ctx context.Context, o *errand) (*http.Response, error) {
	key := wire.Canonical(o.peek.Model)
	one, leave := r.pulls.join(key, func(ctx context.Context, p *pull) { r.runPull(ctx, p, o, key) })
	select {
	case <-one.begun:
	case <-ctx.Done():
		leave()
		return nil, ctx.Err()
	}
	if refused := one.refused; refused != nil {
		leave()
		if refused.Body == nil {
			return nil, errDown
		}
		body, _ := io.ReadAll(refused.Body)
		return &http.Response{
			StatusCode: refused.StatusCode, Header: refused.Header,
			Body: io.NopCloser(bytes.NewReader(body)),
		}, nil
	}
	resp := &http.Response{
		StatusCode: http.StatusOK, Header: http.Header{"Content-Type": {"application/x-ndjson"}}, Trailer: http.Header{},
	}
	resp.Body = &follower{ctx: ctx, pull: one, leave: leave, trailer: resp.Trailer}
	return resp, nil
}

// follower reads a pull's story as a response body.
type follower struct {
	ctx     context.Context
	pull    *pull
	leave   func()
	trailer http.Header
	seq     uint64
	rest    []byte
}

func (f *follower) Read(p []byte) (int, error) {
	for len(f.rest) == 0 {
		lines, last, ended, more := f.pull.story.since(f.seq)
		f.seq, f.rest = last, bytes.Join(lines, nil)
		switch {
		case len(f.rest) > 0:
		case ended:
			maps.Copy(f.trailer, f.pull.trailer)
			return 0, io.EOF
		default:
			select {
			case <-more:
			case <-f.ctx.Done():
				return 0, context.Cause(f.ctx)
			}
		}
	}
	n := copy(p, f.rest)
	f.rest = f.rest[n:]
	return n, nil
}

func (f *follower) Close() error {
	f.leave()
	return nil
}

// runPull is the pull itself: from a peer that has the model if there is one,
// else as Ollama does it.
func (r *Router) runPull(ctx context.Context, p *pull, o *errand, key string) {
	begin := sync.OnceFunc(func() {
		p.told = true
		close(p.begun)
	})
	defer begin()
	done := r.copyFromPeers(ctx, p, o, key, begin)
	if !done && ctx.Err() == nil {
		done = r.pullFromRegistry(ctx, p, o, begin)
	}
	if done {
		r.settle(ctx, key, p.trailer)
		success := step{Status: "success"}
		p.story.tell(success.name(), success.line())
	}
}

// pullFromRegistry has Ollama pull as it was asked to, always with progress.
func (r *Router) pullFromRegistry(ctx context.Context, p *pull, o *errand, begin func()) (done bool) {
	var fields map[string]json.RawMessage
	body := o.body
	if json.Unmarshal(o.body, &fields) == nil {
		fields["stream"] = json.RawMessage("true")
		if b, err := json.Marshal(fields); err == nil {
			body = b
		}
	}
	err := r.ollamaPull(ctx, body, o.header, func(resp *http.Response) {
		if resp.StatusCode != http.StatusOK && !p.told {
			p.refused = keep(resp) //nolint:bodyclose // keep has read it, ollamaPull closes it
		}
		begin()
	}, p.story)
	switch {
	case err == nil:
		return true
	case p.refused != nil, ctx.Err() != nil:
	case errors.Is(err, errDown) && !p.told:
		p.refused = &http.Response{}
	case errors.Is(err, errDown):
		p.story.tell("error", errorLine("this node's Ollama does not answer"))
	default:
		p.story.tell("error", errorLine(err.Error()))
	}
	return false
}

// keep reads a short answer whole, so that it outlives its connection.
func keep(resp *http.Response) *http.Response {
	body, _ := io.ReadAll(io.LimitReader(resp.Body, errorBodyLimit))
	return &http.Response{StatusCode: resp.StatusCode, Header: resp.Header, Body: io.NopCloser(bytes.NewReader(body))}
}

// errPull is an error that Ollama wrote into its progress, in its own words.
type errPull string

func (e errPull) Error() string { return string(e) }

// ollamaPull runs one pull on this node's Ollama and tells of it, but not of
// its success. nil: it succeeded.
func (r *Router) ollamaPull(ctx context.Context, body []byte, header http.Header, head func(*http.Response), story *progress) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "/api/pull", bytes.NewReader(body))
	if err != nil {
		return err
	}
	if req.Header = header.Clone(); req.Header == nil {
		req.Header = http.Header{}
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := r.backend.Do(req)
	if err != nil {
		return fmt.Errorf("%w: %w", errDown, err)
	}
	defer resp.Body.Close()
	if head != nil {
		head(resp)
	}
	if resp.StatusCode != http.StatusOK {
		return errPull(fmt.Sprintf("ollama answered %d", resp.StatusCode))
	}
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, errorBodyLimit)
	succeeded := false
	for lines.Scan() {
		s, ok := parseStep(lines.Bytes())
		switch {
		case !ok:
		case s.Error != "":
			return errPull(s.Error)
		case s.Status == "success":
			succeeded = true
		default:
			story.tell(s.name(), append(lines.Bytes(), '\n'))
		}
	}
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case lines.Err() != nil:
		return errPull("the connection to ollama broke: " + lines.Err().Error())
	case !succeeded:
		return errPull("ollama ended the pull without a result")
	}
	return nil
}
