package wire

// v1 reads a chunk or body of OpenAI's completion and embedding routes.
func (out *Chunk) v1(c *cursor) {
	out.Swallowed = false
	for m := c.object(); m; m = c.more() {
		switch string(c.key) {
		case "model":
			raw := out.str(c)
			out.Swallowed = raw != nil && len(raw) == 0
		case "choices":
			out.choices(c)
		case "usage":
			out.Usage.v1(c)
		case "error":
			out.failure(c)
		default:
			c.skip()
		}
	}
}

// choices reads the choices of a chunk; Ollama sends one, or none with the
// usage.
func (out *Chunk) choices(c *cursor) {
	if c.space() != '[' {
		c.skip()
		return
	}
	for e := c.array(); e; e = c.next() {
		if c.space() != '{' {
			c.skip()
			continue
		}
		for m := c.object(); m; m = c.more() {
			switch string(c.key) {
			case "delta", "message":
				out.message(c)
			case "text":
				out.text = out.str(c)
			case "finish_reason":
				out.DoneReason = word(out.str(c))
			default:
				c.skip()
			}
		}
	}
}

// messages reads an event of Anthropic's Messages API, or the body of an
// answer. The members that matter have different names in every type of event,
// so their order does not.
func (out *Chunk) messages(c *cursor) {
	var kind []byte
	for m := c.object(); m; m = c.more() {
		switch string(c.key) {
		case "type":
			kind = out.str(c)
		case "message": // message_start
			out.start(c)
		case "role":
			out.Role = word(out.str(c))
		case "content_block":
			out.block(c)
		case "delta":
			out.delta(c)
		case "content":
			out.blocks(c)
		case "stop_reason":
			out.DoneReason = word(out.str(c))
		case "usage":
			out.Usage.v1(c)
		case "error":
			out.failure(c)
		default:
			c.skip()
		}
	}
	switch string(kind) {
	case "message_stop":
		out.Done = true
	case "content_block_start":
		out.Opens = true
	case "content_block_stop":
		out.Closes = true
	}
}

func (out *Chunk) start(c *cursor) {
	if c.space() != '{' {
		c.skip()
		return
	}
	for m := c.object(); m; m = c.more() {
		switch string(c.key) {
		case "role":
			out.Role = word(out.str(c))
		case "usage":
			out.Usage.v1(c)
		default:
			c.skip()
		}
	}
}

// blocks reads the content blocks of a whole answer.
func (out *Chunk) blocks(c *cursor) {
	if c.space() != '[' {
		c.skip()
		return
	}
	for e := c.array(); e; e = c.next() {
		out.block(c)
	}
}

func (out *Chunk) block(c *cursor) {
	if c.space() != '{' {
		c.skip()
		return
	}
	for m := c.object(); m; m = c.more() {
		switch string(c.key) {
		case "type":
			if string(out.str(c)) == "tool_use" {
				out.ToolCalls = true
			}
		case "text":
			out.text = out.str(c)
		case "thinking":
			out.thinking = out.str(c)
		default:
			c.skip()
		}
	}
}

// delta reads the delta of a content block or of the message.
func (out *Chunk) delta(c *cursor) {
	if c.space() != '{' {
		c.skip()
		return
	}
	for m := c.object(); m; m = c.more() {
		switch string(c.key) {
		case "text":
			out.text = out.str(c)
		case "thinking":
			out.thinking = out.str(c)
		case "partial_json":
			out.ToolCalls = true
			c.skip()
		case "stop_reason":
			out.DoneReason = word(out.str(c))
		default:
			c.skip()
		}
	}
}
