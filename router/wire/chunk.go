package wire

import (
	"bytes"
	"slices"
)

// Chunk is what one frame says. It points into the frame and is valid as long.
type Chunk struct {
	text, thinking []byte // JSON string text, still escaped

	Role       string // "assistant", where the frame says it
	Done       bool   // the mark that ends a stream: done:true, [DONE], message_stop, response.completed
	DoneReason string // why generation ended, in the dialect's words; may come before Done
	Error      string // an error after the answer had begun
	ToolCalls  bool   // the frame carries a tool call, or a part of one
	Usage      Usage
	Opens      bool // a content block of the Messages API begins
	Closes     bool // and ends

	Empty     bool // no data: a blank line, a comment, a keep-alive
	Malformed bool // no JSON where JSON was due, or a piece of a frame: nothing else is set
	// Swallowed marks a frame of OpenAI's routes that names no model: that is
	// how Ollama lets an error of its runner through, before it ends the
	// stream without [DONE].
	Swallowed bool
}

// HasText reports whether the chunk has text of the answer or of the thinking.
func (c *Chunk) HasText() bool { return len(c.text)+len(c.thinking) > 0 }

// AppendText decodes the chunk's text of the answer and appends it to dst.
func (c *Chunk) AppendText(dst []byte) []byte { return appendText(dst, c.text) }

// AppendThinking decodes the chunk's thinking and appends it to dst.
func (c *Chunk) AppendThinking(dst []byte) []byte { return appendText(dst, c.thinking) }

// Text returns a copy of the chunk's text of the answer.
func (c *Chunk) Text() string { return string(appendText(nil, c.text)) }

// Thinking returns a copy of the chunk's thinking.
func (c *Chunk) Thinking() string { return string(appendText(nil, c.thinking)) }

// Inspect reads a frame of an answer of kind k. It copies nothing but the
// strings of last frames and errors.
func (f Frame) Inspect(k Kind) Chunk {
	if f.piece {
		return Chunk{Malformed: true} // even if it looks like a whole value
	}
	return inspect(k, data(f.Raw, f.Framing))
}

// InspectBody reads the whole body of an answer of kind k that is no stream.
// Done is set for Ollama's own routes only. The output text of a Responses body
// is not read.
func InspectBody(k Kind, body []byte) Chunk { return inspect(k, body) }

// data returns the payload of a frame: the line, or the data of the event.
func data(raw []byte, f Framing) []byte {
	if f == NDJSON {
		return raw
	}
	var payload []byte
	for len(raw) > 0 {
		line := raw
		if n := bytes.IndexByte(raw, '\n'); n >= 0 {
			line, raw = raw[:n], raw[n+1:]
		} else {
			raw = nil
		}
		value, ok := bytes.CutPrefix(bytes.TrimSuffix(line, []byte("\r")), []byte("data:"))
		if !ok {
			continue // event, id, retry, comment: the data names its type, too
		}
		value = bytes.TrimPrefix(value, []byte(" "))
		if payload == nil {
			payload = slices.Clip(value)
			continue
		}
		payload = append(append(payload, '\n'), value...)
	}
	return payload
}

// inspect reads one JSON value of an answer of kind k: the payload of a frame,
// or a whole body.
func inspect(k Kind, payload []byte) (out Chunk) {
	c := cursor{b: payload}
	switch {
	case c.space() == 0 && c.i == len(c.b):
		out.Empty = true
		return out
	case k.Dialect() != Ollama && string(bytes.TrimSpace(payload)) == "[DONE]":
		out.Done = true
		return out
	case c.space() != '{':
		out.Malformed = true
		return out
	}
	switch k {
	case V1Messages:
		out.messages(&c)
	case V1Responses:
		out.responses(&c)
	default:
		if k.Dialect() == OpenAI {
			out.v1(&c)
		} else {
			out.ollama(&c)
		}
	}
	if c.failed || c.space() != 0 || c.i < len(c.b) {
		return Chunk{Malformed: true}
	}
	return out
}

// str passes over one value and returns a string's text, still escaped.
func (out *Chunk) str(c *cursor) []byte {
	if c.space() == '"' {
		raw, _ := c.str()
		return raw
	}
	c.skip()
	return nil
}

// list passes over one value and reports whether it is an array with elements.
func (out *Chunk) list(c *cursor) bool {
	if c.space() != '[' {
		c.skip()
		return false
	}
	some := false
	for m := c.array(); m; m = c.next() {
		some = true
		c.skip()
	}
	return some
}

func (out *Chunk) flag(c *cursor) bool { return string(c.raw()) == "true" }

// failure reads an error: its text, or an object with a message.
func (out *Chunk) failure(c *cursor) {
	switch c.space() {
	case '"':
		out.Error = string(appendText(nil, out.str(c)))
	case '{':
		for m := c.object(); m; m = c.more() {
			if string(c.key) == "message" {
				out.Error = string(appendText(nil, out.str(c)))
			} else {
				c.skip()
			}
		}
	default:
		c.skip()
		return
	}
	if out.Error == "" {
		out.Error = "unknown error"
	}
}

// word returns a string of a small set without copying the common ones.
func word(raw []byte) string {
	switch string(raw) {
	case "":
		return ""
	case "assistant":
		return "assistant"
	case "stop":
		return "stop"
	case "length":
		return "length"
	case "tool_calls":
		return "tool_calls"
	case "end_turn":
		return "end_turn"
	}
	return string(appendText(nil, raw))
}
