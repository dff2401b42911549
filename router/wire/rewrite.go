package wire

import (
	"bytes"
	"strconv"
)

// Rewrite appends a frame that another run of the same request brought to dst,
// with the id and time of the first run in OpenAI's dialect; other dialects'
// frames go on as they are. A frame that ends an answer of Ollama's own
// dialect gets the member that says that it was continued.
func (c *Composer) Rewrite(dst []byte, f Frame, done bool, continued int, path string) []byte {
	switch {
	case f.piece:
		return append(dst, f.Raw...)
	case c.kind.Dialect() == OpenAI && c.kind != V1Responses:
		return c.rename(dst, f)
	case done && c.kind.Dialect() == Ollama:
		end := bytes.LastIndexByte(f.Raw, '}')
		if end < 0 {
			return append(dst, f.Raw...)
		}
		dst = append(dst, f.Raw[:end]...)
		return append(appendContinued(dst, continued, path), f.Raw[end:]...)
	}
	return append(dst, f.Raw...)
}

// rename replaces the values of id and created at the top of an event.
func (c *Composer) rename(dst []byte, f Frame) []byte {
	start := bytes.IndexByte(f.Raw, '{')
	if start < 0 || c.head.ID == "" {
		return append(dst, f.Raw...)
	}
	// The payload is one line in all that Ollama writes; an event of several
	// data lines would not be one JSON text here and is left alone.
	cur := cursor{b: f.Raw[start:]}
	out, from := dst, 0
	for m := cur.object(); m; m = cur.more() {
		key := string(cur.key)
		cur.space()
		at := cur.i
		cur.skip()
		switch key {
		case "id":
			out = appendJSON(append(out, f.Raw[from:start+at]...), []byte(c.head.ID))
			from = start + cur.i
		case "created":
			out = strconv.AppendInt(append(out, f.Raw[from:start+at]...), c.head.Created, 10)
			from = start + cur.i
		}
	}
	if cur.failed {
		return append(dst, f.Raw...)
	}
	return append(out, f.Raw[from:]...)
}

// Shorten appends f, whose text is that of c, to dst with rest in place of the
// text. It serves events that carry one text.
func (f Frame) Shorten(dst []byte, c *Chunk, rest []byte) []byte {
	old := c.text
	if len(old) == 0 {
		old = c.thinking
	}
	quoted := append(append([]byte{'"'}, old...), '"')
	for end := len(f.Raw); ; {
		at := bytes.LastIndex(f.Raw[:end], quoted)
		if at < 0 {
			return append(dst, f.Raw...)
		}
		if bytes.HasSuffix(bytes.TrimRight(f.Raw[:at], " "), []byte{':'}) { // a value, no name
			dst = appendJSON(append(dst, f.Raw[:at]...), rest)
			return append(dst, f.Raw[at+len(quoted):]...)
		}
		end = at + len(quoted) - 1
	}
}
