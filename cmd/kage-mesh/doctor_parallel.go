package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/cmd/kage-mesh/doctor"
)

// How much each node is asked for: a few tokens that load the model and time
// it, then as many as take it about measureFor, so that nodes of different
// speed work for the same time.
const (
	firstTokens = 16
	measureFor  = 4 * time.Second
	leastTokens = 16
	mostTokens  = 512
	measureWait = 10 * time.Minute // a cold load of a large model from a slow disk
)

// measure runs one small request on every node, each alone, then all at once.
func (e environment) measure(ctx context.Context, base string, runners []doctor.Runner) []doctor.Rate {
	ctx, cancel := context.WithTimeout(ctx, measureWait)
	defer cancel()
	rates := make([]doctor.Rate, len(runners))
	tokens := make([]int, len(runners))
	for i, r := range runners {
		fmt.Fprintf(e.stderr, "measuring %s (%s)\n", r.Node, r.Model)
		rates[i].Runner = r
		var first float64
		var err error
		for range 2 { // the first one loads the model
			if first, err = generate(ctx, base, r, firstTokens); err != nil {
				break
			}
		}
		if err == nil {
			tokens[i] = min(max(int(first*measureFor.Seconds()), leastTokens), mostTokens)
			rates[i].Alone, err = generate(ctx, base, r, tokens[i])
		}
		if err != nil {
			rates[i].Error = err.Error()
		}
	}
	fmt.Fprintf(e.stderr, "measuring %s at once\n", plural(len(runners), "node"))
	var wg sync.WaitGroup
	for i := range rates {
		if rates[i].Error != "" {
			continue
		}
		wg.Go(func() {
			var err error
			if rates[i].Together, err = generate(ctx, base, rates[i].Runner, tokens[i]); err != nil {
				rates[i].Error = err.Error()
			}
		})
	}
	wg.Wait()
	return rates
}

// generate has one node make n tokens and returns its tokens per second, by our
// own clock and over the whole request.
func generate(ctx context.Context, base string, r doctor.Runner, n int) (float64, error) {
	var answer struct {
		Count int    `json:"eval_count"`
		Error string `json:"error"`
	}
	start := time.Now()
	_, err := endpoint{base}.call(ctx, http.MethodPost, "/api/generate", r.Node, map[string]any{
		"model": r.Model, "prompt": "Count in words, from one upwards, without end.", "stream": false,
		"options": map[string]any{"num_predict": n, "temperature": 0, "seed": 1},
	}, func(line []byte) error { return json.Unmarshal(line, &answer) })
	switch {
	case err != nil:
		return 0, err
	case answer.Error != "":
		return 0, errors.New(answer.Error)
	case answer.Count == 0:
		return 0, errors.New("it made no token")
	}
	return float64(answer.Count) / time.Since(start).Seconds(), nil
}
