package wire

// ollama reads a line of /api/generate, /api/chat or a progress stream, or the
// body of one of Ollama's own routes.
func (out *Chunk) ollama(c *cursor) {
	for m := c.object(); m; m = c.more() {
		switch string(c.key) {
		case "model", "created_at":
			c.skip()
		case "response":
			out.text = out.str(c)
		case "thinking":
			out.thinking = out.str(c)
		case "message":
			out.message(c)
		case "tool_calls":
			out.ToolCalls = out.list(c) || out.ToolCalls
		case "done":
			out.Done = out.flag(c)
		case "done_reason":
			out.DoneReason = word(out.str(c))
		case "status":
			// Progress of pull, push and create ends with "success".
			if string(out.str(c)) == "success" {
				out.Done, out.DoneReason = true, "success"
			}
		case "error":
			out.failure(c)
		default:
			if !out.Usage.ollama(c, string(c.key)) {
				c.skip()
			}
		}
	}
}

// message reads a chat message, or the delta of one.
func (out *Chunk) message(c *cursor) {
	if c.space() != '{' {
		c.skip()
		return
	}
	for m := c.object(); m; m = c.more() {
		switch string(c.key) {
		case "role":
			out.Role = word(out.str(c))
		case "content":
			out.text = out.str(c)
		case "thinking", "reasoning", "reasoning_content":
			out.thinking = out.str(c)
		case "tool_calls":
			out.ToolCalls = out.list(c) || out.ToolCalls
		default:
			c.skip()
		}
	}
}
