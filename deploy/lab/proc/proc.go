//go:build unix

package proc

import (
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// grace is how long Stop lets a program finish before it kills it.
const grace = 15 * time.Second

// Proc is a started program. Its methods may be called from any goroutine and
// do nothing once the program has ended.
type Proc struct {
	Stdout, Stderr Output

	t    testing.TB
	name string
	cmd  *exec.Cmd
	done chan struct{}
	err  error // of the program's end; read after done is closed
}

// Start starts cmd in a process group of its own and ends that group with the
// test. cmd's Stdout, Stderr and SysProcAttr are the Proc's to set. It fails
// the test when the program cannot be started.
func Start(t testing.TB, cmd *exec.Cmd) *Proc {
	t.Helper()
	p := &Proc{t: t, cmd: cmd, name: filepath.Base(cmd.Args[0]), done: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = &p.Stdout, &p.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	// A child that outlives the program keeps its pipes open: do not wait for
	// it longer than this.
	cmd.WaitDelay = time.Second
	if err := cmd.Start(); err != nil {
		t.Fatalf("start %s: %v", p.name, err)
	}
	go func() {
		p.err = cmd.Wait()
		close(p.done)
	}()
	t.Cleanup(p.cleanup)
	return p
}

// Name names the program in what a failed test shows; it is the base name of
// the command unless set.
func (p *Proc) Name(name string) *Proc {
	p.name = name
	return p
}

// Pid is the program's process id, which is its group's too.
func (p *Proc) Pid() int { return p.cmd.Process.Pid }

// Done is closed when the program has ended.
func (p *Proc) Done() <-chan struct{} { return p.done }

// Wait waits for the program's end and returns what [exec.Cmd.Wait] did. Any
// number of callers may wait.
func (p *Proc) Wait() error {
	<-p.done
	return p.err
}

// Signal sends sig to the whole group.
func (p *Proc) Signal(sig syscall.Signal) {
	// The group outlives its leader as long as a child lives, so this is not
	// tied to done; a group that is gone answers ESRCH.
	_ = syscall.Kill(-p.Pid(), sig)
}

// Kill ends the group at once with SIGKILL, as a crash would, and waits.
func (p *Proc) Kill() {
	p.Signal(syscall.SIGKILL)
	<-p.done
}

// Stop asks the group to end with SIGTERM and waits. A program that does not
// end in 15 seconds is killed and fails the test.
func (p *Proc) Stop() error {
	p.t.Helper()
	p.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(grace):
		p.t.Errorf("%s: still running %s after SIGTERM", p.name, grace)
		p.Kill()
	}
	return p.err
}

// Freeze stops the group's execution with SIGSTOP: it holds its connections
// and answers nothing.
func (p *Proc) Freeze() { p.Signal(syscall.SIGSTOP) }

// Thaw lets a frozen group go on.
func (p *Proc) Thaw() { p.Signal(syscall.SIGCONT) }

func (p *Proc) cleanup() {
	p.Kill()
	if !p.t.Failed() {
		return
	}
	const most = 4 << 10
	for stream, o := range map[string]*Output{"stdout": &p.Stdout, "stderr": &p.Stderr} {
		if text := o.String(); text != "" {
			p.t.Logf("%s (pid %d) %s:\n%s", p.name, p.Pid(), stream, tail(text, most))
		}
	}
}
