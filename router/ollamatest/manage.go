package ollamatest

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"regexp"
	"strings"
	"time"
)

// progress reports a long operation, streamed line by line or only its end.
type progress struct {
	call   *call
	stream bool
	flush  func() error
}

// status is one line of progress.
type status struct {
	Status    string `json:"status"`
	Digest    string `json:"digest,omitempty"`
	Total     int64  `json:"total,omitempty"`
	Completed int64  `json:"completed,omitempty"`
}

// manageRequest is the body of the routes that change what is installed.
type manageRequest struct {
	Model       string            `json:"model"`
	Name        string            `json:"name"`
	Stream      *bool             `json:"stream"`
	Source      string            `json:"source"`
	Destination string            `json:"destination"`
	From        string            `json:"from"`
	Files       map[string]string `json:"files"`
	System      string            `json:"system"`
	Template    string            `json:"template"`
	Parameters  map[string]any    `json:"parameters"`
}

func (r manageRequest) model() string { return cmp.Or(r.Model, r.Name) }

// progress starts the report.
func (c *call) progress(r manageRequest) *progress {
	p := &progress{call: c, stream: r.Stream == nil || *r.Stream, flush: http.NewResponseController(c.w).Flush}
	kind := "application/json"
	if p.stream {
		kind = "application/x-ndjson"
	}
	c.w.Header().Set("Content-Type", kind)
	return p
}

// say reports a step; it is not shown if only the end is wanted.
func (p *progress) say(s status) error {
	if err := p.call.ctx.Err(); err != nil {
		return err
	}
	if p.stream {
		p.line(appendJSON(nil, s))
	}
	return nil
}

func (p *progress) line(b []byte) {
	p.call.s.frost.wait(p.call.life)
	p.call.w.Write(append(b, '\n'))
	_ = p.flush() // a client that has gone shows in the context
}

// end reports the result.
func (p *progress) end(err error) {
	switch {
	case p.call.killed():
		panic(http.ErrAbortHandler)
	case p.call.ctx.Err() != nil:
	case err == nil && p.stream:
		p.line(appendJSON(nil, status{Status: "success"}))
	case err == nil:
		p.call.w.Write(appendJSON(nil, status{Status: "success"}))
	case p.stream:
		_, text := asStatus(err)
		p.line(errorLine(text))
	default:
		code, text := asStatus(err)
		p.call.w.WriteHeader(code)
		p.call.w.Write(errorLine(text))
	}
}

// pull serves /api/pull: it installs a model of [Config.Catalog].
func (c *call) pull() {
	var req manageRequest
	if !c.decodeOr(&req, "PullRequest") {
		return
	}
	name := parseName(req.model())
	if !name.valid() {
		c.fail(http.StatusBadRequest, errModelName.Error())
		return
	}
	p := c.progress(req)
	p.end(c.pullModel(p, name))
}

func (c *call) pullModel(p *progress, name modelName) error {
	if err := p.say(status{Status: "pulling manifest"}); err != nil {
		return err
	}
	cat := c.s.catalog
	cat.mu.Lock()
	m, ok := cat.registry[name.key()]
	cat.mu.Unlock()
	if !ok {
		return errors.New("pull model manifest: file does not exist")
	}
	m.Modified = time.Time{} // now
	m = m.withDefaults(time.Now())
	if err := c.download(p, m); err != nil {
		return err
	}
	for _, step := range []string{"verifying sha256 digest", "writing manifest"} {
		if err := p.say(status{Status: step}); err != nil {
			return err
		}
	}
	return cat.install(m, time.Now())
}

// download reports the transfer of the weights, about ten times a second. An
// aborted transfer is resumed by the next.
func (c *call) download(p *progress, m Model) error {
	cat := c.s.catalog
	step := status{Status: "pulling " + m.Weights[:12], Digest: "sha256:" + m.Weights, Total: m.Size}
	if _, here := cat.blob(step.Digest); here {
		step.Completed = m.Size
		return p.say(step)
	}
	cat.mu.Lock()
	step.Completed = cat.partial[step.Digest]
	cat.mu.Unlock()
	for {
		if err := p.say(step); err != nil || step.Completed >= m.Size {
			return err
		}
		more := m.Size
		if rate := c.s.cfg.PullRate * c.s.cfg.Speed; rate > 0 {
			c.sleep(100 * time.Millisecond)
			more = int64(rate / 10)
		}
		step.Completed = min(step.Completed+more, m.Size)
		cat.mu.Lock()
		cat.partial[step.Digest] = step.Completed
		if step.Completed == m.Size {
			delete(cat.partial, step.Digest)
		}
		cat.mu.Unlock()
	}
}

// push serves /api/push; the registry accepts everything.
func (c *call) push() {
	var req manageRequest
	if !c.decodeOr(&req, "PushRequest") {
		return
	}
	if req.model() == "" {
		c.fail(http.StatusBadRequest, "model is required")
		return
	}
	p := c.progress(req)
	steps := []status{{Status: "retrieving manifest"}}
	e, err := c.s.catalog.find(req.model())
	if err != nil {
		steps = append(steps, status{Status: "couldn't retrieve manifest"})
		err = errors.New("file does not exist")
	} else {
		steps = append(steps,
			status{Status: "pushing " + e.Weights[:12], Digest: "sha256:" + e.Weights, Total: e.Size, Completed: e.Size},
			status{Status: "pushing manifest"})
	}
	for _, s := range steps {
		if gone := p.say(s); gone != nil {
			err = gone
			break
		}
	}
	p.end(err)
}

// create serves /api/create, from an installed model or from an uploaded blob.
func (c *call) create() {
	var req manageRequest
	if !c.decodeOr(&req, "CreateRequest") {
		return
	}
	name := parseName(req.model())
	if !name.valid() {
		c.fail(http.StatusBadRequest, errModelName.Error())
		return
	}
	p := c.progress(req)
	p.end(c.createModel(p, req, name))
}

func (c *call) createModel(p *progress, req manageRequest, name modelName) error {
	m := Model{}
	switch {
	case req.From != "":
		e, err := c.s.catalog.find(req.From)
		if err != nil { // Ollama would try to pull it
			from := parseName(req.From)
			if err := c.pullModel(p, from); err != nil {
				return err
			}
			if e, err = c.s.catalog.find(req.From); err != nil {
				return err
			}
		}
		m = e.Model
	case len(req.Files) > 0:
		if err := p.say(status{Status: "parsing GGUF"}); err != nil {
			return err
		}
		for _, digest := range req.Files {
			size, ok := c.s.catalog.blob(digest)
			if !ok {
				return fmt.Errorf("open %s: no such file or directory", blobPath(strings.TrimPrefix(digest, "sha256:")))
			}
			m.Size += size
			m.Weights = strings.TrimPrefix(digest, "sha256:")
		}
	default:
		return &statusError{http.StatusBadRequest, "neither 'from' or 'files' was specified"}
	}
	m.Name, m.Digest, m.Modified = name.short(), "", time.Time{}
	m.System, m.Template = cmp.Or(req.System, m.System), cmp.Or(req.Template, m.Template)
	m.Options = mergeOptions(m.Options, req.Parameters)
	for _, line := range []string{"using existing layer sha256:" + m.Weights, "writing manifest"} {
		if err := p.say(status{Status: line}); err != nil {
			return err
		}
	}
	if err := c.s.catalog.install(m, time.Now()); err != nil {
		return &statusError{http.StatusBadRequest, "template error: " + err.Error()}
	}
	return nil
}

func mergeOptions(a, b map[string]any) map[string]any {
	out := make(map[string]any, len(a)+len(b))
	maps.Copy(out, a)
	maps.Copy(out, b)
	return out
}

// copyModel serves /api/copy.
func (c *call) copyModel() {
	var req manageRequest
	if !c.decodeOr(&req, "CopyRequest") {
		return
	}
	destination := parseName(req.Destination)
	switch {
	case !parseName(req.Source).valid():
		c.fail(http.StatusBadRequest, fmt.Sprintf("source %q is invalid", req.Source))
		return
	case !destination.valid():
		c.fail(http.StatusBadRequest, fmt.Sprintf("destination %q is invalid", req.Destination))
		return
	}
	e, err := c.s.catalog.find(req.Source)
	if err != nil {
		c.fail(http.StatusNotFound, fmt.Sprintf("model %q not found", req.Source))
		return
	}
	m := e.Model // the same manifest, so the same digest
	m.Name, m.Modified = destination.short(), time.Time{}
	if err := c.s.catalog.install(m, time.Now()); err != nil {
		c.fail(http.StatusInternalServerError, err.Error())
	}
}

// deleteModel serves /api/delete. A loaded runner of the model stays.
func (c *call) deleteModel() {
	var req manageRequest
	if !c.decodeOr(&req, "DeleteRequest") {
		return
	}
	name := req.model()
	switch {
	case !parseName(name).valid():
		c.fail(http.StatusBadRequest, fmt.Sprintf("name %q is invalid", name))
	case !c.s.catalog.remove(name):
		c.fail(http.StatusNotFound, fmt.Sprintf("model '%s' not found", name))
	}
}

var digestPattern = regexp.MustCompile(`^sha256[:-][0-9a-fA-F]{64}$`)

// blob serves HEAD and POST /api/blobs/{digest}.
func (c *call) blob() {
	if !digestPattern.MatchString(c.arg) {
		c.fail(http.StatusBadRequest, "invalid digest format")
		return
	}
	_, here := c.s.catalog.blob(c.arg)
	if c.r.Method == http.MethodHead {
		if !here {
			c.fail(http.StatusNotFound, fmt.Sprintf("blob %q not found", c.arg))
		}
		return
	}
	if here {
		return
	}
	h := sha256.New()
	size, err := io.Copy(h, c.r.Body)
	if err != nil {
		c.fail(http.StatusInternalServerError, err.Error())
		return
	}
	if got := "sha256:" + hex.EncodeToString(h.Sum(nil)); got != c.arg {
		c.fail(http.StatusBadRequest, fmt.Sprintf("digest mismatch, expected %q, got %q", c.arg, got))
		return
	}
	c.s.catalog.addBlob(c.arg, size)
	c.w.WriteHeader(http.StatusCreated)
}
