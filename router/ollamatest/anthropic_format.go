package ollamatest

import (
	"fmt"
	"strconv"
)

// anthropicFormat is the dialect of /v1/messages.
type anthropicFormat struct {
	id       string
	model    string // quoted
	estimate int    // input tokens, before they are known
	begun    bool
	open     string // type of the open content block, "" = none
	index    int    // of the open or next block
	called   bool
}

func (*anthropicFormat) streamType() string { return "text/event-stream" }

// event appends one event with its data.
func event(b []byte, name string, format string, args ...any) []byte {
	b = append(b, "event: "+name+"\ndata: "...)
	b = fmt.Appendf(b, format, args...)
	return append(b, "\n\n"...)
}

// start appends message_start, once.
func (a *anthropicFormat) start(b []byte) []byte {
	if a.begun {
		return b
	}
	a.begun = true
	return event(b, "message_start", `{"type":"message_start","message":{"id":%q,"type":"message","role":"assistant","model":%s,`+
		`"content":[],"usage":{"input_tokens":%d,"output_tokens":0}}}`, a.id, a.model, a.estimate)
}

// block makes the given block the open one.
func (a *anthropicFormat) block(b []byte, kind, start string) []byte {
	if a.open == kind {
		return b
	}
	b = a.stop(a.start(b))
	a.open = kind
	return event(b, "content_block_start", `{"type":"content_block_start","index":%d,"content_block":%s}`, a.index, start)
}

// stop closes the open block, if any.
func (a *anthropicFormat) stop(b []byte) []byte {
	if a.open == "" {
		return b
	}
	a.open = ""
	a.index++
	return event(b, "content_block_stop", `{"type":"content_block_stop","index":%d}`, a.index-1)
}

func (a *anthropicFormat) token(b []byte, k kind, text []byte) []byte {
	what, field := "text_delta", "text"
	if k == thinking {
		b = a.block(b, "thinking", `{"type":"thinking","thinking":""}`)
		what, field = "thinking_delta", "thinking"
	} else {
		b = a.block(b, "text", `{"type":"text","text":""}`)
	}
	b = append(b, "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":"...)
	b = strconv.AppendInt(b, int64(a.index), 10)
	b = append(b, `,"delta":{"type":"`+what+`","`+field+`":`...)
	return append(appendString(b, text), "}}\n\n"...)
}

func (a *anthropicFormat) tools(b []byte, calls []toolCall) []byte {
	a.called = true
	for _, call := range calls {
		b = a.block(b, call.ID, `{"type":"tool_use","id":`+quote(call.ID)+`,"name":`+quote(call.Function.Name)+`,"input":{}}`)
		b = event(b, "content_block_delta", `{"type":"content_block_delta","index":%d,"delta":{"type":"input_json_delta","partial_json":%s}}`,
			a.index, quote(call.Function.Arguments.String()))
		b = a.stop(b)
	}
	return b
}

func (a *anthropicFormat) end(b []byte, f *final) []byte {
	b = a.stop(a.start(b))
	b = event(b, "message_delta", `{"type":"message_delta","delta":{"stop_reason":%q},"usage":{"input_tokens":%d,"output_tokens":%d}}`,
		a.stopReason(f.reason), f.promptN, f.evalN)
	return event(b, "message_stop", `{"type":"message_stop"}`)
}

// stopReason translates done_reason.
func (a *anthropicFormat) stopReason(reason string) string {
	switch {
	case a.called:
		return "tool_use"
	case reason == "length":
		return "max_tokens"
	}
	return "end_turn"
}

// broken says nothing: Ollama reads the error record as an empty chat record.
func (a *anthropicFormat) broken(b []byte, _ string) []byte { return a.start(b) }

func (a *anthropicFormat) whole(f *final) (string, []byte) {
	blocks := []map[string]any{}
	if f.thinking != "" {
		blocks = append(blocks, map[string]any{"type": "thinking", "thinking": f.thinking})
	}
	if f.text != "" {
		blocks = append(blocks, map[string]any{"type": "text", "text": f.text})
	}
	for _, call := range f.calls {
		a.called = true
		blocks = append(blocks, map[string]any{
			"type": "tool_use", "id": call.ID, "name": call.Function.Name, "input": call.Function.Arguments,
		})
	}
	b := fmt.Appendf(nil, `{"id":%q,"type":"message","role":"assistant","model":%s,"content":`, a.id, a.model)
	b = appendJSON(b, blocks)
	if !f.truncated {
		b = fmt.Appendf(b, `,"stop_reason":%q`, a.stopReason(f.reason))
	}
	return "application/json", fmt.Appendf(b, `,"usage":{"input_tokens":%d,"output_tokens":%d}}`+"\n", f.promptN, f.evalN)
}
