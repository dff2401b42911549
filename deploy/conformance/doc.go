// Package conformance holds the tests of one promise: a client of Ollama or of
// OpenAI's API cannot tell the mesh from one large Ollama.
//
// Some tests run meshes of fakes in one process; they are quick and need
// nothing. The others run the official clients and the real ollama command
// against a real Ollama and against a mesh, with the same assertions, and
// compare the two answer by answer; `make conformance` runs all.
package conformance
