//go:build unix

package proc

import (
	"context"
	"errors"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func sh(t *testing.T, script string) *Proc {
	t.Helper()
	return Start(t, exec.Command("sh", "-c", script))
}

func await(t *testing.T, o *Output, text string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := o.Await(ctx, text); err != nil {
		t.Fatal(err)
	}
}

func TestOutputIsKeptApart(t *testing.T) {
	p := sh(t, "echo out; echo err >&2; exit 3")
	var exit *exec.ExitError
	if err := p.Wait(); !errors.As(err, &exit) || exit.ExitCode() != 3 {
		t.Errorf("Wait: %v, want exit status 3", err)
	}
	if out, err := p.Stdout.String(), p.Stderr.String(); out != "out\n" || err != "err\n" {
		t.Errorf("stdout %q, stderr %q", out, err)
	}
}

func TestKillEndsChildrenToo(t *testing.T) {
	p := sh(t, "sleep 1000 & echo child $! ; wait")
	await(t, &p.Stdout, "\n")
	child, err := strconv.Atoi(strings.TrimSpace(strings.TrimPrefix(p.Stdout.String(), "child ")))
	if err != nil {
		t.Fatal(err)
	}
	p.Kill()
	deadline := time.Now().Add(10 * time.Second)
	for alive(child) {
		if time.Now().After(deadline) {
			t.Fatalf("child %d outlived its group", child)
		}
	}
}

// alive reports whether pid runs; a zombie that nobody has reaped does not.
func alive(pid int) bool {
	if errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
		return false
	}
	state, err := exec.Command("ps", "-o", "stat=", "-p", strconv.Itoa(pid)).Output()
	return err == nil && !strings.HasPrefix(strings.TrimSpace(string(state)), "Z")
}

func TestStopLetsTheProgramFinish(t *testing.T) {
	p := sh(t, `trap 'echo bye; exit 0' TERM; echo ready; while :; do sleep 0.01; done`)
	await(t, &p.Stdout, "ready")
	if err := p.Stop(); err != nil {
		t.Errorf("Stop: %v", err)
	}
	if !strings.Contains(p.Stdout.String(), "bye") {
		t.Errorf("stdout %q lacks the last word", p.Stdout.String())
	}
}

func TestFrozenSaysNothingUntilThawed(t *testing.T) {
	p := sh(t, `trap 'echo heard' USR1; echo ready; while :; do sleep 0.01; done`)
	await(t, &p.Stdout, "ready")
	p.Freeze()
	p.Signal(syscall.SIGUSR1)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := p.Stdout.Await(ctx, "heard"); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("a frozen program answered: %v", err)
	}
	p.Thaw()
	await(t, &p.Stdout, "heard")
}

func TestTail(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"short", "short"},
		{"first line\nsecond", "...\nsecond"},
		{"one long line without end", "...\nwithout end"},
	} {
		if got := tail(c.in, 11); got != c.want {
			t.Errorf("tail(%q) = %q, want %q", c.in, got, c.want)
		}
	}
}
