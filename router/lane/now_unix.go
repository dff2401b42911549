//go:build unix && !linux

package lane

import "syscall"

const mostNow = 64 << 10

func readNow(fd uintptr, p []byte) (int, error) { return move(syscall.Read, fd, p) }

func writeNow(fd uintptr, p []byte) (int, error) { return move(syscall.Write, fd, p) }

func move(call func(int, []byte) (int, error), fd uintptr, p []byte) (int, error) {
	for {
		n, err := call(int(fd), p)
		if err != syscall.EINTR { //nolint:errorlint // an errno
			return max(n, 0), err
		}
	}
}

func delayAcks(uintptr) {}
