//go:build linux || darwin || freebsd

package store

import "golang.org/x/sys/unix"

func free(dir string) uint64 {
	var s unix.Statfs_t
	if unix.Statfs(dir, &s) != nil || s.Bavail <= 0 {
		return 0
	}
	return uint64(s.Bavail) * uint64(s.Bsize) //nolint:gosec // a size of the kernel's
}
