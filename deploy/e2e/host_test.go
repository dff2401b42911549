//go:build linux

package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/deploy/lab"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/deploy/lab/machine"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/admin"
)

// binary is the program under test, built once.
var binary string

func TestMain(m *testing.M) {
	built, remove, err := machine.Build()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	binary = built
	code := m.Run()
	remove()
	os.Exit(code)
}

// host is one machine of a test with kage-mesh on it.
type host struct {
	*machine.Machine
	t testing.TB
}

// newHost prepares a machine; join starts the program.
func newHost(t testing.TB, n *lab.Node) *host {
	t.Helper()
	m := machine.New(t, n, binary)
	m.Name = n.String()
	return &host{Machine: m, t: t}
}

// join runs `kage-mesh join ARGS...` as its user would.
func (h *host) join(args ...string) {
	h.t.Helper()
	h.Join(args...)
}

// run runs a kage-mesh command on the host and returns its standard output.
func (h *host) run(args ...string) []byte {
	h.t.Helper()
	out, err := h.Command(h.t.Context(), binary, args...).Output()
	if err != nil {
		h.t.Fatalf("%s: kage-mesh %s: %v\n%s", h, strings.Join(args, " "), err, out)
	}
	return out
}

// members is what `kage-mesh members --json` says on the host; !ok while the
// node does not answer yet.
func (h *host) members() (m admin.Members, ok bool) {
	out, err := h.Command(h.t.Context(), binary, "members", "--json").Output()
	return m, err == nil && json.Unmarshal(out, &m) == nil
}

// alive counts the members that the host sees alive.
func (h *host) alive() int {
	m, _ := h.members()
	n := 0
	for _, member := range m.Members {
		if member.Status == "alive" {
			n++
		}
	}
	return n
}

// await polls until ok, and fails the test after limit.
func await(t testing.TB, limit time.Duration, what string, ok func() bool) time.Duration {
	t.Helper()
	start := time.Now()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		if time.Since(start) > limit {
			t.Fatalf("after %v: not %s", limit, what)
		}
		<-tick.C
	}
	return time.Since(start)
}

// reply is a whole answer as a client saw it.
type reply struct {
	status   int
	header   http.Header
	text     string
	done     bool
	frames   int
	err      error
	took     time.Duration
	firstLag time.Duration
}

// ask posts to the host's own node, over its loopback.
func (h *host) ask(ctx context.Context, path string, body map[string]any) reply {
	return askURL(ctx, h.HTTPClient(), "http://127.0.0.1:11435"+path, body)
}

func askURL(ctx context.Context, client *http.Client, url string, body map[string]any) (r reply) {
	start := time.Now()
	defer func() { r.took = time.Since(start) }()
	data, err := json.Marshal(body)
	if err != nil {
		return reply{err: err}
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(data))
	if err != nil {
		return reply{err: err}
	}
	resp, err := client.Do(req)
	if err != nil {
		return reply{err: err}
	}
	defer resp.Body.Close()
	r = reply{status: resp.StatusCode, header: resp.Header}
	dec := json.NewDecoder(resp.Body)
	for {
		var line struct {
			Response string                   `json:"response"`
			Message  struct{ Content string } `json:"message"`
			Done     bool                     `json:"done"`
			Error    string                   `json:"error"`
		}
		err := dec.Decode(&line)
		if err == io.EOF { //nolint:errorlint // json.Decoder returns the bare value
			return r
		}
		if err == nil && line.Error != "" {
			err = fmt.Errorf("%d: %s", r.status, line.Error)
		}
		if err != nil {
			r.err = err
			return r
		}
		if r.frames == 0 {
			r.firstLag = time.Since(start)
		}
		r.frames++
		r.text += line.Response + line.Message.Content
		r.done = r.done || line.Done
	}
}
