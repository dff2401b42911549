//go:build linux

package e2e

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/deploy/lab"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/deploy/need"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/deploy/realollama"
)

// fleet is an ingress without Ollama and three owners with the same models, so
// that one can be dead or coming back while the others serve.
type fleet struct {
	t       *testing.T
	lab     *lab.Lab
	ingress *host
	owners  []*owner
	models  []string
}

type owner struct {
	*host
	ollama *realollama.Ollama
}

func newFleet(t *testing.T, owners int, models ...string) *fleet {
	t.Helper()
	need.NotShort(t, "hosts with real Ollamas")
	f := &fleet{t: t, lab: lab.Up(t, owners+1), models: models}
	for i := 1; i <= owners; i++ {
		o := &owner{host: newHost(t, f.lab.Node(i))}
		o.ollama = realollama.Start(t, realollama.Options{On: f.lab.Node(i), Models: models})
		f.owners = append(f.owners, o)
	}
	f.ingress = newHost(t, f.lab.Node(owners+1))
	f.ingress.join()
	for _, o := range f.owners {
		o.join()
	}
	f.ready()
	return f
}

// ready waits until the ingress knows every owner with its models, and has
// every model warm in every Ollama.
func (f *fleet) ready() {
	f.t.Helper()
	var wait sync.WaitGroup
	for _, o := range f.owners {
		wait.Go(func() {
			for _, m := range f.models {
				r := askURL(f.t.Context(), o.HTTPClient(), o.ollama.URL+"/api/generate", map[string]any{
					"model": m, "prompt": "warm", "keep_alive": -1, "options": map[string]any{"num_predict": 1},
				})
				if r.err != nil {
					f.t.Errorf("%s: %v", o, r.err)
				}
			}
		})
	}
	wait.Wait()
	await(f.t, 30*time.Second, "every owner known with its warm models", func() bool {
		m, _ := f.ingress.members()
		n := 0
		for _, member := range m.Members {
			if member.Status == "alive" && member.Ollama != "" && len(member.Models) == len(f.models) {
				n++
			}
		}
		return n == len(f.owners)
	})
}

// named is the owner with that name.
func (f *fleet) named(name string) *owner {
	for _, o := range f.owners {
		if o.String() == name {
			return o
		}
	}
	f.t.Fatalf("nobody is called %q", name)
	return nil
}

// kill ends a node and its Ollama at once, as a crash of the machine's user
// space would.
func (o *owner) kill() {
	o.proc.Kill()
	o.ollama.Kill()
}

// revive starts both again.
func (o *owner) revive() {
	o.ollama.Restart()
	o.host.join()
}

// dialect is a streaming route with a request for it.
type dialect struct {
	path string
	body map[string]any
}

var talk = []map[string]any{
	{"role": "system", "content": "you speak in words"},
	{"role": "user", "content": "hello there"},
	{"role": "assistant", "content": " well hello"},
	{"role": "user", "content": "say more & <more>"},
}

func dialects(model string, tokens int) []dialect {
	options := map[string]any{"temperature": 0, "num_predict": tokens}
	return []dialect{
		{"/api/generate", map[string]any{"model": model, "prompt": "hello", "options": options}},
		{"/api/chat", map[string]any{"model": model, "messages": talk, "options": options}},
		{"/v1/chat/completions", map[string]any{
			"model": model, "messages": talk, "stream": true, "temperature": 0, "max_tokens": tokens,
			"stream_options": map[string]any{"include_usage": true},
		}},
	}
}

// spoken is a stream as it was read.
type spoken struct {
	node    string
	text    string
	tokens  int // frames with text
	reasons []string
	end     bool // the dialect's end mark
	output  int  // tokens, as the end says
	path    string
	err     error
	gap     time.Duration // the longest silence after the call of at
}

// speak streams one answer and calls at after k frames with text.
func (f *fleet) speak(d dialect, k int, at func(node string)) (s spoken) {
	data, err := json.Marshal(d.body)
	if err != nil {
		return spoken{err: err}
	}
	ctx, cancel := context.WithTimeout(f.t.Context(), 2*time.Minute)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://127.0.0.1:11435"+d.path, bytes.NewReader(data))
	if err != nil {
		return spoken{err: err}
	}
	resp, err := f.ingress.HTTPClient().Do(req)
	if err != nil {
		return spoken{err: err}
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return spoken{err: errors.New(resp.Status)}
	}
	s.node = resp.Header.Get("X-Kage-Node")
	var latest time.Time // when the newest token after that came
	in := bufio.NewReader(resp.Body)
	for {
		line, err := in.ReadString('\n')
		if text := s.line(strings.TrimSpace(line)); text != "" {
			s.text += text
			s.tokens++
			if !latest.IsZero() {
				s.gap = max(s.gap, time.Since(latest))
				latest = time.Now()
			}
			if s.tokens == k {
				latest = time.Now()
				at(s.node)
			}
		}
		if err == io.EOF {
			return s
		}
		if err != nil {
			s.err = err
			return s
		}
	}
}

// line reads one line of a stream and returns its text.
func (s *spoken) line(line string) string {
	switch {
	case line == "":
		return ""
	case strings.HasPrefix(line, ": "):
		s.path = line
		return ""
	case line == "data: [DONE]":
		s.end = true
		return ""
	}
	var m struct {
		Response   string
		Message    struct{ Content string }
		Done       bool
		DoneReason string `json:"done_reason"`
		EvalCount  int    `json:"eval_count"`
		Kage       *struct{ Path string }
		Choices    []struct {
			Delta        struct{ Content string }
			FinishReason *string `json:"finish_reason"`
		}
		Usage *struct {
			Completion int `json:"completion_tokens"`
		}
		Error any
	}
	if err := json.Unmarshal([]byte(strings.TrimPrefix(line, "data: ")), &m); err != nil {
		s.err = fmt.Errorf("line %q: %w", line, err)
		return ""
	}
	if m.Error != nil {
		s.err = fmt.Errorf("in the stream: %v", m.Error)
	}
	text := m.Response + m.Message.Content
	for _, c := range m.Choices {
		text += c.Delta.Content
		if c.FinishReason != nil {
			s.reasons = append(s.reasons, *c.FinishReason)
		}
	}
	if m.Done {
		s.end, s.output = true, m.EvalCount
		s.reasons = append(s.reasons, m.DoneReason)
	}
	if m.Kage != nil {
		s.path = m.Kage.Path
	}
	if m.Usage != nil && m.Usage.Completion > 0 {
		s.output = m.Usage.Completion
	}
	return text
}

// The promise of the product: the machine that answers dies, and the answer is
// the same to the byte as without that.
func TestAKilledNodesAnswerIsTheSameToTheByte(t *testing.T) {
	const tokens, rounds = 60, 20
	f := newFleet(t, 3, "mid")
	var gaps []time.Duration
	for _, d := range dialects("mid", tokens) {
		want := f.speak(d, 0, nil)
		if want.err != nil || !want.end || want.output != tokens {
			t.Fatalf("%s, unbroken: %+v", d.path, want)
		}
		same := 0
		for i := range rounds {
			k := 1 + i*(tokens-3)/(rounds-1)
			var dead *owner
			got := f.speak(d, k, func(node string) {
				dead = f.named(node)
				dead.kill()
			})
			switch {
			case got.err != nil || !got.end || len(got.reasons) != 1:
				t.Errorf("%s killed after %d: %+v", d.path, k, got)
			case got.text != want.text:
				t.Errorf("%s killed after %d (%s): got\n%q, want\n%q", d.path, k, got.path, got.text, want.text)
			case got.output != want.output || got.reasons[0] != want.reasons[0]:
				t.Errorf("%s killed after %d: ended %v with %d tokens, want %v with %d", d.path, k, got.reasons, got.output, want.reasons, want.output)
			case got.path == "":
				t.Errorf("%s killed after %d: it was not continued, so the kill came too late to test anything", d.path, k)
			default:
				same++
				gaps = append(gaps, got.gap)
			}
			if dead != nil {
				dead.revive()
				f.ready()
			}
		}
		t.Logf("%s: %d of %d are byte-identical", d.path, same, rounds)
	}
	if len(gaps) == 0 {
		return
	}
	slices.Sort(gaps)
	t.Logf("silence after the kill: p50 %v, p90 %v, most %v (%d kills)",
		gaps[len(gaps)/2], gaps[len(gaps)*9/10], gaps[len(gaps)-1], len(gaps))
}

// The same for a machine that is cut off without a word: no reset arrives, and
// the ingress must find out by itself.
func TestABlackHoledNodesAnswerGoesOnWithinFiveSeconds(t *testing.T) {
	const tokens = 60
	f := newFleet(t, 2, "mid")
	for _, d := range dialects("mid", tokens) {
		want := f.speak(d, 0, nil)
		if want.err != nil || want.output != tokens {
			t.Fatalf("%s, unbroken: %+v", d.path, want)
		}
		got := f.speak(d, 20, func(node string) { f.lab.BlackHole(f.named(node).Index()) })
		if got.err != nil || !got.end || got.text != want.text || got.output != tokens || got.path == "" {
			t.Errorf("%s: %+v, want %q", d.path, got, want.text)
		}
		t.Logf("%s: %.2f s of silence", d.path, got.gap.Seconds())
		if got.gap > 5*time.Second {
			t.Errorf("%s: %v of silence", d.path, got.gap)
		}
		f.lab.Heal()
		f.ready()
	}
}
