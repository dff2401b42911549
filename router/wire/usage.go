package wire

import (
	"cmp"
	"time"
)

// Usage is what an answer says it cost. Durations are Ollama's own and 0 in
// the other dialects, which do not have them.
type Usage struct {
	PromptTokens   int           // evaluated for this request: those found in the KV cache may be missing
	OutputTokens   int           // produced, also those that never became visible text
	LoadDuration   time.Duration // of the model; some ms when it was loaded already
	PromptDuration time.Duration // prefill
	EvalDuration   time.Duration // decode
	Total          time.Duration
}

// Zero reports whether nothing is known.
func (u Usage) Zero() bool { return u == Usage{} }

// BodyUsage returns the usage that the body of an answer of kind k that is no
// stream tells; !ok when it tells none.
func BodyUsage(k Kind, body []byte) (u Usage, ok bool) {
	c := inspect(k, body)
	return c.Usage, !c.Malformed && !c.Usage.Zero()
}

// ollama reads the member key of an Ollama answer if it is one of the
// metrics.
func (u *Usage) ollama(c *cursor, key string) bool {
	switch key {
	case "total_duration":
		u.Total = time.Duration(c.natural())
	case "load_duration":
		u.LoadDuration = time.Duration(c.natural())
	case "prompt_eval_duration":
		u.PromptDuration = time.Duration(c.natural())
	case "eval_duration":
		u.EvalDuration = time.Duration(c.natural())
	case "prompt_eval_count":
		u.PromptTokens = int(c.natural())
	case "eval_count":
		u.OutputTokens = int(c.natural())
	default:
		return false
	}
	return true
}

// v1 reads the usage object of the OpenAI and Anthropic dialects. Events of one
// stream tell parts of it; 0 does not replace what is known.
func (u *Usage) v1(c *cursor) {
	if c.space() != '{' {
		c.skip()
		return
	}
	for m := c.object(); m; m = c.more() {
		switch string(c.key) {
		case "prompt_tokens", "input_tokens":
			u.PromptTokens = cmp.Or(int(c.natural()), u.PromptTokens)
		case "completion_tokens", "output_tokens":
			u.OutputTokens = cmp.Or(int(c.natural()), u.OutputTokens)
		default:
			c.skip()
		}
	}
}

// natural passes over one value and returns it when it is a whole number of at
// most 18 digits, else 0.
func (c *cursor) natural() (n int64) {
	raw := c.raw()
	if len(raw) > 18 {
		return 0
	}
	for _, b := range raw {
		if b < '0' || b > '9' {
			return 0
		}
		n = n*10 + int64(b-'0')
	}
	return n
}
