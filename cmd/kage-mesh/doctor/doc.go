// Package doctor finds what is wrong with a node, its machine and its mesh, and
// says how to mend it.
//
// Facts are gathered once, by [Gather] from this machine and by the caller from
// the running node. Each check is a pure function of them, so every finding can
// be tested from a table, and a finding always has evidence; one that is not
// good has a command that mends it, in the words of the system it is for.
//
//	facts := doctor.Gather(ctx, doctor.NewSystem(), question)
//	facts.Node = node // nil: none runs here
//	for _, f := range doctor.Run(facts, doctor.Connectivity) { ... }
//
// Nothing here changes anything.
package doctor
