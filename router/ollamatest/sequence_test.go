package ollamatest

import (
	"fmt"
	"strings"
	"testing"
)

func TestEndingOf(t *testing.T) {
	const head = "<|user|>hi<|end|><|assistant|>"
	type want struct {
		head              string
		thinking, content int
		opened, closed    bool
	}
	for _, tt := range []struct {
		name, prompt string
		want         want
	}{
		{"fresh", head, want{head: head}},
		{"raw text", "once upon a time", want{head: "once upon a time"}},
		{"two tokens", head + " 1a2b-0 1a2b-1", want{head: head, content: 2}},
		{"raw text, two tokens", "once 1a2b-0 1a2b-1", want{head: "once", content: 2}},
		{"prefill of the user's", head + "Sure: 1a2b-0", want{head: head + "Sure:", content: 1}},
		{"cut in a token", head + " 1a2b-0 1a", want{head: head + " 1a2b-0 1a"}},
		{
			"earlier turn", head + " 1a2b-0<|end|><|user|>go on<|end|><|assistant|>",
			want{head: head + " 1a2b-0<|end|><|user|>go on<|end|><|assistant|>"},
		},
		{"thinking begun", head + "<think>", want{head: head, opened: true}},
		{"thinking", head + "<think> 1a2b-0 1a2b-1", want{head: head, thinking: 2, opened: true}},
		{"thought", head + "<think> 1a2b-0</think>", want{head: head, thinking: 1, opened: true, closed: true}},
		{
			"thought and said", head + "<think> 1a2b-0</think> ffff-0 ffff-1",
			want{head: head, thinking: 1, content: 2, opened: true, closed: true},
		},
		{"thinking forbidden", head + "<think></think>", want{head: head + "<think></think>"}},
		{"thinking forbidden, said", head + "<think></think> ffff-0", want{head: head + "<think></think>", content: 1}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e := endingOf(tt.prompt)
			if got := (want{e.head, e.thinking.next, e.content.next, e.opened, e.closed}); got != tt.want {
				t.Errorf("got  %+v\nwant %+v", got, tt.want)
			}
		})
	}
}

// The answer does not depend on where it was cut: every prefix of it leads to
// the same rest, on another server too, also inside the thinking block.
func TestContinuationIsExact(t *testing.T) {
	models := []Model{
		{Name: "plain", Answer: 20},
		{Name: "thinker", Answer: 10, ThinkTokens: 6, Capabilities: []string{"completion", "thinking"}},
	}
	for _, m := range models {
		t.Run(m.Name, func(t *testing.T) {
			other := New(Config{Models: models})
			inBubble(t, Config{Models: models}, func(t *testing.T, b *bubble) {
				head, err := other.Render(m.Name, Message{Role: "system", Content: "be brief"}, user("hi")[0])
				if err != nil {
					t.Fatal(err)
				}
				whole := b.answer("/api/generate", body("model", m.Name, "prompt", head, "raw", true, "options", greedy))
				if !strings.HasSuffix(whole, "-19") && !strings.HasSuffix(whole, "-9") {
					t.Fatalf("answer %q", whole)
				}
				cut := 0
				for rest := whole; rest != ""; {
					n := tokenLen(rest)
					rest, cut = rest[n:], cut+n
					if rest == "" {
						break
					}
					got := b.answer("/api/generate", body("model", m.Name, "prompt", head+whole[:cut], "raw", true, "options", greedy))
					if whole[:cut]+got != whole {
						t.Fatalf("cut at %d: %q continued with %q", cut, whole[:cut], got)
					}
				}
			})
		})
	}
}

func TestContinuationInTheMiddleOfATokenShows(t *testing.T) {
	inBubble(t, Config{Models: []Model{{Name: "m", Answer: 10}}}, func(t *testing.T, b *bubble) {
		head := "<|user|>hi<|end|><|assistant|>"
		whole := b.answer("/api/generate", body("model", "m", "prompt", head, "raw", true, "options", greedy))
		for cut := 1; cut < len(whole); cut++ {
			if answerLen(whole[cut:]) > 0 { // the end of a token
				continue
			}
			got := b.answer("/api/generate", body("model", "m", "prompt", head+whole[:cut], "raw", true, "options", greedy))
			if Check(whole[:cut]+got) == nil {
				t.Fatalf("cut at %d in a token: %q + %q passes", cut, whole[:cut], got)
			}
		}
	})
}

func TestSampledAnswers(t *testing.T) {
	inBubble(t, Config{Models: []Model{{Name: "m", Answer: 8}}}, func(t *testing.T, b *bubble) {
		ask := func(prompt string, options map[string]any) string {
			return b.answer("/api/generate", body("model", "m", "prompt", prompt, "raw", true, "options", options))
		}
		seeded := map[string]any{"seed": 7, "temperature": 0.8}
		whole := ask("hi", seeded)
		if again := ask("hi", seeded); again != whole {
			t.Errorf("the same seed gave %q and %q", whole, again)
		}
		if other := ask("hi", map[string]any{"seed": 8, "temperature": 0.8}); other == whole {
			t.Error("another seed gave the same answer")
		}
		if once, again := ask("hi", nil), ask("hi", nil); once == again {
			t.Error("two unseeded answers are equal")
		}
		if greedyA, greedyB := ask("hi", greedy), ask("hi", map[string]any{"top_k": 1, "seed": 3}); greedyA != greedyB {
			t.Error("top_k 1 is not greedy")
		}
		half := whole[:len(whole)/2]
		rest := ask("hi"+half, seeded)
		if half+rest == whole {
			t.Error("a continuation resumed the random sequence")
		}
		if a, err := Parse(half + rest); err != nil || a.Tokens != 8 || len(a.Chains) != 2 {
			t.Errorf("continued sample: %+v, %v", a, err)
		}
	})
}

// Versions differ in the default of repeat_penalty, so an answer of one is
// continued exactly by the other only when it is set.
func TestVersionsAgreeOnlyWithPinnedOptions(t *testing.T) {
	ask := func(t *testing.T, version string, options map[string]any) (text string) {
		inBubble(t, Config{Version: version, Models: []Model{{Name: "m", Answer: 5}}}, func(t *testing.T, b *bubble) {
			text = b.answer("/api/generate", body("model", "m", "prompt", "hi", "options", options))
		})
		return text
	}
	if ask(t, "0.9.6", greedy) == ask(t, "0.33.0", greedy) {
		t.Error("equal by default")
	}
	pinned := map[string]any{"temperature": 0, "repeat_penalty": 1.1}
	if a, b := ask(t, "0.9.6", pinned), ask(t, "0.33.0", pinned); a != b {
		t.Errorf("pinned: %q and %q", a, b)
	}
}

func TestExpectIsWhatTheServerSays(t *testing.T) {
	inBubble(t, Config{Models: []Model{{Name: "m", Answer: 5}}}, func(t *testing.T, b *bubble) {
		head, _ := b.Render("m", user("hi")...)
		want, err := b.Expect("m", head, 5)
		if err != nil {
			t.Fatal(err)
		}
		for path, request := range map[string]string{
			"/api/chat":            body("model", "m", "messages", user("hi"), "options", greedy),
			"/api/generate":        body("model", "m", "prompt", "hi", "options", greedy),
			"/v1/chat/completions": body("model", "m", "messages", user("hi"), "temperature", 0),
			"/v1/completions":      body("model", "m", "prompt", "hi", "temperature", 0, "stream", true),
		} {
			if got := b.answer(path, request); got != want {
				t.Errorf("%s: %q, want %q", path, got, want)
			}
		}
	})
}

// The ways to continue without raw mode.
func TestOtherWaysToContinue(t *testing.T) {
	models := []Model{{Name: "shut", Answer: 12}, {Name: "open", Answer: 12, OpenTurn: true}}
	inBubble(t, Config{Models: models}, func(t *testing.T, b *bubble) {
		first := b.post("/api/generate", body("model", "shut", "prompt", "hi", "options", map[string]any{"temperature": 0, "num_predict": 5}))
		whole := b.answer("/api/generate", body("model", "shut", "prompt", "hi", "options", greedy))
		k := len(first.text())
		check := func(way, got string) {
			t.Helper()
			if got != whole[k:] {
				t.Errorf("%s: got %q, want %q", way, got, whole[k:])
			}
		}

		e, _ := b.catalog.find("shut")
		check("template override", b.answer("/api/generate", body("model", "shut", "prompt", "hi", "options", greedy,
			"template", fmt.Sprintf("%s{{ %q }}", e.Template, whole[:k]))))

		ids := first.last().Context
		check("context array", b.answer("/api/generate", body("model", "shut", "prompt", decodeTokens(ids[len(ids)-1:]),
			"options", greedy, "context", ids[:len(ids)-1], "template", "{{ .Prompt }}")))

		r := b.post("/api/chat", body("model", "shut", "messages", user("hi"), "_debug_render_only", true))
		var info struct {
			Info struct {
				Rendered string `json:"rendered_template"`
			} `json:"_debug_info"`
		}
		decodeLine(t, r.body, &info)
		check("render, then raw", b.answer("/api/generate",
			body("model", "shut", "raw", true, "prompt", info.Info.Rendered+whole[:k], "options", greedy)))
	})
}

func TestTrailingAssistantMessage(t *testing.T) {
	for model, continues := range map[string]bool{"open": true, "shut": false} {
		inBubble(t, Config{Models: []Model{{Name: model, Answer: 12, OpenTurn: continues}}}, func(t *testing.T, b *bubble) {
			whole := b.answer("/api/chat", body("model", model, "messages", user("hi"), "options", greedy))
			half := whole[:strings.LastIndexByte(whole[:len(whole)/2], ' ')]
			got := b.answer("/api/chat", body("model", model, "options", greedy,
				"messages", append(user("hi"), Message{Role: "assistant", Content: half})))
			if (half+got == whole) != continues {
				t.Errorf("%s: %q + %q", model, half, got)
			}
		})
	}
}
