//go:build linux

// Package machine is a host of a lab with kage-mesh on it: the program built
// once, started as its user would, asked over its own loopback, stopped with the
// test.
//
//	binary, remove, err := machine.Build() // in TestMain
//	m := machine.New(t, lab.Up(t, 2).Node(1), binary)
//	m.Join("--no-mdns")
//	m.Alive() // members that it sees alive
package machine

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/deploy/lab"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/deploy/lab/proc"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/admin"
)

// Program is the program under test, for `go build`.
const Program = "github.com/AI-Prompt-Ops-Kitchen/kage-mesh/cmd/kage-mesh"

// Build builds kage-mesh into a directory of its own, which remove deletes.
func Build() (binary string, remove func(), err error) {
	dir, err := os.MkdirTemp("", "kage-mesh-test-")
	if err != nil {
		return "", nil, err
	}
	binary = filepath.Join(dir, "kage-mesh")
	if out, err := exec.CommandContext(context.Background(), "go", "build", "-o", binary, Program).CombinedOutput(); err != nil {
		_ = os.RemoveAll(dir)
		return "", nil, fmt.Errorf("building kage-mesh: %w\n%s", err, out)
	}
	return binary, func() { _ = os.RemoveAll(dir) }, nil
}

// Machine is one host. Its fields may be changed between runs of the program.
type Machine struct {
	*lab.Node
	Name   string   // of the node; "": the hostname, which all hosts of a lab share
	State  string   // directory
	Binary string   // kage-mesh
	Env    []string // for every run of it, after what Kage sets
	Prefix []string // a command in front of it, such as prlimit
	Proc   *proc.Proc

	t    testing.TB
	args []string
}

// New prepares a machine; Join starts the program.
func New(t testing.TB, n *lab.Node, binary string) *Machine {
	t.Helper()
	return &Machine{Node: n, Name: fmt.Sprintf("node-%d", n.Index()), State: t.TempDir(), Binary: binary, t: t}
}

// Kage is a run of kage-mesh on the host. Only what must differ between hosts
// that share one kernel is set.
func (m *Machine) Kage(ctx context.Context, args ...string) *exec.Cmd {
	all := append(slices.Clone(m.Prefix), append([]string{m.Binary}, args...)...)
	cmd := m.Command(ctx, all[0], all[1:]...)
	cmd.Env = append(os.Environ(), "KAGE_STATE_DIR="+m.State, "KAGE_LOG_LEVEL=debug", "HOME="+m.State)
	if m.Name != "" {
		cmd.Env = append(cmd.Env, "KAGE_NAME="+m.Name)
	}
	cmd.Env = append(cmd.Env, m.Env...)
	return cmd
}

// Join runs `kage-mesh join ARGS...` until the test ends.
func (m *Machine) Join(args ...string) {
	m.t.Helper()
	m.args = args
	m.Proc = m.StartCommand(m.Kage(context.Background(), append([]string{"join"}, args...)...))
}

// Again starts a node that has ended as it was started before, with more
// arguments.
func (m *Machine) Again(more ...string) {
	m.t.Helper()
	m.Join(append(slices.Clone(m.args), more...)...)
}

// Members are the members as the host sees them; none while its node does not
// answer within two seconds.
func (m *Machine) Members(ctx context.Context) []admin.Member {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://127.0.0.1:11435/mesh/v1/members", http.NoBody)
	if err != nil {
		return nil
	}
	resp, err := m.HTTPClient().Do(req)
	if err != nil {
		return nil
	}
	defer resp.Body.Close()
	var all admin.Members
	if json.NewDecoder(resp.Body).Decode(&all) != nil {
		return nil
	}
	return all.Members
}

// Alive counts the members that the host sees alive.
func (m *Machine) Alive(ctx context.Context) int {
	n := 0
	for _, member := range m.Members(ctx) {
		if member.Status == "alive" {
			n++
		}
	}
	return n
}
