//go:build unix

package node

import "syscall"

// descriptorLimit is how many files and connections this process may have open;
// 0 when it cannot be told.
func descriptorLimit() uint64 {
	var l syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l) != nil {
		return 0
	}
	return uint64(l.Cur) //nolint:unconvert // int64 on FreeBSD
}
