// Package sim plays a mesh in virtual time: the very same [router.Select],
// [router.Course], [router.Ledger], [backend.Admission], [backend.Rates],
// [backend.Report] and load codec that nodes run, over machines, an Ollama and a
// gossip that are simulated. It compares placement rules over thousands of
// requests in less than a second, with the same requests for each.
//
// A [Cell] is one experiment; [Run] plays it:
//
//	r := sim.Run(sim.Cell{Fleet: sim.Seed4(), Load: 0.8, Rule: sim.Mesh(router.Select), Seed: 1})
//	fmt.Println(r.Mean(), r.Quantile(0.99))
//
// What is simulated, and how, is in bench/DESIGN.md. The package knows nothing
// of what a rule estimates; a rule knows nothing of a request's true length but
// for [Clairvoyant], which is the yardstick.
package sim
