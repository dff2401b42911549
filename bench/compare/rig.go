package compare

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"time"
)

// Fake describes one fake Ollama of a rig.
type Fake struct {
	Models []Model
	Slots  int
	// Faithful runs package ollamatest instead of a Backend: its answers can be
	// continued elsewhere.
	Faithful bool
}

// fake is a running one.
type fake struct {
	Fake
	*process
	port int
}

func (f *fake) addr() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(f.port)) }

// Rig is a set of fake Ollamas and the proxies in front of them.
type Rig struct {
	dir     string
	self    string // this program, which is also the fakes
	fakes   []*fake
	targets []*target
}

// target is one way to the fakes: a proxy's processes and where it listens.
type target struct {
	name      string
	endpoints []string
	procs     []*process
}

// Binaries are the programs that a rig runs.
type Binaries struct {
	Self string            // the compare command, for its fakes
	Kage map[string]string // kage-mesh builds by label; "" is the one to measure
}

func newRig(self string, fakes []Fake) (*Rig, error) {
	dir, err := os.MkdirTemp("", "kage-mesh-compare-")
	if err != nil {
		return nil, err
	}
	r := &Rig{dir: dir, self: self}
	for i, f := range fakes {
		port, err := freePort()
		if err != nil {
			r.close()
			return nil, err
		}
		r.fakes = append(r.fakes, &fake{Fake: f, port: port})
		if err := r.startFake(i); err != nil {
			r.close()
			return nil, err
		}
	}
	return r, nil
}

// startFake starts the i-th fake, also again after it was killed.
func (r *Rig) startFake(i int) error {
	f := r.fakes[i]
	kind := "fake"
	if f.Faithful {
		kind = "faithful"
	}
	args := []string{kind, "-listen", f.addr(), "-slots", strconv.Itoa(f.Slots)}
	for _, m := range f.Models {
		args = append(args, m.String())
	}
	p, err := start(r.dir, fmt.Sprintf("fake-%d", i), r.self, args...)
	if err != nil {
		return err
	}
	f.process = p
	return r.listening(f.addr(), p)
}

// listening waits until somebody accepts at addr.
func (r *Rig) listening(addr string, p *process) error {
	err := until(context.Background(), 10*time.Second, p.name+" does not listen", func() bool {
		c, err := net.DialTimeout("tcp", addr, time.Second) //nolint:noctx // bounded by its timeout
		if err == nil {
			_ = c.Close()
		}
		return err == nil || !p.alive()
	})
	if err != nil || !p.alive() {
		return fmt.Errorf("compare: %s did not start: %s", p.name, p.tail())
	}
	return nil
}

func (r *Rig) close() {
	for _, t := range r.targets {
		for _, p := range t.procs {
			p.stop()
		}
	}
	for _, f := range r.fakes {
		if f.process != nil {
			f.process.kill()
		}
	}
	_ = os.RemoveAll(r.dir)
}

func (r *Rig) addrs() (list []string) {
	for _, f := range r.fakes {
		list = append(list, f.addr())
	}
	return list
}

// file writes a configuration file into the rig's directory.
func (r *Rig) file(name, text string) (string, error) {
	path := filepath.Join(r.dir, name)
	return path, os.WriteFile(path, []byte(text), 0o600)
}

// get asks for JSON.
func get(ctx context.Context, url string, into any) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	return json.NewDecoder(resp.Body).Decode(into)
}
