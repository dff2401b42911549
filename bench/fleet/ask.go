package fleet

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/ollamatest"
)

// Answer is what a client got for one request.
type Answer struct {
	Node     string // who answered
	Attempts int
	Tokens   int
	Took     time.Duration
	Err      error // also when the text has lost, doubled or mixed tokens
}

// Ask sends one prompt to /api/generate and checks that the answer is whole:
// the fake Ollama numbers its tokens.
func Ask(ctx context.Context, endpoint, model, prompt string, tokens int, stream bool) Answer {
	start := time.Now()
	a := ask(ctx, endpoint, model, prompt, tokens, stream)
	a.Took = time.Since(start)
	return a
}

func ask(ctx context.Context, endpoint, model, prompt string, tokens int, stream bool) Answer {
	a, body := post(ctx, endpoint+"/api/generate", map[string]any{
		"model": model, "prompt": prompt, "stream": stream,
		"options": map[string]any{"num_predict": tokens, "temperature": 0},
	})
	if a.Err != nil {
		return a
	}
	defer body.Close()
	text, done, err := readAnswer(body)
	switch {
	case err != nil:
		a.Err = err
	case !done:
		a.Err = io.ErrUnexpectedEOF
	default:
		a.Tokens, a.Err = whole(text, tokens)
	}
	return a
}

// Embed sends one text to /api/embed and checks that one vector comes back.
func Embed(ctx context.Context, endpoint, model, text string) Answer {
	start := time.Now()
	a, body := post(ctx, endpoint+"/api/embed", map[string]any{"model": model, "input": text})
	if a.Err != nil {
		return a
	}
	defer body.Close()
	var reply struct {
		Embeddings [][]float64 `json:"embeddings"`
	}
	if a.Err = json.NewDecoder(body).Decode(&reply); a.Err == nil && (len(reply.Embeddings) != 1 || len(reply.Embeddings[0]) == 0) {
		a.Err = errors.New("fleet: no embedding in the answer")
	}
	a.Took = time.Since(start)
	return a
}

// post sends one request; a.Err == nil: the caller closes the body.
func post(ctx context.Context, url string, fields map[string]any) (a Answer, body io.ReadCloser) {
	data, err := json.Marshal(fields)
	if err != nil {
		a.Err = err
		return a, nil
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(data))
	if err != nil {
		a.Err = err
		return a, nil
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		a.Err = err
		return a, nil
	}
	a.Node = resp.Header.Get("X-Kage-Node")
	a.Attempts, _ = strconv.Atoi(resp.Header.Get("X-Kage-Attempts"))
	if resp.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 4096))
		_ = resp.Body.Close()
		a.Err = fmt.Errorf("%s: %s", resp.Status, bytes.TrimSpace(text))
		return a, nil
	}
	return a, resp.Body
}

// readAnswer joins the text of an answer, in one piece or in NDJSON lines.
func readAnswer(r io.Reader) (text string, done bool, err error) {
	dec := json.NewDecoder(r)
	for {
		var line struct {
			Response string `json:"response"`
			Done     bool   `json:"done"`
			Error    string `json:"error"`
		}
		switch err := dec.Decode(&line); {
		case err == io.EOF:
			return text, done, nil
		case err != nil:
			return text, done, err
		case line.Error != "":
			return text, done, fmt.Errorf("in the stream: %s", line.Error)
		}
		text += line.Response
		done = done || line.Done
	}
}

// whole counts the tokens of a numbered text and checks that none is missing,
// doubled or out of order.
func whole(text string, want int) (int, error) {
	a, err := ollamatest.Parse(text)
	if err == nil && a.Tokens != want {
		err = fmt.Errorf("%d tokens instead of %d", a.Tokens, want)
	}
	return a.Tokens, err
}
