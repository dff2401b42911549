// Package survey measures a running mesh through its client port, model by
// model and node by node, with ordinary requests that name their node. What a
// node measures of them goes into its reports, and so into placement, as with
// every other answer.
package survey

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"
)

// Plan is what is measured.
type Plan struct {
	API      string // base URL of any node's client port
	Targets  []Target
	Tokens   int // of each answer
	Prompt   int // words of each prompt
	Parallel int // requests at once for the speed-up; 1: none is measured
	// Each, if set, is told when the measuring of a target begins (nil) and ends.
	Each func(i int, t Target, r *Result)
	HTTP *http.Client // nil: one without a time limit
}

// Target is a model on a node.
type Target struct {
	Node  string `json:"node"`
	Model string `json:"model"`
}

// Result is what was measured of a target. Rates are tokens per second as
// Ollama counts them; 0 means that it did not say.
type Result struct {
	Target
	Cold     time.Duration `json:"cold_ns"`  // to load the model, 0 when it was in memory
	TTFT     time.Duration `json:"ttft_ns"`  // to the first token, once loaded
	Prefill  float64       `json:"prefill"`  // prompt
	Decode   float64       `json:"decode"`   // answer
	Together float64       `json:"together"` // of all requests at once
	SpeedUp  float64       `json:"speed_up"` // Together over one request's, both by this machine's clock
	Parallel int           `json:"parallel"`
	Error    string        `json:"error,omitempty"`
}

// Run measures one target after the other; it stops early when ctx ends. A
// target that fails has its Error, and the others go on.
func Run(ctx context.Context, p Plan) ([]Result, error) {
	results := make([]Result, 0, len(p.Targets))
	for i, t := range p.Targets {
		if ctx.Err() != nil {
			return results, context.Cause(ctx)
		}
		if p.Each != nil {
			p.Each(i, t, nil)
		}
		r := Result{Target: t, Parallel: p.Parallel}
		if err := p.measure(ctx, &r); err != nil {
			if ctx.Err() != nil {
				return results, context.Cause(ctx)
			}
			r.Error = err.Error()
		}
		results = append(results, r)
		if p.Each != nil {
			p.Each(i, t, &r)
		}
	}
	return results, nil
}

func (p *Plan) measure(ctx context.Context, r *Result) error {
	load, err := p.ask(ctx, r.Target, 1, "load")
	if err != nil {
		return err
	}
	if load.LoadDuration > 100*time.Millisecond { // less is the look that it is there
		r.Cold = load.LoadDuration
	}
	alone, err := p.ask(ctx, r.Target, p.Tokens, "alone")
	if err != nil {
		return err
	}
	r.TTFT, r.Prefill, r.Decode = alone.first, alone.prefill(), alone.decode()
	if p.Parallel < 2 {
		return nil
	}
	answers, errs := make([]answer, p.Parallel), make([]error, p.Parallel)
	var wg sync.WaitGroup
	start := time.Now()
	for i := range p.Parallel {
		wg.Go(func() { answers[i], errs[i] = p.ask(ctx, r.Target, p.Tokens, fmt.Sprint("beside ", i)) })
	}
	wg.Wait()
	took, tokens := time.Since(start).Seconds(), 0
	for _, a := range answers {
		tokens += a.EvalCount
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	if one := float64(alone.EvalCount) / alone.took.Seconds(); one > 0 && took > 0 {
		r.Together = float64(tokens) / took
		r.SpeedUp = r.Together / one
	}
	return nil
}

// answer is what one request brought.
type answer struct {
	EvalCount    int           `json:"eval_count"`
	EvalDuration time.Duration `json:"eval_duration"`
	PromptCount  int           `json:"prompt_eval_count"`
	PromptTook   time.Duration `json:"prompt_eval_duration"`
	LoadDuration time.Duration `json:"load_duration"`

	first, took time.Duration
}

func (a *answer) decode() float64  { return rate(a.EvalCount, a.EvalDuration) }
func (a *answer) prefill() float64 { return rate(a.PromptCount, a.PromptTook) }

func rate(n int, took time.Duration) float64 {
	if took <= 0 {
		return 0
	}
	return float64(n) / took.Seconds()
}

// ask sends one request to the target's node. Each prompt begins with other
// words, so that no cache has it.
func (p *Plan) ask(ctx context.Context, t Target, tokens int, salt string) (a answer, err error) {
	body, err := json.Marshal(map[string]any{
		"model": t.Model, "stream": true, "prompt": prompt(salt, p.Prompt),
		"options": map[string]any{"num_predict": tokens, "temperature": 0},
	})
	if err != nil {
		return a, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, strings.TrimSuffix(p.API, "/")+"/api/generate", bytes.NewReader(body))
	if err != nil {
		return a, err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("X-Kage-Node", t.Node)
	client := p.HTTP
	if client == nil {
		client = &http.Client{}
	}
	start := time.Now()
	resp, err := client.Do(req)
	if err != nil {
		return a, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 4<<10)) // what there is
		return a, fmt.Errorf("%s: %s", resp.Status, said(text))
	}
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		var line struct {
			answer
			Done  bool   `json:"done"`
			Error string `json:"error"`
		}
		if err := json.Unmarshal(lines.Bytes(), &line); err != nil {
			return a, fmt.Errorf("survey: read the answer: %w", err)
		}
		if a.first == 0 {
			a.first = time.Since(start)
		}
		switch {
		case line.Error != "":
			return a, errors.New(line.Error)
		case line.Done:
			first := a.first
			a = line.answer
			a.first, a.took = first, time.Since(start)
			return a, nil
		}
	}
	return a, errors.Join(io.ErrUnexpectedEOF, lines.Err())
}

// said is the error that an answer's body tells.
func said(body []byte) string {
	var v struct {
		Error string `json:"error"`
	}
	if json.Unmarshal(body, &v) == nil && v.Error != "" {
		return v.Error
	}
	return strings.TrimSpace(string(body))
}

func prompt(salt string, words int) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %d. Tell a long story about", salt, time.Now().UnixNano())
	for i := range words {
		fmt.Fprintf(&b, " %s", [...]string{"rivers", "mountains", "lanterns", "winter", "sailors", "bread", "clocks"}[i%7])
	}
	return b.String()
}
