// Package proc runs a program for a test: in its own process group, so that
// its children can be ended with it, with its output kept and its end awaited.
//
// The invariant: when the test ends nothing of the group is alive, and a test
// that failed shows the last of what the program said.
//
//	p := proc.Start(t, exec.Command("kage-mesh", "join"))
//	p.Stdout.Await(t.Context(), "api")
//	p.Freeze() // as a machine that stalls
//	p.Thaw()
//	p.Kill() // as a machine that dies
package proc
