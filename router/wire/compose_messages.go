package wire

import "strconv"

// Blocks is where a stream of the Messages API stands: its texts come in
// numbered blocks that are opened and closed.
type Blocks struct {
	Closed int  // blocks that have ended, and so the number of the present or next one
	Open   bool // one has begun and not ended
}

// Add takes in the next frame of the stream.
func (b *Blocks) Add(c *Chunk) {
	switch {
	case c.Opens:
		b.Open = true
	case c.Closes:
		b.Open = false
		b.Closed++
	}
}

// On has the composer go on where b stands, and keep b up to date.
func (c *Composer) On(b *Blocks) *Composer {
	c.blocks = b
	return c
}

// message begins an event of the Messages API; its data wants more and a brace.
func (c *Composer) message(dst []byte, name string) []byte {
	return append(append(append(append(dst, "event: "...), name...), "\ndata: {\"type\":\""+name...), '"')
}

func (c *Composer) index(dst []byte) []byte {
	return strconv.AppendInt(append(dst, `,"index":`...), int64(c.blocks.Closed), 10)
}

func (c *Composer) messageText(dst, text []byte) []byte {
	if len(text) == 0 {
		return dst
	}
	if !c.blocks.Open {
		c.blocks.Open = true
		dst = c.index(c.message(dst, "content_block_start"))
		dst = append(dst, `,"content_block":{"type":"text","text":""}}`+"\n\n"...)
	}
	dst = c.index(c.message(dst, "content_block_delta"))
	dst = appendJSON(append(dst, `,"delta":{"type":"text_delta","text":`...), text)
	return append(dst, "}}\n\n"...)
}

func (c *Composer) messageEnd(dst []byte, f *Final) []byte {
	if c.blocks.Open {
		dst = append(c.index(c.message(dst, "content_block_stop")), "}\n\n"...)
		c.blocks.Open = false
		c.blocks.Closed++
	}
	if !f.Told {
		reason := "end_turn"
		if f.Reason == "length" {
			reason = "max_tokens"
		}
		dst = append(c.message(dst, "message_delta"), `,"delta":{"stop_reason":"`+reason+`"},"usage":{"input_tokens":`...)
		dst = strconv.AppendInt(dst, int64(f.Prompt), 10)
		dst = strconv.AppendInt(append(dst, `,"output_tokens":`...), int64(f.Output), 10)
		dst = append(dst, "}}\n\n"...)
	}
	return append(c.message(dst, "message_stop"), "}\n\n"...)
}
