//go:build race

package lane

// detecting says that the race detector looks on. It does not see [move], which to
// it is no reason for one side to go on after the other. A call of the syscall
// package is one, also for no bytes.
const detecting = true
