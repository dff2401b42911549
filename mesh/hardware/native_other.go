//go:build !windows

package hardware

import "os/exec"

// native adds what only Windows needs.
func (s *System) native() {}

func hideWindow(*exec.Cmd) {}
