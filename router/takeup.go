package router

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/render"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/wire"
)

// ContinuePath is where an owner takes up an answer that another began: a POST
// of a takeup, answered by the lines of its Ollama's /api/generate. It is a
// forward like others: admitted at the gate, with signs of life before.
const ContinuePath = ForwardPath + "/continue"

// Why an owner does not take an answer up, in headerRefused.
const (
	RefusedCannot   = "cannot-continue" // not this one, or not here
	RefusedFinished = "finished"        // nothing of it is missing
)

// takeup is an answer to go on with: the request and what came of it.
type takeup struct {
	Kind     string          `json:"kind"`
	Request  json.RawMessage `json:"request"` // the caller's body, untouched
	Text     string          `json:"text"`
	Thinking string          `json:"thinking,omitzero"`
	Tokens   int             `json:"tokens"`          // of both
	Ollama   string          `json:"ollama,omitzero"` // version of the Ollama that began, "" unknown
}

// takeupSlack is how much larger than a request's body a takeup may be: the
// text so far, escaped.
const takeupSlack = 6*maxStory + 4096

// Why an answer is not taken up here.
var (
	errCannot   = errors.New("router: cannot continue this answer")
	errFinished = errors.New("router: nothing of the answer is missing")
)

// prepare makes the request to the local Ollama that goes on with t. It runs
// inside the gate: the question for the prompt may load the model.
//
// closing is the tag that ends the thinking, see [render.Model.Resume].
func (r *Router) prepare(ctx context.Context, t *takeup) (body []byte, closing string, err error) {
	q, err := render.Read(kindOf(t.Kind), t.Request)
	if err != nil {
		return nil, "", fmt.Errorf("%w: %w", errCannot, err)
	}
	model, err := r.showModel(ctx, q.Model)
	if err != nil {
		return nil, "", err
	}
	remaining := -1
	if limit, ok := q.Limit(model); ok {
		if remaining = limit - t.Tokens; remaining <= 0 {
			return nil, "", errFinished // num_predict 0 would mean without limit
		}
	}
	prompt, err := r.prompt(ctx, q, model)
	if err != nil {
		return nil, "", err
	}
	prompt, closing, err = model.Resume(prompt, t.Text, t.Thinking)
	if err != nil {
		return nil, "", fmt.Errorf("%w: %w", errCannot, err)
	}
	body, err = q.Continue(prompt, remaining, pinned(q, model, t.Ollama, r.ollamaVersion()))
	return body, closing, err
}

func kindOf(name string) wire.Kind {
	for k := wire.Generate; k <= wire.V1Transcriptions; k++ {
		if k.String() == name {
			return k
		}
	}
	return wire.NoKind
}

// showModel asks the local Ollama what a model is, once for each version of it.
func (r *Router) showModel(ctx context.Context, name string) (*render.Model, error) {
	key := r.describedKey(name)
	if m := r.described.get(key); m != nil {
		return m, nil
	}
	question, err := json.Marshal(map[string]string{"model": name, "name": name})
	if err != nil {
		return nil, err
	}
	answer, err := r.askOllama(ctx, "/api/show", question)
	if err != nil {
		return nil, err
	}
	model, err := render.ParseModel(answer)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errCannot, err)
	}
	if key != "" {
		r.described.put(key, model)
	}
	return model, nil
}

// askLimit bounds answers about a model: a tokenizer's vocabulary is not among
// them.
const askLimit = 32 << 20

// askOllama puts a question to the local Ollama. An answer that is an error
// means that this request cannot be continued here.
func (r *Router) askOllama(ctx context.Context, path string, body []byte) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := r.backend.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, askLimit))
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%w: ollama answered %d to %s", errCannot, resp.StatusCode, path)
	}
	return answer, nil
}

// prompt is what the local Ollama gives to the model for q: as it says itself,
// or else as it would do by our own rendering.
func (r *Router) prompt(ctx context.Context, q *render.Request, m *render.Model) (string, error) {
	if q.Raw {
		return q.Prompt, nil
	}
	if version := r.ollamaVersion(); r.tells.worthAsking(version) {
		path, body, err := q.Asks()
		if err != nil {
			return "", err
		}
		answer, err := r.askOllama(ctx, path, body)
		if err != nil {
			return "", err
		}
		prompt, ok := render.Told(answer)
		r.tells.learn(version, ok)
		if ok {
			return prompt, nil
		}
	}
	prompt, err := m.Prompt(q)
	if err != nil {
		return "", fmt.Errorf("%w: %w", errCannot, err)
	}
	return prompt, nil
}

// tells remembers whether the local Ollama says what prompt it renders: known
// by its version, else, for a build without one, by having asked it.
type tells struct {
	refused atomic.Pointer[string] // the version that did not know the question
}

// worthAsking: 0.11.5 was the first to know.
func (t *tells) worthAsking(version string) bool {
	n, _ := versionNumbers(version)
	if n == [3]int{} {
		last := t.refused.Load()
		return last == nil || *last != version
	}
	return compareVersions(fmt.Sprintf("%d.%d.%d", n[0], n[1], n[2]), "0.11.5") >= 0
}

func (t *tells) learn(version string, ok bool) {
	if !ok {
		t.refused.Store(&version)
	}
}

// ollamaVersion is what the local Ollama says of itself.
func (r *Router) ollamaVersion() string {
	self := r.mesh.View().Self()
	if self == nil {
		return ""
	}
	return self.Info.Ollama
}

// penalty is the repeat_penalty of an Ollama where nobody sets it: 1.1 in 0.9.6
// and 0.11.4, 1.0 in 0.33 (measured: the other value changes every answer).
// The change came with the new engine of 0.30. 0 is unknown.
func penalty(version string) float64 {
	n, _ := versionNumbers(version)
	switch {
	case n == [3]int{}:
		return 0
	case n[0] == 0 && n[1] < 30:
		return 1.1
	}
	return 1
}

// pinned are options whose defaults differ between the Ollama that began an
// answer and the one that goes on, at the value that the first one used.
func pinned(q *render.Request, m *render.Model, began, own string) map[string]float64 {
	was, is := penalty(began), penalty(own)
	if was == 0 || is == 0 || was == is || q.Sets(m, "repeat_penalty") {
		return nil
	}
	return map[string]float64{"repeat_penalty": was}
}

// readTakeup reads a takeup that another node sent, bounded.
func (r *Router) readTakeup(body io.Reader) (*takeup, error) {
	limit := r.maxBody.Load() + takeupSlack
	data, err := io.ReadAll(io.LimitReader(body, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("%w: it is too large", errCannot)
	}
	var t takeup
	if err := json.Unmarshal(data, &t); err != nil {
		return nil, fmt.Errorf("%w: %w", errCannot, err)
	}
	return &t, nil
}

// generateRoute is the route that a takeup is run by.
func generateRoute() wire.Route {
	route, _, _ := wire.Lookup(http.MethodPost, "/api/generate")
	return route
}

// isTakeup tells a takeup from a forwarded request.
func isTakeup(path string) bool { return strings.TrimSuffix(path, "/") == ContinuePath }
