// Package realollama starts real Ollama servers for tests, with the models of
// package tinymodels.
//
// The invariant: a server is the test's alone. It has its own home, its own
// model directory and a port of its own, none of them the user's, and the end
// of the test ends it and its runners.
//
//	o := realollama.Start(t, realollama.Options{Models: []string{"tiny", "big"}})
//	resp, err := o.Client().Post(o.URL+"/api/generate", "application/json", body)
//	o.Kill()    // as a crash: the server and its runners at once
//	o.Restart() // at the same address, with the same models
//
// On a host of the lab it listens where an Ollama of that host would:
//
//	o := realollama.Start(t, realollama.Options{On: l.Node(1), Models: []string{"tiny"}})
//
// `make ollama` builds the server from its Go module into the user's cache,
// and KAGE_TEST_OLLAMA names another. Without one the test is skipped with a
// line that says so; with CI=true it fails, and with -short it is skipped.
//
// Each model is created once per Ollama and kept in the cache, under a key
// that changes with the generator; servers link its files.
package realollama
