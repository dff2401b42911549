//go:build linux

package lab

import (
	"fmt"
	"runtime"

	"golang.org/x/sys/unix"
)

// namespace is one network namespace, entered by thread.
type namespace struct {
	name string
	fd   int
	home int // the namespace that the test runs in
}

func openNamespace(name string) (namespace, error) {
	fd, err := unix.Open("/run/netns/"+name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return namespace{}, fmt.Errorf("lab: namespace %s: %w", name, err)
	}
	home, err := unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		_ = unix.Close(fd)
		return namespace{}, fmt.Errorf("lab: own namespace: %w", err)
	}
	return namespace{name, fd, home}, nil
}

func (n namespace) close() {
	_ = unix.Close(n.fd)
	_ = unix.Close(n.home)
}

// inside runs f on a thread that is in the namespace. A socket belongs for
// life to the namespace of the thread that made it, so f must not leave its
// goroutine to make one.
func (n namespace) inside(f func() error) error {
	result := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		if err := unix.Setns(n.fd, unix.CLONE_NEWNET); err != nil {
			runtime.UnlockOSThread()
			result <- fmt.Errorf("lab: enter %s: %w", n.name, err)
			return
		}
		err := f()
		if unix.Setns(n.home, unix.CLONE_NEWNET) == nil {
			runtime.UnlockOSThread()
		} // else the thread ends with this goroutine, and nobody else gets it
		result <- err
	}()
	return <-result
}
