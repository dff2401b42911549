package fleet

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
)

// The turns of a conversation go where the turns before are cached: each reads
// only what is new. prompt_eval_count says so.
func TestConversationStaysWhereItIsCached(t *testing.T) {
	var specs []Spec
	for _, name := range []string{"a", "b", "c"} {
		m := small("m")
		m.Prefill = 40_000
		s := machine(name, 2, 2000, m)
		s.Ollama.UncachedPromptCount = true
		s.Ollama.ContextLength = 32768
		specs = append(specs, s)
	}
	f := startFleet(t, specs)
	type message struct {
		Role    string `json:"role"`
		Content string `json:"content"`
	}
	talk := []message{{"user", strings.Repeat("a long question ", 2000)}}
	first := ""
	for turn := range 5 {
		a, body := post(t.Context(), f.Node(0).Endpoint()+"/api/chat", map[string]any{
			"model": "m", "messages": talk, "stream": false, "options": map[string]any{"num_predict": 8, "temperature": 0},
		})
		if a.Err != nil {
			t.Fatal(a.Err)
		}
		var reply struct {
			Message    message `json:"message"`
			PromptEval int     `json:"prompt_eval_count"`
		}
		err := json.NewDecoder(body).Decode(&reply)
		_ = body.Close()
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("turn %d: %s read %d tokens", turn, a.Node, reply.PromptEval)
		if turn == 0 {
			first = a.Node
		} else if a.Node != first || reply.PromptEval > 2000 {
			t.Errorf("turn %d was answered by %s, not %s, and read %d tokens", turn, a.Node, first, reply.PromptEval)
		}
		talk = append(talk, reply.Message, message{"user", fmt.Sprint("and then, ", turn, "?")})
	}
}
