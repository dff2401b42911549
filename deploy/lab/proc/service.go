//go:build unix

package proc

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// Service runs a program as systemd runs a unit of Type=notify with
// FileDescriptorStoreMax=1: it hears when the program is ready, keeps the one
// descriptor that it is given, and hands that to the next process. It is for tests
// where systemd is not the first process; it knows no watchdog.
type Service struct {
	*Proc // the process that runs now

	t       testing.TB
	command func() *exec.Cmd
	socket  string

	mu    sync.Mutex
	kept  *os.File      // what the program has stored
	ready chan struct{} // closed when the running process has said READY=1
}

// NewService prepares a service whose socket is in dir; any user may write to it.
// command makes the command of a start; its Env is set, not inherited.
func NewService(t testing.TB, dir string, command func() *exec.Cmd) *Service {
	t.Helper()
	s := &Service{t: t, command: command, socket: filepath.Join(dir, "notify")}
	l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: s.socket, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(s.socket, 0o666); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			if err := s.hear(l); err != nil {
				return
			}
		}
	}()
	t.Cleanup(func() {
		_ = l.Close()
		<-done
		s.keep(nil)
	})
	return s
}

// Start starts the program and waits until it is ready.
func (s *Service) Start(ctx context.Context) error {
	ready := make(chan struct{})
	s.mu.Lock()
	s.ready = ready
	// LISTEN_PID is the program's own, which only its shell knows in time.
	unit := s.command()
	cmd := exec.CommandContext(context.WithoutCancel(ctx), "sh", append([]string{"-c", `export LISTEN_PID=$$; exec "$@"`, "sh"}, unit.Args...)...)
	cmd.Env = append(unit.Env, "NOTIFY_SOCKET="+s.socket)
	if s.kept != nil {
		cmd.ExtraFiles = []*os.File{s.kept}
		cmd.Env = append(cmd.Env, "LISTEN_FDS=1", "LISTEN_FDNAMES="+s.kept.Name())
	}
	s.Proc = Start(s.t, cmd).Name(filepath.Base(unit.Args[0]))
	s.mu.Unlock()
	select {
	case <-ready:
		return nil
	case <-s.Done():
		return fmt.Errorf("proc: the service ended before it was ready: %w", s.Wait())
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Restart ends the program in order and starts it anew.
func (s *Service) Restart(ctx context.Context) error {
	s.Signal(syscall.SIGTERM)
	select {
	case <-s.Done():
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	if err := s.Wait(); err != nil {
		return err
	}
	return s.Start(ctx)
}

// Keeps reports whether the program has stored a descriptor.
func (s *Service) Keeps() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.kept != nil
}

// hear takes one message of the program.
func (s *Service) hear(l *net.UnixConn) error {
	text, rights := make([]byte, 4096), make([]byte, syscall.CmsgSpace(4))
	n, oob, _, _, err := l.ReadMsgUnix(text, rights)
	if err != nil {
		return err
	}
	said := map[string]string{}
	for line := range strings.Lines(string(text[:n])) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		said[key] = value
	}
	switch {
	case said["FDSTOREREMOVE"] == "1":
		s.keep(nil)
	case said["FDSTORE"] == "1":
		f, err := given(rights[:oob], said["FDNAME"])
		if err != nil {
			return err
		}
		s.keep(f)
	case said["READY"] == "1":
		s.mu.Lock()
		defer s.mu.Unlock()
		close(s.ready)
	}
	return nil
}

// given is the descriptor that came with a message.
func given(oob []byte, name string) (*os.File, error) {
	messages, err := syscall.ParseSocketControlMessage(oob)
	if err != nil || len(messages) != 1 {
		return nil, fmt.Errorf("proc: no descriptor in the message: %w", err)
	}
	fds, err := syscall.ParseUnixRights(&messages[0])
	if err != nil || len(fds) != 1 {
		return nil, fmt.Errorf("proc: no descriptor in the message: %w", err)
	}
	syscall.CloseOnExec(fds[0])
	return os.NewFile(uintptr(fds[0]), name), nil
}

func (s *Service) keep(f *os.File) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.kept != nil {
		_ = s.kept.Close()
	}
	s.kept = f
}
