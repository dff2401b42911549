// Package backend is the local Ollama behind a node: what it has, how fast it
// is, and who may use it when.
//
// [Client] talks to it, [Watcher] knows its state, [Rates] how fast its models
// have been, [Gate] admits requests and [Report] says all of it to the mesh.
// [Backend] puts them together; a node runs one, also while it has no Ollama.
//
// The invariant: nothing reaches Ollama's own queue that the gate knows would
// wait there. A request waits in the gate, where its place and start are known
// and from where it can still move to another node, and it never runs without
// one of the slots that Ollama really has.
//
//	b, err := backend.New(backend.Config{Host: os.Getenv("OLLAMA_HOST"), Node: id})
//	go b.Run(ctx, publisher, hardware.Detect(ctx, system), refresh)
//	leave, err := b.Enter(ctx, backend.Work{ID: id, Key: "qwen2.5:72b", Promise: -1})
//	if err != nil {
//		return err // nothing is held; a *Refused says why and for how long
//	}
//	resp, err := b.Do(req)
//	...
//	leave(backend.Usage{Usage: figures}) // exactly once, whatever happened
//
// Unknown stays unknown: a number that Ollama did not give is 0 and is not
// published; where an estimate cannot do without, it takes a documented guess
// that is never shown as a measurement.
package backend
