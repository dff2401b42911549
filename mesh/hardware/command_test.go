package hardware

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestCommandThatCannotBeKilled: the caller is let go after the grace, the
// command is not started again while it hangs, and again once it has ended.
func TestCommandThatCannotBeKilled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		starts := 0
		r := &runner{start: func(context.Context, string, ...string) ([]byte, error) {
			starts++
			<-release
			return []byte("late"), nil
		}}
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		begin := time.Now()
		_, err := r.run(ctx, "nvidia-smi")
		if took := time.Since(begin); took != 3*time.Second+killGrace {
			t.Errorf("took %v", took)
		}
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("err = %v", err)
		}
		if _, err := r.run(t.Context(), "nvidia-smi"); !errors.Is(err, errStillRunning) {
			t.Errorf("second run: %v", err)
		}
		close(release)
		synctest.Wait()
		out, err := r.run(t.Context(), "nvidia-smi")
		if err != nil || string(out) != "late" || starts != 2 {
			t.Errorf("third run: %q, %v, %d starts", out, err, starts)
		}
	})
}

func TestExecute(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("needs a POSIX shell")
	}
	sh, err := exec.LookPath("sh")
	if err != nil {
		t.Fatal(err)
	}
	out, err := execute(t.Context(), sh, "-c", "echo out; echo 'cause of it' >&2; exit 3")
	if string(out) != "out\n" || err == nil || !strings.Contains(err.Error(), "cause of it") {
		t.Errorf("%q, %v", out, err)
	}
	if _, err := execute(t.Context(), t.TempDir()+"/none"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("missing command: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := execute(ctx, sh, "-c", "echo never"); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	out, err = execute(t.Context(), sh, "-c", "head -c 3000000 /dev/zero")
	if err != nil || len(out) != maxOutput {
		t.Errorf("%d bytes kept, %v", len(out), err)
	}
}
