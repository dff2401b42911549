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
	"path"
	"slices"
	"strings"
	"testing"
	"time"
)

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
	first   time.Duration // until the first token
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
	asked := time.Now()
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
			if s.tokens++; s.tokens == 1 {
				s.first = time.Since(asked)
			}
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
	f := newFleet(t, 4, "mid")
	var gaps []time.Duration
	for _, d := range dialects("mid", tokens) {
		t.Run(path.Base(d.path), func(t *testing.T) {
			want := f.speak(d, 0, nil)
			if want.err != nil || !want.end || want.output != tokens {
				t.Fatalf("unbroken: %+v", want)
			}
			before := len(gaps)
			for i := range rounds {
				k := 1 + i*(tokens-3)/(rounds-1)
				if gap, ok := f.killed(t, d, k, want); ok {
					gaps = append(gaps, gap)
				}
			}
			t.Logf("%s: %d of %d are byte-identical", d.path, len(gaps)-before, rounds)
		})
	}
	f.replace(nil)
	logGaps(t, "while the node killed before restarts on the same processors", gaps)
	t.Run("gap", func(t *testing.T) {
		d := dialects("mid", tokens)[1]
		var gaps, firsts []time.Duration
		for range 10 {
			want := f.speak(d, 0, nil)
			firsts = append(firsts, want.first)
			if gap, ok := f.killed(t, d, 30, want); ok {
				gaps = append(gaps, gap)
			}
			f.replace(nil) // nothing else happens
		}
		slices.Sort(firsts)
		t.Logf("a whole request's first token takes %v here now", firsts[len(firsts)/2])
		logGaps(t, "with the model warm elsewhere", gaps)
	})
}

func logGaps(t *testing.T, when string, gaps []time.Duration) {
	t.Helper()
	if len(gaps) == 0 {
		return
	}
	slices.Sort(gaps)
	t.Logf("silence from the kill to the next token, %s: p50 %v, p90 %v, max %v (%d kills)",
		when, gaps[len(gaps)/2], gaps[len(gaps)*9/10], gaps[len(gaps)-1], len(gaps))
}

// killed kills whoever answers after k pieces; ok when the client has got all
// the same what it wants.
func (f *fleet) killed(t *testing.T, d dialect, k int, want spoken) (gap time.Duration, ok bool) {
	t.Helper()
	var dead *owner
	f.hold(k)
	got := f.speak(d, k, func(node string) {
		dead = f.named(node)
		dead.kill()
	})
	f.let()
	switch {
	case got.err != nil || !got.end || len(got.reasons) != 1:
		t.Errorf("killed after %d: %+v", k, got)
	case got.path == "" || dead == nil:
		t.Errorf("killed after %d: it was not continued: %+v", k, got)
	case got.text != want.text:
		t.Errorf("killed after %d (%s, begun by %s): got\n%q, want\n%q", k, got.path, got.node, got.text, want.text)
	case got.output != want.output || got.reasons[0] != want.reasons[0]:
		t.Errorf("killed after %d: ended %v with %d tokens, want %v with %d", k, got.reasons, got.output, want.reasons, want.output)
	default:
		ok = true
	}
	f.replace(dead)
	return got.gap, ok
}

// The same for a machine that is cut off without a word: no reset arrives, and
// the ingress must find out by itself.
func TestABlackHoledNodesAnswerGoesOnWithinFiveSeconds(t *testing.T) {
	const tokens, k = 60, 20
	f := newFleet(t, 2, "mid")
	for _, d := range dialects("mid", tokens) {
		want := f.speak(d, 0, nil)
		if want.err != nil || want.output != tokens {
			t.Fatalf("%s, unbroken: %+v", d.path, want)
		}
		f.hold(k)
		got := f.speak(d, k, func(node string) {
			f.lab.BlackHole(f.named(node).Index())
			f.let() // it writes on, into the hole
		})
		if got.err != nil || !got.end || got.text != want.text || got.output != tokens || got.path == "" {
			t.Errorf("%s: %+v, want %q", d.path, got, want.text)
		}
		t.Logf("%s: %.2f s of silence", d.path, got.gap.Seconds())
		if got.gap > 5*time.Second {
			t.Errorf("%s: %v of silence", d.path, got.gap)
		}
		f.lab.Heal()
		f.serving(2)
	}
}

// A node that is drained at once hands its answers over: the same to the byte,
// and nobody has died.
func TestADrainedNodesAnswerIsTheSameToTheByte(t *testing.T) {
	const tokens = 60
	f := newFleet(t, 2, "mid")
	for _, d := range dialects("mid", tokens) {
		want := f.speak(d, 0, nil)
		if want.err != nil || want.output != tokens {
			t.Fatalf("%s, unbroken: %+v", d.path, want)
		}
		for _, k := range []int{1, 30, 58} {
			f.hold(k)
			drained := ""
			got := f.speak(d, k, func(node string) {
				drained = node
				f.ingress.run("drain", "--now", node)
				f.let()
			})
			f.let()
			if got.err != nil || !got.end || got.text != want.text || got.output != tokens || got.path == "" {
				t.Errorf("%s, drained after %d: %+v, want %q", d.path, k, got, want.text)
			}
			t.Logf("%s, drained after %d: %.2f s of silence", d.path, k, got.gap.Seconds())
			f.ingress.run("undrain", drained)
		}
	}
	// The log comes in pieces, a moment after what it tells of.
	await(t, 5*time.Second, "nine answers that were handed over", func() bool {
		return strings.Count(f.ingress.Proc.Stderr.String(), "owner drains") >= 9
	})
	if log := f.ingress.Proc.Stderr.String(); strings.Contains(log, `"phase":"stream","err":"unexpected`) {
		t.Errorf("the ingress took it for something else:\n%s", log)
	}
}
