package main

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

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/admin"
)

// endpoint is the node's own Ollama API, as any client of Ollama uses it.
type endpoint struct{ base string }

// call sends a request and hands out the lines of its answer. node says which
// nodes it is for, "" leaves that to the mesh. The answer's X-Kage-Node is who
// did it.
func (p endpoint) call(ctx context.Context, method, path, node string, body any, line func([]byte) error) (by string, err error) {
	text, err := json.Marshal(body)
	if err != nil {
		return "", err
	}
	req, err := http.NewRequestWithContext(ctx, method, strings.TrimSuffix(p.base, "/")+path, bytes.NewReader(text))
	if err != nil {
		return "", err
	}
	req.Header.Set("Content-Type", "application/json")
	if node != "" {
		req.Header.Set("X-Kage-Node", node)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		if ctx.Err() != nil {
			return "", ctx.Err()
		}
		return "", adminError(fmt.Errorf("%w at %s: %w", admin.ErrNotRunning, p.base, err))
	}
	defer resp.Body.Close()
	by = resp.Header.Get("X-Kage-Node")
	if resp.StatusCode != http.StatusOK {
		text, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
		if err != nil {
			return by, err
		}
		return by, errors.New(refusal(text, resp.Status))
	}
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, 8<<20)
	for lines.Scan() {
		if line == nil {
			continue
		}
		if err := line(lines.Bytes()); err != nil {
			return by, err
		}
	}
	return by, lines.Err()
}

// refusal is what an error answer says.
func refusal(body []byte, status string) string {
	var e struct {
		Error string `json:"error"`
	}
	if json.Unmarshal(body, &e) == nil && e.Error != "" {
		return e.Error
	}
	return "the node answers " + status
}
