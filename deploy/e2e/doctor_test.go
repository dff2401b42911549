//go:build linux

package e2e

import (
	"context"
	"encoding/json"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/cmd/kage-mesh/doctor"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/deploy/lab"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/ollamatest"
)

// patient is a host whose health doctor is asked about.
type patient struct {
	*host
	ollama func() // stops the fake; nil: none runs
}

func newPatient(t *testing.T, n *lab.Node) *patient {
	p := &patient{host: newHost(t, n)}
	if err := os.MkdirAll(p.configDir(), 0o700); err != nil {
		t.Fatal(err)
	}
	return p
}

func (p *patient) configDir() string { return filepath.Join(p.State, "config", "kage-mesh") }

// hasGPU is the machine that the fakes pretend to be on.
var hasGPU = ollamatest.Config{VRAM: 24 << 30, Models: []ollamatest.Model{smallModel("0")}}

// smallModel is a model whose weights depend on version.
func smallModel(version string) ollamatest.Model {
	return ollamatest.Model{
		Name: "small", Size: 1 << 30, Decode: 200,
		Digest: strings.Repeat(version, 64), Weights: strings.Repeat(version, 64),
		Modified: time.Date(2026, 1, int(version[0]-'0')+1, 0, 0, 0, 0, time.UTC),
	}
}

// runOllama starts a fake in place of the one before.
func (p *patient) runOllama(addr string, c ollamatest.Config) *ollamatest.Server {
	p.t.Helper()
	p.stopOllama()
	l, err := p.Listen("tcp", addr)
	if err != nil {
		p.t.Fatal(err)
	}
	s := ollamatest.New(c)
	done := make(chan struct{})
	go func() { defer close(done); _ = s.Serve(l) }()
	p.ollama = func() { s.Kill(); <-done }
	return s
}

func (p *patient) stopOllama() {
	if p.ollama != nil {
		p.ollama()
		p.ollama = nil
	}
}

// env is a person's environment on the host.
func (p *patient) env(more ...string) []string {
	return append(append(os.Environ(), "HOME="+p.State, "XDG_CONFIG_HOME="+filepath.Dir(p.configDir()),
		"KAGE_STATE_DIR="+p.State, "KAGE_LOG_LEVEL=debug"), more...)
}

// start runs the node with a name of its own, as all namespaces share one
// hostname.
func (p *patient) start(args ...string) {
	p.t.Helper()
	p.startBy(nil, append([]string{"--name", p.name()}, args...)...)
}

func (p *patient) name() string { return []string{"guest", "alpha", "beta", "gamma"}[p.Index()] }

// startBy runs the node below another command; every node has a GPU.
func (p *patient) startBy(wrapper []string, args ...string) {
	p.t.Helper()
	line := append(append(wrapper, binary, "join", "--gpu", "RTX 4090", "--vram", "24GiB"), args...)
	cmd := p.Command(context.Background(), line[0], line[1:]...)
	cmd.Env = p.env()
	p.Proc = p.StartCommand(cmd)
}

// stop says goodbye, so that no dead member is left.
func (p *patient) stop() {
	p.t.Helper()
	if err := p.Proc.Stop(); err != nil {
		p.t.Errorf("%s: %v", p, err)
	}
}

// doctor is what 'kage-mesh doctor --json' finds on the host, but for what
// passed.
func (p *patient) doctor(env ...string) (found []doctor.Finding) {
	p.t.Helper()
	cmd := p.Command(p.t.Context(), binary, "doctor", "--json", "--fix-hints")
	cmd.Env = p.env(env...)
	out, err := cmd.Output()
	var d struct {
		Verdict  doctor.Level
		Findings []doctor.Finding
	}
	if jerr := json.Unmarshal(out, &d); jerr != nil {
		p.t.Fatalf("%s: doctor: %v, %v\n%s", p, err, jerr, out)
	}
	code := map[doctor.Level]int{doctor.Passed: 0, doctor.Warning: 4, doctor.Failed: 1}[d.Verdict]
	if got := cmd.ProcessState.ExitCode(); got != code {
		p.t.Errorf("doctor says %s and exits with %d", d.Verdict, got)
	}
	for _, f := range d.Findings {
		if f.Level != doctor.Passed {
			found = append(found, f)
		}
	}
	return found
}

// finds waits until doctor finds a fault and returns it.
func (p *patient) finds(check, evidence, fix string, env ...string) (found doctor.Finding) {
	p.t.Helper()
	var all []doctor.Finding
	ok := within(30*time.Second, func() bool {
		all = p.doctor(env...)
		for _, f := range all {
			if f.Check == check && strings.Contains(f.Evidence, evidence) && strings.Contains(f.Fix, fix) {
				found = f
				return true
			}
		}
		return false
	})
	if !ok {
		p.t.Fatalf("%s: not found: %s, %q, fix %q\nbut %+v", p, check, evidence, fix, all)
	}
	p.t.Logf("%s %s: %s\n  fix: %s", found.Level, found.Check, found.Evidence, found.Fix)
	return found
}

// isWell waits until doctor finds nothing.
func (p *patient) isWell(env ...string) {
	p.t.Helper()
	var all []doctor.Finding
	if !within(40*time.Second, func() bool { all = p.doctor(env...); return len(all) == 0 }) {
		p.t.Fatalf("%s is not well: %+v", p, all)
	}
}

func within(limit time.Duration, ok func() bool) bool {
	for deadline := time.Now().Add(limit); !ok(); {
		if time.Now().After(deadline) {
			return false
		}
	}
	return true
}

// command is the first line of a fix, without its remark and without sudo: the
// tests are root already.
func command(fix string) string {
	line, _, _ := strings.Cut(fix, "\n")
	line, _, _ = strings.Cut(line, "   #")
	return strings.TrimPrefix(strings.TrimSpace(line), "sudo ")
}

// do runs the command of a fix as it stands there, on the host.
func (p *patient) do(fix string) {
	p.t.Helper()
	line := strings.ReplaceAll(command(fix), "kage-mesh ", binary+" ")
	cmd := p.Command(p.t.Context(), "sh", "-c", line)
	cmd.Env = append(p.env(), "PATH="+os.Getenv("PATH")+":/usr/sbin:/sbin")
	if out, err := cmd.CombinedOutput(); err != nil {
		p.t.Fatalf("%s: the fix does not work: %s: %v\n%s", p, line, err, out)
	}
}

// joinArgs are the arguments of a fix that is a join.
func joinArgs(t *testing.T, fix string) []string {
	t.Helper()
	rest, ok := strings.CutPrefix(command(fix), "kage-mesh join ")
	if !ok {
		t.Fatalf("not a join: %s", fix)
	}
	return strings.Fields(rest)
}

// filter makes the host drop what matches, with nftables.
func (p *patient) filter(match string) {
	p.t.Helper()
	rules := "table inet guard { chain input { type filter hook input priority 0; policy accept; " + match + " drop; }; }"
	cmd := p.Command(p.t.Context(), nft(p.t), rules)
	if out, err := cmd.CombinedOutput(); err != nil {
		p.t.Fatalf("nft: %v\n%s", err, out)
	}
}

func (p *patient) unfilter() {
	p.t.Helper()
	if out, err := p.Command(context.Background(), nft(p.t), "delete table inet guard").CombinedOutput(); err != nil {
		p.t.Fatalf("nft: %v\n%s", err, out)
	}
}

func nft(t testing.TB) string {
	t.Helper()
	if path, err := exec.LookPath("nft"); err == nil {
		return path
	}
	return "/usr/sbin/nft" // the lab has found it
}

// loaded has the host's own Ollama hold the model.
func (p *patient) loaded() {
	p.t.Helper()
	await(p.t, patience, "the model loaded by a request", func() bool {
		r := askURL(p.t.Context(), p.HTTPClient(), "http://127.0.0.1:11434/api/generate", map[string]any{"model": "small", "prompt": "x"})
		return r.err == nil && r.done
	})
}

// taken listens on a host's port as another program would.
func (p *patient) taken(addr string) net.Listener {
	p.t.Helper()
	l, err := p.Listen("tcp", addr)
	if err != nil {
		p.t.Fatal(err)
	}
	return l
}
