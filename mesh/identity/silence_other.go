//go:build !linux

package identity

import "syscall"

// giveUp leaves it to the system how long sent bytes may stay unacknowledged.
func giveUp(_, _ string, _ syscall.RawConn) error { return nil }
