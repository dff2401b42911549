package lane

import (
	"syscall"
	"unsafe"
)

// mostNow is the most that one call moves, bytes: some 20 us of copying.
const mostNow = 64 << 10

// readNow reads what a socket that does not block has.
//
// The runtime is not told of the call. Told, it takes the processor from a
// goroutine whose call lasts over 20 us and gives it to another, which wakes a
// thread, and puts the goroutine back into line when its call is over. That is
// right for calls that wait. These only work, and where hundreds of streams share
// the cores with those who write and read them, work is often interrupted for as
// long: without telling, a token takes 6 % less CPU (bench/DESIGN.md).
func readNow(fd uintptr, p []byte) (int, error) {
	n, err := move(syscall.SYS_READ, fd, p)
	if detecting && err == nil {
		_, _ = syscall.Read(int(fd), nil)
	}
	return n, err
}

// writeNow is readNow for writing.
func writeNow(fd uintptr, p []byte) (int, error) {
	if detecting {
		_, _ = syscall.Write(int(fd), nil)
	}
	return move(syscall.SYS_WRITE, fd, p)
}

func move(call, fd uintptr, p []byte) (int, error) {
	for {
		n, _, errno := syscall.RawSyscall(call, fd, uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p))) //nolint:gosec // p is the call's argument
		switch errno {
		case 0:
			return int(n), nil
		case syscall.EINTR:
		default:
			return 0, errno
		}
	}
}

// delayAcks lets the kernel acknowledge what is read with what is sent next, or
// with every other segment, or after 40 ms, in place of with every read. For a
// stream that only brings tokens the acknowledgement was more than half of what
// reading one costs. It lasts until one had to be sent by the clock (tcp(7),
// TCP_QUICKACK; tcp_delack_timer_handler).
func delayAcks(fd uintptr) {
	_ = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, syscall.TCP_QUICKACK, 0)
}
