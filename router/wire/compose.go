package wire

import (
	"encoding/json"
	"strconv"
	"time"
)

// Composer writes frames of an answer that another server had begun: in the
// same dialect, with the same id, time and model, so that a client sees one
// stream. It writes text, thinking and the end; tool calls and log
// probabilities it does not know.
//
// It serves the kinds that [Composes] names.
type Composer struct {
	kind  Kind
	usage bool
	head  head

	blocks *Blocks // of the Messages API
}

// head is what all frames of one answer of OpenAI's dialect share.
type head struct {
	ID          string `json:"id"`
	Created     int64  `json:"created"`
	Model       string `json:"model"`
	Fingerprint string `json:"system_fingerprint"`
}

// Composes reports whether a Composer can write frames of kind k.
func Composes(k Kind) bool {
	switch k {
	case Generate, Chat, V1Chat, V1Completions, V1Messages:
		return true
	}
	return false
}

// Ordered reports whether the frames without text of kind k have a place
// between the others that a client relies on.
func Ordered(k Kind) bool { return k == V1Messages || k == V1Responses }

// NewComposer goes on from first, the first frame that the client got. usage
// says whether the caller asked for a usage chunk.
func NewComposer(k Kind, first []byte, usage bool) *Composer {
	c := &Composer{kind: k, usage: usage, blocks: &Blocks{}}
	if payload := data(first, k.Framing()); json.Unmarshal(payload, &c.head) != nil {
		c.head = head{}
	}
	if c.head.Fingerprint == "" {
		c.head.Fingerprint = "fp_ollama"
	}
	return c
}

// ID and Created are those of the answer; "" and 0 in Ollama's own dialect.
func (c *Composer) ID() string     { return c.head.ID }
func (c *Composer) Created() int64 { return c.head.Created }

// Text appends a frame with text of the answer to dst.
func (c *Composer) Text(dst, text []byte) []byte { return c.piece(dst, text, nil) }

// Thinking appends a frame with thinking to dst; a dialect that has no place
// for it gets none.
func (c *Composer) Thinking(dst, thought []byte) []byte { return c.piece(dst, nil, thought) }

// Note appends a comment that official clients ignore; Ollama's own dialect
// has none, there the last record carries the news.
func (c *Composer) Note(dst []byte, note string) []byte {
	if c.kind.Framing() != SSE {
		return dst
	}
	return append(append(append(dst, ": "...), note...), '\n')
}

// Final is the end of an answer.
type Final struct {
	Reason string // stop or length
	// Told says that the client has the reason already and only the end mark
	// is missing.
	Told bool

	Prompt, Output int           // tokens, of the whole answer
	Total          time.Duration // since the request came
	Load           time.Duration
	PromptEval     time.Duration
	Eval           time.Duration

	Continued int    // how often the answer went on elsewhere
	Path      string // how the last time
}

// End appends the frames that end an answer to dst.
func (c *Composer) End(dst []byte, f Final) []byte {
	switch c.kind {
	case Generate:
		return append(appendFinal(append(c.open(dst), `,"response":""`...), &f), '\n')
	case Chat:
		dst = append(c.open(dst), `,"message":{"role":"assistant","content":""}`...)
		return append(appendFinal(dst, &f), '\n')
	}
	if c.kind == V1Messages {
		return c.messageEnd(dst, &f)
	}
	if !f.Told {
		dst = c.chunk(dst, nil, nil, f.Reason)
	}
	if c.usage {
		dst = c.usageChunk(dst, &f)
	}
	return append(dst, "data: [DONE]\n\n"...)
}

func (c *Composer) piece(dst, text, thought []byte) []byte {
	switch c.kind {
	case Generate:
		dst = appendJSON(append(c.open(dst), `,"response":`...), text)
		if len(thought) > 0 {
			dst = appendJSON(append(dst, `,"thinking":`...), thought)
		}
		return append(dst, `,"done":false}`+"\n"...)
	case Chat:
		dst = appendJSON(append(c.open(dst), `,"message":{"role":"assistant","content":`...), text)
		if len(thought) > 0 {
			dst = appendJSON(append(dst, `,"thinking":`...), thought)
		}
		return append(dst, `},"done":false}`+"\n"...)
	case V1Completions:
		if len(text) == 0 {
			return dst
		}
	case V1Messages:
		return c.messageText(dst, text)
	}
	return c.chunk(dst, text, thought, "")
}

// open begins a record of Ollama's dialect.
func (c *Composer) open(dst []byte) []byte {
	dst = appendJSON(append(dst, `{"model":`...), []byte(c.head.Model))
	dst = append(dst, `,"created_at":"`...)
	return append(time.Now().UTC().AppendFormat(dst, time.RFC3339Nano), '"')
}

// appendFinal ends the last record of Ollama's dialect.
func appendFinal(dst []byte, f *Final) []byte {
	dst = appendJSON(append(dst, `,"done":true,"done_reason":`...), []byte(f.Reason))
	number := func(name string, n int64) {
		dst = strconv.AppendInt(append(dst, `,"`+name+`":`...), n, 10)
	}
	number("total_duration", int64(f.Total))
	number("load_duration", int64(f.Load))
	number("prompt_eval_count", int64(f.Prompt))
	number("prompt_eval_duration", int64(f.PromptEval))
	number("eval_count", int64(f.Output))
	number("eval_duration", int64(f.Eval))
	dst = appendContinued(dst, f.Continued, f.Path)
	return append(dst, '}')
}

// appendContinued is the member of a last record that says that and how the
// answer was continued.
func appendContinued(dst []byte, times int, path string) []byte {
	if times == 0 {
		return dst
	}
	dst = strconv.AppendInt(append(dst, `,"kage":{"continued":`...), int64(times), 10)
	return append(appendJSON(append(dst, `,"path":`...), []byte(path)), '}')
}

// chunk is one event of OpenAI's dialect; reason ends the answer.
func (c *Composer) chunk(dst, text, thought []byte, reason string) []byte {
	dst = c.event(dst)
	dst = append(dst, `,"choices":[{"index":0,`...)
	if c.kind == V1Completions {
		dst = appendJSON(append(dst, `"text":`...), text)
	} else {
		dst = appendJSON(append(dst, `"delta":{"content":`...), text)
		if len(thought) > 0 {
			dst = appendJSON(append(dst, `,"reasoning":`...), thought)
		}
		dst = append(dst, '}')
	}
	dst = append(dst, `,"finish_reason":`...)
	if reason == "" {
		dst = append(dst, "null"...)
	} else {
		dst = appendJSON(dst, []byte(reason))
	}
	return append(dst, "}]}\n\n"...)
}

func (c *Composer) usageChunk(dst []byte, f *Final) []byte {
	dst = append(c.event(dst), `,"choices":[],"usage":{"prompt_tokens":`...)
	dst = strconv.AppendInt(dst, int64(f.Prompt), 10)
	dst = strconv.AppendInt(append(dst, `,"completion_tokens":`...), int64(f.Output), 10)
	dst = strconv.AppendInt(append(dst, `,"total_tokens":`...), int64(f.Prompt+f.Output), 10)
	return append(dst, "}}\n\n"...)
}

// event begins an event of OpenAI's dialect.
func (c *Composer) event(dst []byte) []byte {
	object := "chat.completion.chunk"
	if c.kind == V1Completions {
		object = "text_completion"
	}
	dst = appendJSON(append(dst, `data: {"id":`...), []byte(c.head.ID))
	dst = append(dst, `,"object":"`+object+`","created":`...)
	dst = strconv.AppendInt(dst, c.head.Created, 10)
	dst = appendJSON(append(dst, `,"model":`...), []byte(c.head.Model))
	return appendJSON(append(dst, `,"system_fingerprint":`...), []byte(c.head.Fingerprint))
}

// appendJSON appends text as a JSON string.
func appendJSON(dst, text []byte) []byte {
	const hex = "0123456789abcdef"
	dst = append(dst, '"')
	from := 0
	for i, b := range text {
		if b >= ' ' && b != '"' && b != '\\' && b != '<' && b != '>' && b != '&' {
			continue
		}
		dst = append(dst, text[from:i]...)
		from = i + 1
		switch b {
		case '"', '\\':
			dst = append(dst, '\\', b)
		case '\n':
			dst = append(dst, '\\', 'n')
		case '\r':
			dst = append(dst, '\\', 'r')
		case '\t':
			dst = append(dst, '\\', 't')
		default:
			dst = append(dst, '\\', 'u', '0', '0', hex[b>>4], hex[b&15])
		}
	}
	return append(append(dst, text[from:]...), '"')
}
