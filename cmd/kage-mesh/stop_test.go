//go:build unix

package main

import (
	"bytes"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/ollamatest"
)

// program is a node in a process of its own.
type program struct {
	cmd    *exec.Cmd
	stdout syncBuffer
	stderr syncBuffer
	api    string
}

// startNode runs `kage-mesh join` in front of a fake Ollama.
func startNode(t *testing.T, args ...string) *program {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ollama := ollamatest.New(ollamatest.Config{Parallel: 4, Models: []ollamatest.Model{{Name: "m", Size: 1 << 20, Decode: 10}}})
	go func() { _ = ollama.Serve(l) }()
	t.Cleanup(ollama.Kill)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	p := &program{cmd: exec.Command(self, append([]string{
		"join", "--state-dir", t.TempDir(), "--no-mdns", "--ollama", l.Addr().String(), "--ram", "48GiB",
		"--api-listen", "127.0.0.1:0", "--peer-listen", "127.0.0.1:0", "--gossip-listen", "127.0.0.1:0",
	}, args...)...)}
	p.cmd.Env = append(os.Environ(), "KAGE_TEST_MAIN=1")
	p.cmd.Stdout, p.cmd.Stderr = &p.stdout, &p.stderr
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.cmd.Process.Kill() })
	found := regexp.MustCompile(`api +(http://127\.0\.0\.1:\d+)`)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for limit := time.Now().Add(30 * time.Second); p.api == ""; <-tick.C {
		if m := found.FindStringSubmatch(p.stdout.String()); m != nil {
			p.api = m[1]
		} else if time.Now().After(limit) {
			t.Fatalf("it does not start:\n%s", p.stderr.String())
		}
	}
	return p
}

// ask begins a stream of so many tokens and returns its rest.
func (p *program) ask(t *testing.T, tokens string) io.ReadCloser {
	t.Helper()
	resp, err := http.Post(p.api+"/api/generate", "application/json",
		strings.NewReader(`{"model":"m","prompt":"x","options":{"num_predict":`+tokens+`}}`))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	if resp.StatusCode != http.StatusOK {
		t.Fatal(resp.Status)
	}
	return resp.Body
}

// code is the program's exit status.
func (p *program) code(t *testing.T) int {
	t.Helper()
	_ = p.cmd.Wait() // the code says it
	return p.cmd.ProcessState.ExitCode()
}

func TestSIGTERMFinishesWhatRuns(t *testing.T) {
	p := startNode(t)
	body := p.ask(t, "12")
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(body)
	if err != nil || !bytes.Contains(text, []byte(`"done":true`)) || bytes.Count(text, []byte("\n")) != 13 {
		t.Errorf("%v:\n%s", err, text)
	}
	if code := p.code(t); code != 0 {
		t.Errorf("exit code %d\n%s", code, p.stderr.String())
	}
}

func TestASecondSIGTERMStopsAtOnce(t *testing.T) {
	p := startNode(t, "--drain-grace", "10m")
	body := p.ask(t, "6000") // ten minutes
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for limit := time.Now().Add(20 * time.Second); !strings.Contains(p.stderr.String(), "draining"); <-tick.C {
		if time.Now().After(limit) {
			t.Fatalf("it does not drain:\n%s", p.stderr.String())
		}
	}
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if code := p.code(t); code != 143 {
		t.Errorf("exit code %d, want 143", code)
	}
	if _, err := io.ReadAll(body); err == nil {
		t.Error("the answer ends as if it were whole")
	}
}
