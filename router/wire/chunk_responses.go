package wire

import "bytes"

// responses reads an event of OpenAI's Responses API, or the body of an
// answer, which is what the events call response.
func (out *Chunk) responses(c *cursor) {
	var kind, delta, message []byte
	whole := false
	for m := c.object(); m; m = c.more() {
		switch string(c.key) {
		case "type":
			kind = out.str(c)
		case "delta":
			delta = out.str(c)
		case "response":
			out.response(c)
		case "item":
			out.item(c)
		case "object":
			whole = string(out.str(c)) == "response"
		case "usage":
			out.Usage.v1(c)
		case "status":
			out.DoneReason = word(out.str(c))
		case "message":
			message = out.str(c)
		case "error":
			out.failure(c)
		default:
			c.skip()
		}
	}
	if string(kind) == "error" && len(message) > 0 {
		out.Error = string(appendText(nil, message))
	}
	out.event(kind, delta, whole)
}

// event sets what depends on the type of the event.
func (out *Chunk) event(kind, delta []byte, whole bool) {
	switch string(kind) {
	case "response.output_text.delta":
		out.text = delta
	case "response.reasoning_summary_text.delta", "response.reasoning_text.delta":
		out.thinking = delta
	case "response.completed", "response.incomplete":
		out.Done = true
	case "response.failed", "error":
		if out.Error == "" {
			out.Error = "unknown error"
		}
	default:
		if bytes.HasPrefix(kind, []byte("response.function_call_arguments.")) {
			out.ToolCalls = true
		}
		if !whole {
			out.DoneReason = ""
		}
	}
}

func (out *Chunk) response(c *cursor) {
	if c.space() != '{' {
		c.skip()
		return
	}
	for m := c.object(); m; m = c.more() {
		switch string(c.key) {
		case "usage":
			out.Usage.v1(c)
		case "status":
			out.DoneReason = word(out.str(c))
		case "error":
			out.failure(c)
		default:
			c.skip()
		}
	}
}

func (out *Chunk) item(c *cursor) {
	if c.space() != '{' {
		c.skip()
		return
	}
	for m := c.object(); m; m = c.more() {
		if string(c.key) != "type" {
			c.skip()
		} else if string(out.str(c)) == "function_call" {
			out.ToolCalls = true
		}
	}
}
