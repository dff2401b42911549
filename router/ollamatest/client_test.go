package ollamatest

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// bubble is a fake server on a pipe in fake time.
type bubble struct {
	*Server
	t      *testing.T
	client *http.Client
}

// inBubble runs f with a server in a synctest bubble and closes it after.
func inBubble(t *testing.T, c Config, f func(*testing.T, *bubble)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s, pipe := New(c), NewPipe()
		s.Start(pipe)
		f(t, &bubble{s, t, pipe.Client()})
		s.Close()
	})
}

// reply is an answer as a client sees it.
type reply struct {
	status int
	header http.Header
	lines  []string // NDJSON lines or SSE data
	body   string   // as it came
	err    error    // from reading the body, or from the request itself
}

// do sends a request and reads all of its answer.
func do(ctx context.Context, client *http.Client, method, url, body string, header ...string) reply {
	req, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body))
	if err != nil {
		return reply{err: err}
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
		if header[i] == "Host" {
			req.Host = header[i+1]
		}
	}
	resp, err := client.Do(req)
	if err != nil {
		return reply{err: err}
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	r := reply{status: resp.StatusCode, header: resp.Header, body: string(b), err: err}
	lines := bufio.NewScanner(bytes.NewReader(b))
	lines.Buffer(nil, 64<<20)
	for lines.Scan() {
		line := strings.TrimPrefix(lines.Text(), "data: ")
		if line != "" && !strings.HasPrefix(line, "event: ") {
			r.lines = append(r.lines, line)
		}
	}
	return r
}

func (b *bubble) post(path, body string, header ...string) reply {
	b.t.Helper()
	return do(b.t.Context(), b.client, "POST", "http://ollama"+path, body, header...)
}

// answer posts and returns the text of the answer; anything unexpected is fatal.
func (b *bubble) answer(path, body string) string {
	b.t.Helper()
	r := b.post(path, body)
	if r.err != nil || r.status != 200 {
		b.t.Fatalf("%s: status %d, err %v: %s", path, r.status, r.err, r.body)
	}
	return r.text()
}

// record is any line of any dialect, as far as the tests look at it.
type record struct {
	Response string
	Thinking string
	Message  struct {
		Content, Thinking string
		ToolCalls         []toolCall `json:"tool_calls"`
	}
	Choices []struct {
		Text           string
		Delta, Message struct {
			Content, Reasoning string
			ToolCalls          []struct {
				Function struct{ Name, Arguments string }
			} `json:"tool_calls"`
		}
		FinishReason *string `json:"finish_reason"`
	}
	Delta json.RawMessage // an object in /v1/messages, a string in /v1/responses
	Type  string

	Done               bool
	DoneReason         string `json:"done_reason"`
	Error              json.RawMessage
	Context            []int64
	TotalDuration      time.Duration `json:"total_duration"`
	LoadDuration       time.Duration `json:"load_duration"`
	PromptEvalCount    int           `json:"prompt_eval_count"`
	PromptEvalDuration time.Duration `json:"prompt_eval_duration"`
	EvalCount          int           `json:"eval_count"`
	EvalDuration       time.Duration `json:"eval_duration"`
	Usage              struct {
		PromptTokens     int `json:"prompt_tokens"`
		CompletionTokens int `json:"completion_tokens"`
	}
}

func (r reply) records() []record {
	var out []record
	for _, line := range r.lines {
		var rec record
		if json.Unmarshal([]byte(line), &rec) == nil {
			out = append(out, rec)
		}
	}
	return out
}

func (r reply) last() record {
	recs := r.records()
	if len(recs) == 0 {
		return record{}
	}
	return recs[len(recs)-1]
}

// text joins the content of all records.
func (r reply) text() string {
	var b strings.Builder
	for _, rec := range r.records() {
		b.WriteString(rec.Response + rec.Message.Content)
		for _, c := range rec.Choices {
			b.WriteString(c.Text + c.Delta.Content + c.Message.Content)
		}
		var delta struct{ Text string }
		var plain string
		switch {
		case json.Unmarshal(rec.Delta, &delta) == nil:
			b.WriteString(delta.Text)
		case rec.Type == "response.output_text.delta" && json.Unmarshal(rec.Delta, &plain) == nil:
			b.WriteString(plain)
		}
	}
	return b.String()
}

func (r reply) thinking() string {
	var b strings.Builder
	for _, rec := range r.records() {
		b.WriteString(rec.Thinking + rec.Message.Thinking)
		for _, c := range rec.Choices {
			b.WriteString(c.Delta.Reasoning + c.Message.Reasoning)
		}
	}
	return b.String()
}

// body builds a JSON body from pairs of names and values.
func body(pairs ...any) string {
	m := map[string]any{}
	for i := 0; i < len(pairs); i += 2 {
		m[pairs[i].(string)] = pairs[i+1]
	}
	b, _ := json.Marshal(m)
	return string(b)
}

// greedy are options for reproducible answers.
var greedy = map[string]any{"temperature": 0}

// user is a conversation of one message.
func user(text string) []Message { return []Message{{Role: "user", Content: text}} }

// decodeLine reads JSON or fails the test.
func decodeLine(t *testing.T, line string, v any) {
	t.Helper()
	if err := json.Unmarshal([]byte(line), v); err != nil {
		t.Fatalf("%v: %s", err, line)
	}
}

// tcpClient is an HTTP client of its own, closed with the test.
func tcpClient(t testing.TB) *http.Client {
	tr := &http.Transport{MaxIdleConnsPerHost: 1000}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr}
}
