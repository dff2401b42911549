// Package fleet runs several real nodes in one process: real Serf, real
// sockets on loopback, and for each node a fake Ollama (router/ollamatest) with
// the hardware that its Spec says. The demo command shows one; scale tests,
// benchmarks and the soak run others.
//
//	f, err := fleet.Start(ctx, fleet.Seed(1), fleet.Options{})
//	defer f.Close()
//	f.Node(0).Kill()    // as kill -9 would
//	f.Node(0).Restart() // the same identity comes back
package fleet
