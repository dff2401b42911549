// Package tinymodels writes small random-weight llama models that a real
// Ollama creates and runs, so that tests meet the true server without a
// download, a GPU or a licence question.
//
// It owns the GGUF files and their Modelfiles, and one invariant: the bytes are
// a function of the model's name alone. The same name gives the same file on
// every run, so answers can be compared between servers and a prepared model
// directory can be kept (see [Fingerprint]).
//
// Generated text is made of " word" tokens that tokenize back to themselves.
// End-of-sequence, control and byte tokens have a very low logit, so
// num_predict decides the length, unless the model has a script: a chain of
// tokens forced right after <|assistant|>, which is how a thinking model, a
// tool call or a character split over several tokens is made to order.
//
//	dir := t.TempDir()
//	if err := tinymodels.Write(dir, "tiny", "tool"); err != nil { ... }
//	// ollama create tiny -f dir/Modelfile.tiny
//
// Every prompt format is <|user|>TEXT<|end|><|assistant|>. From a shell:
//
//	go run ./deploy/tinymodels/cmd/tinymodels -dir /tmp/models tiny tool
package tinymodels
