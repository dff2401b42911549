// Package registry brings models from one node's disk to another's Ollama.
//
// On the side that has a model, [Peer] serves its manifest and blobs to members
// of the mesh. On the side that wants it, a [Registry] listens on a free port
// of the loopback and speaks as much of the registry protocol as Ollama's own
// pull asks for, handing every request on to the peer. So chunks, resumption
// after an interruption and verification of each blob's digest are Ollama's.
//
// The invariant: without a ticket, which [Registry.Offer] gives out for one
// model and withdraws, the port answers nothing.
//
//	name, withdraw := reg.Offer(peer, "qwen2.5:72b", digest)
//	defer withdraw()
//	// POST /api/pull {"model": name, "insecure": true}, then copy to the plain name
package registry
