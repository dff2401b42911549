package fleet_test

import (
	"fmt"
	"testing"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/ollamatest"
)

// Every way in which an answer can break off, after any number of tokens, in
// every dialect, on Ollamas that tell their prompt and on those that do not:
// the client has one whole answer, the same as without the break.
func TestABrokenAnswerGoesOn(t *testing.T) {
	const tokens = 40
	for _, version := range []string{"0.11.4", "0.33.0"} {
		t.Run(version, func(t *testing.T) {
			f := start(t, byName,
				owner("a", version, 4, ollamatest.Model{Name: "m", Size: 1 << 20}),
				owner("b", version, 4, ollamatest.Model{Name: "m", Size: 1 << 20}))
			for _, r := range routes {
				if version == "0.11.4" && (r.name == "v1-messages" || r.name == "v1-responses") {
					continue // it does not have them
				}
				body := r.request("m", tokens, nil)
				want := listen(t.Context(), f.Node(0).Endpoint(), r.path, body)
				if err := want.whole(); err != nil || ollamatest.Verify(want.text, tokens) != nil {
					t.Fatalf("%s, unbroken: %v, %q", r.name, err, want.text)
				}
				for _, k := range []int{1, 2, 17, 39, 40} {
					for _, fault := range []ollamatest.Fault{
						{Kind: ollamatest.Die, After: k},
						{Kind: ollamatest.Die, After: k, Half: true},
						{Kind: ollamatest.CleanEOF, After: k},
						{Kind: ollamatest.ErrorLine, After: k},
						{Kind: ollamatest.Crash, After: k},
					} {
						t.Run(fmt.Sprintf("%s/%s half=%v after %d", r.name, fault.Kind, fault.Half, k), func(t *testing.T) {
							got := struck(t, f, 1, fault, r.path, body)
							if err := got.whole(); err != nil {
								t.Fatalf("%v: %+v", err, got)
							}
							if got.text != want.text {
								t.Errorf("got %q, want %q", got.text, want.text)
							}
							if got.prompt != want.prompt || got.output != want.output {
								// Nobody has counted the prompt of an answer that ends here.
								if k < tokens || got.output != want.output {
									t.Errorf("counts %d and %d, want %d and %d", got.prompt, got.output, want.prompt, want.output)
								}
							}
							if got.note == "" && r.name != "v1-messages" && r.name != "v1-responses" {
								t.Error("nothing says that it was continued")
							}
						})
					}
				}
			}
			if c := f.Node(0).Router().Continued(); c.Lost != 0 || c.Whole == 0 || c.Breaks[router.ContinuedKey{Cause: "reset", Path: "exact"}] == 0 {
				t.Errorf("counted %+v", c)
			}
		})
	}
}

// Answers come in a crowd when a node dies: the next one asks its Ollama what a
// model is only once.
func TestAModelIsDescribedOnce(t *testing.T) {
	m := ollamatest.Model{Name: "m", Size: 1 << 20}
	f := start(t, byName, owner("a", "0.33.0", 4, m), owner("b", "0.33.0", 4, m))
	r, b := routeNamed("chat"), f.Node(2)
	shows := func() int { return b.Ollama.Stats().Requests["POST /api/show"] }
	before := shows()
	for range 6 {
		h := struck(t, f, 1, ollamatest.Fault{Kind: ollamatest.Die, After: 5}, r.path, r.request("m", 20, nil))
		if err := h.whole(); err != nil || ollamatest.Verify(h.text, 20) != nil {
			t.Fatalf("%v: %+v", err, h)
		}
	}
	if n := shows() - before; n > 1 {
		t.Errorf("asked %d times", n)
	}
}
