package wire

import (
	"bytes"
	"cmp"
	"hash/maphash"
)

// A stream that Ollama itself cuts off because the model repeats itself ends
// without its end mark, with 200 and a clean EOF. Its guard (llm/server.go)
// counts equal chunks, trimmed of white space, starting from the empty text,
// and stops at the 31st repetition without sending it: a stream that ends so
// shows 31 equal chunks, or 30 if they are only white space. Measured with
// Ollama 0.9.6, 0.11.4 and 0.33: exactly 31.
const (
	runawayChunks = 31
	runawayBlank  = 30
	// runawayText is the longest chunk, in bytes, that is compared: a token is
	// shorter, and the memory of a Tail stays small.
	runawayText = 256
)

// Tail watches the end of a stream: whether it ended as a whole answer does.
// The zero value is not usable.
type Tail struct {
	kind Kind

	ended    bool
	finished bool
	reason   string
	err      string
	usage    Usage
	chunks   int
	calls    bool
	broken   int

	last  uint64 // hash of the last chunk's trimmed text
	blank bool   // which was empty
	equal int    // chunks in a row with that text
}

// texts is the seed of the hashes by which chunks are compared.
var texts = maphash.MakeSeed()

// NewTail returns a Tail for one answer to a request of kind k.
func NewTail(k Kind) *Tail { return &Tail{kind: k} }

// Add takes the next chunk of the stream. It keeps no part of it.
func (t *Tail) Add(c Chunk) {
	switch {
	case c.Empty:
		return
	case c.Malformed:
		t.broken++
		return
	}
	if c.HasText() {
		t.chunks++
		t.repeat(c)
	}
	t.calls = t.calls || c.ToolCalls
	t.ended = t.ended || c.Done
	t.finished = t.finished || c.Done || c.DoneReason != ""
	if c.DoneReason != "" {
		t.reason = c.DoneReason
	}
	if t.err == "" {
		t.err = c.Error
	}
	t.usage.merge(c.Usage)
}

func (t *Tail) repeat(c Chunk) {
	if len(c.text)+len(c.thinking) > runawayText {
		t.equal = 0
		return
	}
	var buf [runawayText]byte // a text is no longer than it is escaped, but for what is no UTF-8
	text := bytes.TrimSpace(c.AppendText(c.AppendThinking(buf[:0])))
	hash := maphash.Bytes(texts, text)
	if t.equal > 0 && hash == t.last {
		t.equal++
		return
	}
	t.last, t.blank, t.equal = hash, len(text) == 0, 1
}

// Ended reports whether the end mark of the dialect came: the answer is whole.
func (t *Tail) Ended() bool { return t.ended }

// Finished reports whether the reason why generation ended came: the text is
// whole, even if the end mark was lost after it.
func (t *Tail) Finished() bool { return t.finished }

// Reason returns why generation ended, in the dialect's words; "" unknown.
func (t *Tail) Reason() string { return t.reason }

// Err returns the text of an error in the stream; "" none.
func (t *Tail) Err() string { return t.err }

// Usage returns what the stream told of its cost.
func (t *Tail) Usage() Usage { return t.usage }

// Chunks is how many chunks with text came: at most the number of tokens.
func (t *Tail) Chunks() int { return t.chunks }

// ToolCalls reports whether a tool call was sent.
func (t *Tail) ToolCalls() bool { return t.calls }

// Malformed is how many frames were not readable.
func (t *Tail) Malformed() int { return t.broken }

// Runaway reports whether a stream that ends here without its end mark was cut
// by Ollama's guard against endless repetition. That is an answer, not a
// failure: continued elsewhere it would go on for ever.
func (t *Tail) Runaway() bool {
	if t.ended || t.err != "" || !t.kind.Generates() {
		return false
	}
	if t.blank || t.equal == 0 {
		return t.equal >= runawayBlank
	}
	return t.equal >= runawayChunks
}

// merge adds what o knows to u; what is told later is truer (the first input
// count of an Anthropic stream is a guess).
func (u *Usage) merge(o Usage) {
	u.PromptTokens = cmp.Or(o.PromptTokens, u.PromptTokens)
	u.OutputTokens = cmp.Or(o.OutputTokens, u.OutputTokens)
	u.LoadDuration = cmp.Or(o.LoadDuration, u.LoadDuration)
	u.PromptDuration = cmp.Or(o.PromptDuration, u.PromptDuration)
	u.EvalDuration = cmp.Or(o.EvalDuration, u.EvalDuration)
	u.Total = cmp.Or(o.Total, u.Total)
}
