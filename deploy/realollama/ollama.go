//go:build linux || darwin

package realollama

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"sync/atomic"
	"testing"
	"time"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/deploy/lab/proc"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/deploy/need"
)

// startLimit bounds a start. It takes a tenth of a second on an idle machine.
const startLimit = 60 * time.Second

// Host is where a server runs; a node of the lab is one.
type Host interface {
	Command(ctx context.Context, name string, args ...string) *exec.Cmd
	HTTPClient() *http.Client
}

// Options say what to start. The zero Options are a server of the default
// version without models on a free port of this machine's loopback.
type Options struct {
	Models  []string // of package tinymodels
	Env     []string // KEY=value, such as OLLAMA_NUM_PARALLEL=2
	Version string   // as in v0.9.6; "" is [DefaultVersion], or what KAGE_TEST_OLLAMA names
	On      Host     // nil is this machine
	Address string   // host:port; "" is a free port of 127.0.0.1, and with On 127.0.0.1:11434
}

// Ollama is a running server.
type Ollama struct {
	URL string // http://host:port; with Options.On it is that host's own loopback

	t       testing.TB
	binary  string
	options Options
	dir     string // home and models
	client  *http.Client
	server  atomic.Pointer[proc.Proc]
}

// Start starts a server that runs until the test ends, and returns when it
// answers.
func Start(t testing.TB, opts Options) *Ollama {
	t.Helper()
	binary := Binary(t, opts.Version)
	o := newOllama(t, binary, opts)
	if o.options.Address == "" {
		o.options.Address = "127.0.0.1:0"
		if opts.On != nil {
			o.options.Address = "127.0.0.1:11434"
		}
	}
	for _, name := range opts.Models {
		store, err := prepared(t, binary, name)
		if err == nil {
			err = link(store, o.models())
		}
		if err != nil {
			t.Fatalf("realollama: model %s: %v", name, err)
		}
	}
	o.start()
	return o
}

func newOllama(t testing.TB, binary string, opts Options) *Ollama {
	t.Helper()
	o := &Ollama{t: t, binary: binary, options: opts, dir: t.TempDir()}
	if opts.On != nil {
		o.client = opts.On.HTTPClient()
		return o
	}
	transport := &http.Transport{DisableCompression: true}
	t.Cleanup(transport.CloseIdleConnections)
	o.client = &http.Client{Transport: transport}
	return o
}

// Binary is the path of an Ollama, by version as in [Options]. It ends the
// test when there is none.
func Binary(t testing.TB, version string) string {
	t.Helper()
	need.NotShort(t, "realollama: a real Ollama")
	path := os.Getenv("KAGE_TEST_OLLAMA")
	if path == "" || version != "" {
		if version == "" {
			version = DefaultVersion
		}
		path = built(version)
	}
	if _, err := exec.LookPath(path); err != nil {
		need.Missing(t, fmt.Sprintf("realollama: no Ollama at %s: `make ollama` builds it, KAGE_TEST_OLLAMA names another", path))
	}
	return path
}

// Have reports whether an Ollama of the version, as in v0.9.6, is in the user's
// cache.
func Have(version string) bool {
	_, err := exec.LookPath(built(version))
	return err == nil
}

func built(version string) string {
	return filepath.Join(cache(), "ollama-"+version, "ollama")
}

// Client is an HTTP client that reaches URL. It has no time limit of its own.
func (o *Ollama) Client() *http.Client { return o.client }

// CLI is an ollama command against this server.
func (o *Ollama) CLI(ctx context.Context, args ...string) *exec.Cmd {
	return o.CLIAt(ctx, o.URL, args...)
}

// CLIAt is an ollama command, on the same host, against any server: a node of
// the mesh, say. Its home is this server's.
func (o *Ollama) CLIAt(ctx context.Context, url string, args ...string) *exec.Cmd {
	cmd := o.command(ctx, args...)
	cmd.Env = append(cmd.Env, "OLLAMA_HOST="+url)
	return cmd
}

// Kill ends the server and its runners at once, as a crash would.
func (o *Ollama) Kill() { o.server.Load().Kill() }

// Stop asks the server to end and waits for it.
func (o *Ollama) Stop() {
	o.t.Helper()
	_ = o.server.Load().Stop() // ends by the signal or with status 0, as it likes
}

// Freeze stops the server and its runners where they are: connections stay
// open and nothing is answered.
func (o *Ollama) Freeze() { o.server.Load().Freeze() }

// Thaw lets a frozen server go on.
func (o *Ollama) Thaw() { o.server.Load().Thaw() }

// Restart starts a server that has been killed or stopped, at the address it
// had, and returns when it answers.
func (o *Ollama) Restart() {
	o.t.Helper()
	o.Kill()
	o.start()
}

// Log is what the present server has written.
func (o *Ollama) Log() string { return o.server.Load().Stderr.String() }

func (o *Ollama) models() string { return filepath.Join(o.dir, "models") }

// command is ollama with an environment of its own, so that nothing of the
// user's settings or models takes part.
func (o *Ollama) command(ctx context.Context, args ...string) *exec.Cmd {
	var cmd *exec.Cmd
	if o.options.On != nil {
		cmd = o.options.On.Command(ctx, o.binary, args...)
	} else {
		cmd = exec.CommandContext(ctx, o.binary, args...)
	}
	cmd.Dir = o.dir
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + o.dir, "TMPDIR=" + o.dir}
	return cmd
}

// listening is the server's own word on its address, which matters when it was
// asked for any port.
var listening = regexp.MustCompile(`msg="Listening on (\S+) \(version`)

func (o *Ollama) start() {
	o.t.Helper()
	cmd := o.command(context.Background(), "serve")
	cmd.Env = append(cmd.Env,
		"OLLAMA_HOST="+o.options.Address,
		"OLLAMA_MODELS="+o.models(),
		"OLLAMA_NOPRUNE=1",  // keep what no manifest names: stores are linked
		"OLLAMA_NO_CLOUD=1", // newer versions ask the internet for recommendations
		"GIN_MODE=release")
	cmd.Env = append(cmd.Env, o.options.Env...)
	server := proc.Start(o.t, cmd).Name("ollama")
	o.server.Store(server)

	ctx, cancel := context.WithCancelCause(o.t.Context())
	defer cancel(nil)
	slow := time.AfterFunc(startLimit, func() { cancel(errSlow) })
	defer slow.Stop()
	go func() {
		select {
		case <-server.Done():
			cancel(errEnded)
		case <-ctx.Done():
		}
	}()
	match, err := server.Stderr.AwaitMatch(ctx, listening)
	if err == nil {
		o.options.Address = match[1]
		o.URL = "http://" + match[1]
		err = o.answers(ctx)
	}
	if err != nil {
		o.t.Fatalf("realollama: start: %v", err)
	}
}

// Why a start failed.
var (
	errSlow  = fmt.Errorf("no word from the server in %s", startLimit)
	errEnded = errors.New("the server ended")
)

func (o *Ollama) answers(ctx context.Context) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, o.URL+"/api/version", nil)
	if err != nil {
		return err
	}
	resp, err := o.Client().Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("/api/version: %s", resp.Status)
	}
	return nil
}
