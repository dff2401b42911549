//go:build linux

package faults

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
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/deploy/lab"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/ollamatest"
)

// question is one request of a client.
type question struct {
	from   *lab.Node // nil: the host that is asked, over its loopback
	to     *host
	model  string
	tokens int
	id     string            // names it in the fakes' Executions; "" none
	whole  bool              // not streamed
	header map[string]string // more headers
	on     func(frame int)   // is told of every frame, from 1
}

// reply is an answer as its client saw it.
type reply struct {
	status   int
	node     string
	attempts int
	text     string
	done     bool
	failure  string // an error in the dialect
	err      error  // how the body, or the request, ended
	frames   int
	header   http.Header
	took     time.Duration
	gap      time.Duration // longest silence between two frames
}

// perfect reports, by nil, whether it is one whole answer of so many tokens.
func (r reply) perfect(tokens int) error {
	switch {
	case r.err != nil:
		return fmt.Errorf("status %d: %w", r.status, r.err)
	case r.status != http.StatusOK || r.failure != "":
		return fmt.Errorf("status %d: %s", r.status, r.failure)
	case !r.done:
		return errors.New("a clean end without done")
	}
	return ollamatest.Verify(r.text, tokens)
}

// broken reports, by nil, whether it ended in an error of its dialect and not
// as if it were whole.
func (r reply) broken() error {
	switch {
	case r.done:
		return errors.New("it looks whole")
	case r.failure == "":
		return fmt.Errorf("no error in its dialect: status %d, %w", r.status, r.err)
	case r.status == http.StatusOK && r.err == nil:
		return errors.New("the connection ends cleanly")
	}
	return nil
}

func (r reply) String() string {
	return fmt.Sprintf("status %d from %q in %d attempts, done=%v, %d frames, failure %q, err %v, text %.60q",
		r.status, r.node, r.attempts, r.done, r.frames, r.failure, r.err, r.text)
}

// ask sends q to /api/generate and reads the answer to its end.
func (s *scene) ask(q question) reply { return s.askCtx(s.ctx, q) }

func (s *scene) askCtx(ctx context.Context, q question) (r reply) {
	start := time.Now()
	defer func() { r.took = time.Since(start) }()
	body, err := json.Marshal(map[string]any{
		"model": q.model, "prompt": "why is the sky blue", "stream": !q.whole,
		"options": map[string]any{"num_predict": q.tokens, "temperature": 0},
	})
	if err != nil {
		return reply{err: err}
	}
	header := map[string]string{}
	maps.Copy(header, q.header)
	if q.id != "" {
		header[ollamatest.HeaderTestID], header[ollamatest.HeaderRequestID] = q.id, q.id
	}
	resp, err := s.post(ctx, q.from, q.to, "/api/generate", bytes.NewReader(body), header)
	if err != nil {
		return reply{err: err}
	}
	defer resp.Body.Close()
	r = reply{status: resp.StatusCode, node: resp.Header.Get("X-Kage-Node"), header: resp.Header}
	r.attempts, _ = strconv.Atoi(resp.Header.Get("X-Kage-Attempts"))
	r.read(resp.Body, q.on)
	return r
}

// post sends a body to a host's API from another one, or from itself.
func (s *scene) post(ctx context.Context, from *lab.Node, to *host, path string, body io.Reader, header map[string]string) (*http.Response, error) {
	address := to.IP().String()
	if from == nil {
		from, address = to.Node, "127.0.0.1"
	}
	if strings.Contains(address, ":") {
		address = "[" + address + "]"
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+address+":11435"+path, body)
	if err != nil {
		return nil, err
	}
	for k, v := range header {
		req.Header.Set(k, v)
	}
	return from.HTTPClient().Do(req)
}

func (r *reply) read(body io.Reader, on func(int)) {
	in := bufio.NewReaderSize(body, 64<<10)
	last := time.Now()
	for {
		line, err := in.ReadBytes('\n')
		if line = bytes.TrimSpace(line); len(line) > 0 {
			var frame struct {
				Response string `json:"response"`
				Done     bool   `json:"done"`
				Error    string `json:"error"`
			}
			if jerr := json.Unmarshal(line, &frame); jerr != nil && r.err == nil {
				r.err = fmt.Errorf("frame %.80q: %w", line, jerr)
			}
			r.frames++
			r.gap, last = max(r.gap, time.Since(last)), time.Now()
			r.text += frame.Response
			r.done = r.done || frame.Done
			if frame.Error != "" {
				r.failure = frame.Error
			}
			if on != nil {
				on(r.frames)
			}
		}
		if err != nil {
			if err != io.EOF {
				r.err = err
			}
			return
		}
	}
}

// crowd is many questions at once.
type crowd struct {
	s       *scene
	replies []reply
	wait    sync.WaitGroup
	flowing chan struct{}
}

// gather asks n questions at once, each made by make.
func (s *scene) gather(n int, make_ func(i int) question) *crowd {
	c := &crowd{s: s, replies: make([]reply, n), flowing: make(chan struct{}, n)}
	for i := range n {
		q := make_(i)
		begun := sync.OnceFunc(func() { c.flowing <- struct{}{} })
		on := q.on
		q.on = func(frame int) {
			begun()
			if on != nil {
				on(frame)
			}
		}
		c.wait.Go(func() {
			defer begun()
			c.replies[i] = s.ask(q)
		})
	}
	return c
}

// begun waits until every answer flows, or has ended.
func (c *crowd) begun() {
	c.s.Helper()
	for i := range c.replies {
		select {
		case <-c.flowing:
		case <-c.s.ctx.Done():
			c.s.Fatalf("%d of %d answers flow", i, len(c.replies))
		}
	}
}

// perfect waits for all answers and counts those that are whole; it fails the
// case with the first few that are not.
func (c *crowd) perfect(tokens int) int {
	c.s.Helper()
	c.wait.Wait()
	good := 0
	for i, r := range c.replies {
		if err := r.perfect(tokens); err == nil {
			good++
		} else if i-good < 3 {
			c.s.Errorf("answer %d: %v (%v)", i, err, r)
		}
	}
	return good
}

// running is how many requests the fakes of these hosts run now.
func running(hosts ...*host) int {
	n := 0
	for _, h := range hosts {
		if h.fake != nil {
			n += h.fake.Stats().Running
		}
	}
	return n
}

// executed is how often work was begun on a request, over all fakes.
func executed(id string, hosts ...*host) int {
	n := 0
	for _, h := range hosts {
		if h.fake != nil {
			n += h.fake.Stats().Executions[id]
		}
	}
	return n
}

// holder is the host whose fake runs a request now.
func holder(hosts ...*host) *host {
	for _, h := range hosts {
		if running(h) > 0 {
			return h
		}
	}
	return nil
}

// named is the host of that name.
func (s *scene) named(name string) *host {
	s.Helper()
	for _, h := range s.hosts[1:] {
		if h.Name == name {
			return h
		}
	}
	s.Fatalf("no host is called %q", name)
	return nil
}

// guardedDoors are the hosts that clients may ask.
type guardedDoors struct {
	mu   sync.Mutex
	open map[int]bool
}

func (d *guardedDoors) set(i int, open bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.open[i] = open
}

// pick is an open door, another one for the next n.
func (d *guardedDoors) pick(n int) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	for ; ; n++ {
		if i := 1 + n%len(d.open); d.open[i] {
			return i
		}
	}
}
