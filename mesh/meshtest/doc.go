// Package meshtest helps tests that need a mesh: real nodes over loopback
// sockets ([Start]), or Views made by hand for tables ([View], [Member]).
//
//	nodes := meshtest.Start(t, 3)
//	nodes[1].Announce(meshtest.Card("llama3.2:3b"))
//	nodes[0].Wait(t, "model seen", func(v *mesh.View) bool { return len(v.Holders("llama3.2:3b")) == 1 })
//	nodes[1].Kill() // no goodbye
//
// Nodes of Start bind 127.0.0.1 and free ports only, keep their state in
// temporary directories, and are stopped when the test ends.
package meshtest
