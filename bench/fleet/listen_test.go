package fleet_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/bench/fleet"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh/hardware"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/ollamatest"
)

// heard is a stream as a client of any dialect understands it.
type heard struct {
	status   int
	node     string // who began it
	text     string
	thinking string
	calls    int
	reasons  []string // why it ended, as often as it said so
	marks    int      // [DONE], done:true, message_stop
	ids      map[string]bool
	prompt   int // tokens, as the end says
	output   int
	note     string // how it was continued, "" not
	failure  string // an error in the dialect
	err      error  // how the body ended
	frames   []string
	third    func() // is told of the third frame
}

// whole reports, by nil, whether it is one whole answer.
func (h heard) whole() error {
	switch {
	case h.status != http.StatusOK:
		return fmt.Errorf("status %d", h.status)
	case h.failure != "":
		return fmt.Errorf("error %q", h.failure)
	case h.err != nil:
		return h.err
	case h.marks != 1 || len(h.reasons) != 1:
		return fmt.Errorf("%d end marks, reasons %q", h.marks, h.reasons)
	case len(h.ids) > 1:
		return fmt.Errorf("%d ids", len(h.ids))
	}
	return nil
}

// broken reports, by nil, whether it ended in a clear error and not cleanly.
func (h heard) broken() error {
	switch {
	case h.marks > 0:
		return fmt.Errorf("it has an end mark")
	case h.failure == "":
		return fmt.Errorf("it has no error of its dialect")
	case h.err == nil:
		return fmt.Errorf("its body ends cleanly")
	}
	return nil
}

// listen sends a request and reads its stream to the end.
func listen(ctx context.Context, endpoint, path string, body map[string]any, header ...string) heard {
	h := heard{third: func() {}}
	h.listen(ctx, endpoint, path, body, header...)
	return h
}

func (h *heard) listen(ctx context.Context, endpoint, path string, body map[string]any, header ...string) {
	h.ids = map[string]bool{}
	data, err := json.Marshal(body)
	if err != nil {
		h.err = err
		return
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, endpoint+path, bytes.NewReader(data))
	if err != nil {
		h.err = err
		return
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := client.Do(req)
	if err != nil {
		h.err = err
		return
	}
	defer resp.Body.Close()
	h.status, h.node = resp.StatusCode, resp.Header.Get("X-Kage-Node")
	if h.status != http.StatusOK {
		text, _ := io.ReadAll(resp.Body)
		h.failure = string(text)
		return
	}
	h.read(resp.Body)
}

// client has no limit on connections: hundreds of streams run at once.
var client = &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 600}}

func (h *heard) read(body io.Reader) {
	in := bufio.NewReader(body)
	for {
		line, err := in.ReadString('\n')
		if line = strings.TrimRight(line, "\n"); line != "" {
			h.line(line)
		}
		if err != nil {
			if err != io.EOF {
				h.err = err
			}
			return
		}
	}
}

func (h *heard) line(line string) {
	if h.frames = append(h.frames, line); len(h.frames) == 3 {
		h.third()
	}
	switch {
	case strings.HasPrefix(line, ": "):
		h.note = line
		return
	case strings.HasPrefix(line, "event:"):
		return
	case line == "data: [DONE]":
		h.marks++
		return
	}
	var m struct {
		ID         string
		Model      string
		Response   any // a text, but for the Responses API
		Thinking   string
		Message    json.RawMessage // also the text of an error
		ToolCalls  []any           `json:"tool_calls"`
		Done       bool
		DoneReason string `json:"done_reason"`
		Prompt     int    `json:"prompt_eval_count"`
		Output     int    `json:"eval_count"`
		Kage       *struct {
			Continued int
			Path      string
		}
		Choices []struct {
			Text  string
			Delta struct {
				Content, Reasoning string
				ToolCalls          []any `json:"tool_calls"`
			}
			FinishReason *string `json:"finish_reason"`
		}
		Usage *struct {
			Prompt     int `json:"prompt_tokens"`
			Completion int `json:"completion_tokens"`
			Output     int `json:"output_tokens"`
		}
		Type  string
		Delta json.RawMessage
		Error any
	}
	if err := json.Unmarshal([]byte(strings.TrimPrefix(line, "data: ")), &m); err != nil {
		h.err = fmt.Errorf("frame %q: %w", line, err)
		return
	}
	if m.ID != "" {
		h.ids[m.ID] = true
	}
	var message struct {
		Content   any // a text, but for the Messages API
		Thinking  string
		ToolCalls []any `json:"tool_calls"`
	}
	_ = json.Unmarshal(m.Message, &message)
	content, _ := message.Content.(string)
	response, _ := m.Response.(string)
	h.text += response + content
	h.thinking += m.Thinking + message.Thinking
	h.calls += len(m.ToolCalls) + len(message.ToolCalls)
	for _, c := range m.Choices {
		h.text += c.Text + c.Delta.Content
		h.thinking += c.Delta.Reasoning
		h.calls += len(c.Delta.ToolCalls)
		if c.FinishReason != nil {
			h.reasons = append(h.reasons, *c.FinishReason)
		}
	}
	if m.Done {
		h.marks++
		h.reasons = append(h.reasons, m.DoneReason)
		h.prompt, h.output = m.Prompt, m.Output
	}
	if m.Kage != nil {
		h.note = fmt.Sprintf("%d %s", m.Kage.Continued, m.Kage.Path)
	}
	if m.Usage != nil && m.Usage.Completion+m.Usage.Output > 0 {
		h.prompt, h.output = m.Usage.Prompt, m.Usage.Completion+m.Usage.Output
	}
	h.event(m.Type, m.Delta)
	switch e := m.Error.(type) {
	case string:
		h.failure = e
	case map[string]any:
		h.failure = fmt.Sprint(e["message"])
	}
}

// event reads an event of the Messages and Responses APIs.
func (h *heard) event(kind string, delta json.RawMessage) {
	var d struct {
		Text, Thinking string
		StopReason     string `json:"stop_reason"`
	}
	switch kind {
	case "content_block_delta", "message_delta":
		_ = json.Unmarshal(delta, &d)
		h.text += d.Text
		h.thinking += d.Thinking
		if d.StopReason != "" {
			h.reasons = append(h.reasons, d.StopReason)
		}
	case "message_stop":
		h.marks++
	case "response.output_text.delta":
		var text string
		_ = json.Unmarshal(delta, &text)
		h.text += text
	case "response.completed":
		h.marks++
		h.reasons = append(h.reasons, "completed")
	}
}

// routes are the streaming routes with a request for each. The text of the
// prompt and the options are the same.
var routes = []struct {
	name, path string
	request    func(model string, tokens int, more map[string]any) map[string]any
}{
	{"generate", "/api/generate", func(model string, tokens int, more map[string]any) map[string]any {
		return native(map[string]any{"model": model, "prompt": "tell me", "system": "be brief"}, tokens, more)
	}},
	{"chat", "/api/chat", func(model string, tokens int, more map[string]any) map[string]any {
		return native(map[string]any{"model": model, "messages": conversation}, tokens, more)
	}},
	{"v1-chat", "/v1/chat/completions", func(model string, tokens int, more map[string]any) map[string]any {
		return v1(map[string]any{"model": model, "messages": conversation}, tokens, more)
	}},
	{"v1-completions", "/v1/completions", func(model string, tokens int, more map[string]any) map[string]any {
		return v1(map[string]any{"model": model, "prompt": "tell me"}, tokens, more)
	}},
	{"v1-messages", "/v1/messages", func(model string, tokens int, more map[string]any) map[string]any {
		body := map[string]any{"model": model, "messages": conversation[1:], "system": "be brief", "max_tokens": tokens, "stream": true, "temperature": 0}
		return with(body, more)
	}},
	{"v1-responses", "/v1/responses", func(model string, tokens int, more map[string]any) map[string]any {
		body := map[string]any{"model": model, "input": "tell me", "instructions": "be brief", "max_output_tokens": tokens, "stream": true, "temperature": 0}
		return with(body, more)
	}},
}

var conversation = []map[string]any{
	{"role": "system", "content": "be brief"},
	{"role": "user", "content": "hello"},
	{"role": "assistant", "content": "hello to you"},
	{"role": "user", "content": "tell me"},
}

// native puts options where Ollama's own routes have them.
func native(body map[string]any, tokens int, more map[string]any) map[string]any {
	options := map[string]any{"temperature": 0}
	if tokens > 0 {
		options["num_predict"] = tokens
	}
	for k, v := range more {
		switch k {
		case "temperature", "seed", "stop", "num_predict", "repeat_penalty":
			if options[k] = v; v == nil {
				delete(options, k)
			}
		default:
			body[k] = v
		}
	}
	body["options"] = options
	return body
}

func v1(body map[string]any, tokens int, more map[string]any) map[string]any {
	body["stream"], body["temperature"] = true, 0
	body["stream_options"] = map[string]any{"include_usage": true}
	if tokens > 0 {
		body["max_tokens"] = tokens
	}
	return with(body, more)
}

// with adds members to a body; nil takes one away.
func with(body, more map[string]any) map[string]any {
	for k, v := range more {
		if body[k] = v; v == nil {
			delete(body, k)
		}
	}
	return body
}

// box is the hardware of every owner: room for anything.
func box() hardware.Inventory { return fleet.Seed(1)[0].Hardware }

// owner is a node with a fake Ollama.
func owner(name, version string, parallel int, models ...ollamatest.Model) fleet.Spec {
	return fleet.Spec{Name: name, Hardware: box(), Ollama: &ollamatest.Config{
		Name: name, Version: version, Parallel: parallel, Models: models,
	}}
}

// byName asks the nodes in the order of their names, so that a test knows who
// is asked first and who then.
func byName(q router.Request, s router.Snapshot) []router.Candidate {
	cs := router.Select(q, s)
	slices.SortFunc(cs, func(a, b router.Candidate) int { return strings.Compare(a.Name, b.Name) })
	return cs
}

// patience is for what is no promise about time: a test that waits so long has
// found something that does not happen, however busy the machine.
const patience = 5 * time.Minute

// start runs an ingress without Ollama and owners behind it.
func start(t *testing.T, policy router.Policy, owners ...fleet.Spec) *fleet.Fleet {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	f, err := fleet.Start(ctx, append([]fleet.Spec{{Name: "ingress"}}, owners...), fleet.Options{Policy: policy})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.Close)
	return f
}

// struck sends a request that node is asked first, and has the fault strike.
func struck(t *testing.T, f *fleet.Fleet, node int, fault ollamatest.Fault, path string, body map[string]any, header ...string) heard {
	t.Helper()
	fault.Path = path
	before := f.Node(node).Ollama.Stats().Faults
	remove := f.Node(node).Ollama.Fault(fault)
	defer remove()
	h := listen(t.Context(), f.Node(0).Endpoint(), path, body, header...)
	if f.Node(node).Ollama.Stats().Faults == before {
		t.Fatalf("the fault did not strike: %+v", h)
	}
	return h
}
