package hardware

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"
)

// errStillRunning is returned instead of starting a command again while an
// earlier start of it has not come back.
var errStillRunning = errors.New("hardware: an earlier run of this command still hangs")

// maxOutput bounds what is kept of a command's output.
const maxOutput = 1 << 20

// runner starts commands so that a hung one can neither stall nor pile up. A
// process in uninterruptible sleep, as nvidia-smi is when the kernel module
// has crashed, ignores SIGKILL; the caller then gets ctx's error in time and
// the process is left to itself, once.
type runner struct {
	start func(ctx context.Context, name string, args ...string) ([]byte, error)

	mu   sync.Mutex
	hung map[string]bool // commands given up on that have not ended
}

type outcome struct {
	out []byte
	err error
}

func (r *runner) run(ctx context.Context, name string, args ...string) ([]byte, error) {
	r.mu.Lock()
	hangs := r.hung[name]
	r.mu.Unlock()
	if hangs {
		return nil, fmt.Errorf("%w: %s", errStillRunning, name)
	}

	done := make(chan outcome, 1)
	go func() { // ends with the command; waited for below unless it hangs
		out, err := r.start(ctx, name, args...)
		done <- outcome{out, err}
		r.mark(name, false)
	}()
	select {
	case o := <-done:
		return o.out, o.err
	case <-ctx.Done():
	}
	grace := time.NewTimer(killGrace)
	defer grace.Stop()
	select {
	case o := <-done:
		return o.out, o.err
	case <-grace.C:
	}
	r.mark(name, true)
	select {
	case o := <-done: // it ended between the grace and the mark
		r.mark(name, false)
		return o.out, o.err
	default:
		return nil, fmt.Errorf("hardware: %s does not answer: %w", name, context.Cause(ctx))
	}
}

func (r *runner) mark(name string, hangs bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.hung == nil {
		r.hung = map[string]bool{}
	}
	if hangs {
		r.hung[name] = true
	} else {
		delete(r.hung, name)
	}
}

// killGrace is how long a killed command may take to be gone, and its children
// to let go of the pipes, before we stop waiting for it.
const killGrace = 500 * time.Millisecond

// execute is exec with bounded output, English messages, and an error that
// says what the command said.
func execute(ctx context.Context, name string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	cmd.WaitDelay = killGrace / 2
	hideWindow(cmd)
	stdout, stderr := capped{}, capped{}
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	if err == nil {
		return stdout.buf.Bytes(), nil
	}
	if ctx.Err() != nil {
		return nil, fmt.Errorf("hardware: %s does not answer: %w", name, context.Cause(ctx))
	}
	said := firstLine(stderr.buf.String())
	if said == "" {
		return stdout.buf.Bytes(), err
	}
	return stdout.buf.Bytes(), fmt.Errorf("%w: %s", err, said)
}

// capped keeps the first maxOutput bytes and swallows the rest, so that a
// command with endless output ends by its time limit and not by our memory.
// The buffer is not embedded: its ReadFrom would let io.Copy pass Write by.
type capped struct{ buf bytes.Buffer }

func (c *capped) Write(p []byte) (int, error) {
	if room := maxOutput - c.buf.Len(); room > 0 {
		c.buf.Write(p[:min(room, len(p))])
	}
	return len(p), nil
}

func firstLine(text string) string {
	for line := range strings.Lines(text) {
		if line = clean(line); line != "" {
			return line
		}
	}
	return ""
}
