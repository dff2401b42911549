// Package faults is the fault lab: fifty ways in which machines, links,
// Ollamas, disks, keys and callers go wrong, each played on real kage-mesh
// processes on hosts of their own (package lab), with fake Ollamas that number
// their tokens or real ones, and each with the outcome that a mesh must show.
//
//	make faults                                # all of them, and RESULTS.md anew
//	go test ./deploy/faults -run Case07        # one
//
// The invariant: a case ends by what its client, its hosts and its Ollamas saw,
// never by what a log says alone, and takes at most thirty seconds once its mesh stands.
// What is random in a case comes from its number.
package faults
