package ollamatest

import (
	"encoding/json"
	"fmt"
	"time"
)

// generateFormat is the dialect of /api/generate, chatFormat that of /api/chat:
// one JSON object a line.
type generateFormat struct {
	native
}

type chatFormat struct {
	native
}

// native is what both have in common.
type native struct {
	head     string // {"model":"...","created_at":"
	logprobs bool
}

func newNative(model string, logprobs bool) native {
	return native{head: `{"model":` + quote(model) + `,"created_at":"`, logprobs: logprobs}
}

func (native) streamType() string { return "application/x-ndjson" }

func (native) broken(b []byte, text string) []byte {
	return append(append(b, errorLine(text)...), '\n')
}

// open begins an object up to and including "created_at".
func (n native) open(b []byte) []byte {
	b = append(b, n.head...)
	b = appendTime(b)
	return append(b, '"')
}

// shut ends the line of a piece.
func (n native) shut(b []byte, text []byte) []byte {
	b = append(b, `,"done":false`...)
	if n.logprobs {
		if answerLen(" "+string(text)) > len(text) { // here, unlike in the text, the token is untrimmed
			text = append([]byte{' '}, text...)
		}
		b = append(b, `,"logprobs":[{"token":`...)
		b = appendString(b, text)
		b = append(b, `,"logprob":-0.1,"bytes":`...)
		bytes := make([]int64, len(text))
		for i, c := range text {
			bytes[i] = int64(c)
		}
		b = append(appendInts(b, bytes), "}]"...)
	}
	return append(b, "}\n"...)
}

// metrics appends the counts and durations of the last record.
func metrics(b []byte, f *final) []byte {
	b = appendField(b, "total_duration", int64(f.total))
	b = appendField(b, "load_duration", int64(f.load))
	b = appendField(b, "prompt_eval_count", int64(f.promptN))
	b = appendField(b, "prompt_eval_duration", int64(f.prompt))
	b = appendField(b, "eval_count", int64(f.evalN))
	return appendField(b, "eval_duration", int64(f.eval))
}

func (g *generateFormat) token(b []byte, k kind, text []byte) []byte {
	b = g.open(b)
	if k == thinking {
		b = appendString(append(b, `,"response":"","thinking":`...), text)
	} else {
		b = appendString(append(b, `,"response":`...), text)
	}
	return g.shut(b, text)
}

func (g *generateFormat) tools(b []byte, calls []toolCall) []byte {
	b = appendJSON(append(g.open(b), `,"response":"","tool_calls":`...), calls)
	return append(b, `,"done":false}`+"\n"...)
}

func (g *generateFormat) end(b []byte, f *final) []byte { return append(g.object(b, f), '\n') }

func (g *generateFormat) object(b []byte, f *final) []byte {
	b = appendString(append(g.open(b), `,"response":`...), []byte(f.text))
	if f.thinking != "" {
		b = appendString(append(b, `,"thinking":`...), []byte(f.thinking))
	}
	if f.truncated {
		return append(b, `,"done":false}`...)
	}
	b = append(b, `,"done":true,"done_reason":"`...)
	b = append(append(b, f.reason...), '"')
	if f.context != nil {
		b = appendInts(append(b, `,"context":`...), f.context)
	}
	return append(metrics(b, f), '}')
}

func (g *generateFormat) whole(f *final) (string, []byte) {
	return "application/json; charset=utf-8", g.object(nil, f)
}

func (c *chatFormat) token(b []byte, k kind, text []byte) []byte {
	b = append(c.open(b), `,"message":{"role":"assistant","content":`...)
	if k == thinking {
		b = appendString(append(b, `"","thinking":`...), text)
	} else {
		b = appendString(b, text)
	}
	return c.shut(append(b, '}'), text)
}

func (c *chatFormat) tools(b []byte, calls []toolCall) []byte {
	b = append(c.open(b), `,"message":{"role":"assistant","content":"","tool_calls":`...)
	return append(appendJSON(b, calls), `},"done":false}`+"\n"...)
}

func (c *chatFormat) end(b []byte, f *final) []byte { return append(c.object(b, f), '\n') }

func (c *chatFormat) object(b []byte, f *final) []byte {
	b = append(c.open(b), `,"message":`...)
	b = appendJSON(b, Message{Role: "assistant", Content: f.text, Thinking: f.thinking, ToolCalls: f.calls})
	if f.truncated {
		return append(b, `,"done":false}`...)
	}
	b = append(b, `,"done_reason":"`...)
	b = append(append(b, f.reason...), `","done":true`...)
	return append(metrics(b, f), '}')
}

func (c *chatFormat) whole(f *final) (string, []byte) {
	return "application/json; charset=utf-8", c.object(nil, f)
}

// keepAlive is the keep_alive field: a number of seconds or a duration.
type keepAlive time.Duration

// UnmarshalJSON reads b; negative values mean for ever.
func (k *keepAlive) UnmarshalJSON(b []byte) error {
	var v any
	if err := json.Unmarshal(b, &v); err != nil {
		return err
	}
	var d time.Duration
	switch v := v.(type) {
	case float64:
		d = time.Duration(int(v)) * time.Second
		if v < 0 {
			d = -1
		}
	case string:
		var err error
		if d, err = time.ParseDuration(v); err != nil {
			return err
		}
	default:
		return &statusError{400, fmt.Sprintf("Unsupported type: '%T'", v)}
	}
	if d < 0 {
		d = forever
	}
	*k = keepAlive(d)
	return nil
}

// duration returns k for the scheduler, nil if the request has none.
func (k *keepAlive) duration() *time.Duration { return (*time.Duration)(k) }

// zero reports whether k asks to unload.
func (k *keepAlive) zero() bool { return k != nil && time.Duration(*k) < time.Second }

// thinkValue is the think field: a boolean or a level.
type thinkValue struct {
	on    bool
	level string
}

// UnmarshalJSON reads b.
func (t *thinkValue) UnmarshalJSON(b []byte) error {
	if json.Unmarshal(b, &t.on) == nil {
		return nil
	}
	if err := json.Unmarshal(b, &t.level); err != nil {
		return &statusError{400, "think must be a boolean or string (\"high\", \"medium\", \"low\", \"max\")"}
	}
	t.on = true
	return nil
}
