package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// ErrNotRunning says that no node answers at the address.
var ErrNotRunning = errors.New("no kage-mesh node answers")

// Client talks to the node at Base, "http://127.0.0.1:11435".
type Client struct {
	Base string
	HTTP *http.Client // nil: one with a limit of 5 s
}

// Members asks for /mesh/v1/members.
func (c Client) Members(ctx context.Context) (Members, error) {
	var m Members
	return m, c.call(ctx, http.MethodGet, "members", &m)
}

// Status asks for /mesh/v1/status.
func (c Client) Status(ctx context.Context) (Status, error) {
	var s Status
	return s, c.call(ctx, http.MethodGet, "status", &s)
}

// Models asks for /mesh/v1/models.
func (c Client) Models(ctx context.Context) (Models, error) {
	var m Models
	return m, c.call(ctx, http.MethodGet, "models", &m)
}

// Identity asks for /mesh/v1/id.
func (c Client) Identity(ctx context.Context) (Identity, error) {
	var id Identity
	return id, c.call(ctx, http.MethodGet, "id", &id)
}

// Explain asks for /mesh/v1/explain.
func (c Client) Explain(ctx context.Context, q Question) (Explanation, error) {
	var e Explanation
	return e, c.call(ctx, http.MethodGet, "explain?"+q.query().Encode(), &e)
}

// Requests asks for /mesh/v1/requests.
func (c Client) Requests(ctx context.Context) (Requests, error) {
	var r Requests
	return r, c.call(ctx, http.MethodGet, "requests", &r)
}

// Leave tells the node to leave the mesh and stop.
func (c Client) Leave(ctx context.Context) error {
	return c.call(ctx, http.MethodPost, "leave", nil)
}

// post sends a document and reads one.
func (c Client) post(ctx context.Context, route string, in, out any) error {
	body, err := json.Marshal(in)
	if err != nil {
		return err
	}
	return c.send(ctx, http.MethodPost, route, bytes.NewReader(body), out)
}

func (c Client) call(ctx context.Context, method, route string, out any) error {
	return c.send(ctx, method, route, nil, out)
}

func (c Client) send(ctx context.Context, method, route string, body io.Reader, out any) error {
	client := c.HTTP
	if client == nil {
		client = &http.Client{Timeout: 5 * time.Second}
	}
	req, err := http.NewRequestWithContext(ctx, method, strings.TrimSuffix(c.Base, "/")+"/mesh/v1/"+route, body)
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		if broken, ok := errors.AsType[*url.Error](err); ok {
			err = broken.Err // the rest repeats the address
		}
		return fmt.Errorf("%w at %s: %w", ErrNotRunning, c.Base, err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, 64<<20))
	if err != nil {
		return fmt.Errorf("admin: reading %s: %w", route, err)
	}
	if resp.StatusCode >= 300 {
		var p problem
		if json.Unmarshal(answer, &p) != nil || p.Error == "" {
			return fmt.Errorf("%w at %s: it answers %s to /mesh/v1/%s", ErrNotRunning, c.Base, resp.Status, route)
		}
		return fmt.Errorf("admin: %s", p.Error)
	}
	if out == nil {
		return nil
	}
	if err := json.Unmarshal(answer, out); err != nil {
		return fmt.Errorf("%w at %s: the answer to /mesh/v1/%s is not ours", ErrNotRunning, c.Base, route)
	}
	return nil
}
