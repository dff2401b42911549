// Package router takes one request in and gives one answer out: it parses what
// it must, orders the members that can serve the request, forwards to the best,
// and moves on to the next when one fails.
//
// A [Router] is two HTTP handlers. [Router.Client] is what clients talk to, in
// the dialects of Ollama and OpenAI. [Router.Peer] is what other nodes forward
// to: it admits the request at the local gate, runs it on the local Ollama and
// never forwards it again, so that loops cannot exist.
//
// The invariant: a client gets a whole answer, or an error in its own dialect
// and a connection that does not end cleanly. It never gets a cut answer that
// looks whole.
package router
