// Package ollamatest is a fake Ollama server that behaves like a real one
// where a load balancer can tell: wire formats, defaults, error texts, slots
// and queues, cold loads, memory and eviction, cancellation, and the ways in
// which a server dies in the middle of an answer. It needs no GPU, no model
// files and hardly any CPU, so tests, benchmarks and the demo command can run
// hundreds of paced streams on a laptop.
//
// Its one invariant: an answer is a numbered sequence that depends only on the
// model, the rendered prompt and the sampling options, never on the server
// that gave it. Two fakes give the same answer to the same request, and a
// prompt that ends with the first k tokens of an answer is continued with
// token k+1. Lost, doubled or reordered text therefore shows: see [Check].
//
//	func TestForward(t *testing.T) {
//		ollama := ollamatest.Start(t, ollamatest.Config{
//			Models: []ollamatest.Model{{Name: "llama3.2", Size: 2 << 30, Decode: 50, Load: time.Second}},
//		})
//		ollama.Fault(ollamatest.Fault{Kind: ollamatest.Die, After: 3}) // reset the next stream after 3 tokens
//		text := generate(t, ollama.URL(), "llama3.2", "hello")         // the code under test
//		if err := ollamatest.Check(text); err != nil {
//			t.Error(err)
//		}
//	}
//
// Time comes from package time only, so a server made inside a testing/synctest
// bubble and served on an in-memory listener runs in fake time.
//
// DESIGN.md beside this file says what is faithful to which Ollama version and
// what is simplified.
package ollamatest
