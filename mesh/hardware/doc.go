// Package hardware says what this machine can run: its GPUs, how much memory
// models may use on them, the RAM beside it, and from those numbers whether a
// model fits and roughly how fast it would be.
//
// Ollama reports neither GPU nor VRAM over its API, so every node looks for
// itself. The package owns that look ([Detect], [Refresh]), the value that
// comes out ([Inventory], one struct in memory, in gossip and in --json), and
// two pure decisions over it: does a model fit ([Inventory.CouldRun],
// [Inventory.CanRunNow]) and how fast is it before anybody measured
// ([Prior]).
//
// Invariant: every number carries its source, and a number that could not be
// read is unknown, never zero and never a guess. Unknown memory contributes
// nothing to a fit, so a node never claims a capability it has not shown. The
// reason why something is unknown is one sentence in Inventory.Notes.
//
// Everything that touches the machine goes through [System], so every reader
// runs in tests on captured text; the parsers are pure functions of that text.
//
//	s := hardware.NewSystem()
//	inv := hardware.Detect(ctx, s).Apply(hardware.Overrides{VRAM: 48 << 30})
//	fmt.Println(inv.Summary())      // AMD Radeon 8060S · 48.0 GiB unified (46.2 free) · ram 62 GiB
//	class, share := inv.CouldRun(hardware.Reference72B())
//	inv = hardware.Refresh(ctx, s, inv)     // every few seconds: only the free numbers
//	inv = inv.Learn(residentNow, peakSeen)  // what /api/ps proves
//
// Nothing here starts a goroutine that outlives a call, with one exception: a
// command that the kernel will not let die (nvidia-smi in a hung driver) is
// given up on after its time limit, and not started a second time until the
// first has ended.
package hardware
