package ollamatest

import (
	"fmt"
	"strconv"
	"time"
)

// openAIFormat is what the two dialects of OpenAI's streams have in common.
type openAIFormat struct {
	id      string
	model   string // quoted
	created string
	usage   bool // include_usage
	modern  bool
}

func (s *Server) newOpenAI(prefix, model string, usage bool) openAIFormat {
	return openAIFormat{
		id:      quote(prefix + strconv.FormatUint(s.random()%999, 10)),
		model:   quote(model),
		created: strconv.FormatInt(time.Now().Unix(), 10),
		usage:   usage,
		modern:  s.has.modern,
	}
}

func (openAIFormat) streamType() string { return "text/event-stream" }

const sseDone = "data: [DONE]\n\n"

// usageObject is the usage field.
func usageObject(f *final) string {
	return fmt.Sprintf(`{"prompt_tokens":%d,"completion_tokens":%d,"total_tokens":%d}`, f.promptN, f.evalN, f.promptN+f.evalN)
}

// reasonOrNull is finish_reason.
func reasonOrNull(reason string) string {
	if reason == "" {
		return "null"
	}
	return `"` + reason + `"`
}

// openAIChatFormat is the dialect of /v1/chat/completions.
type openAIChatFormat struct {
	openAIFormat
	begun, called bool
}

// chunk appends a chunk with the given delta and finish_reason.
func (o *openAIChatFormat) chunk(b []byte, model, reason string, delta func([]byte) []byte) []byte {
	b = append(b, `data: {"id":`...)
	b = append(b, o.id...)
	b = append(b, `,"object":"chat.completion.chunk","created":`...)
	b = append(b, o.created...)
	b = append(b, `,"model":`...)
	b = append(b, model...)
	b = append(b, `,"system_fingerprint":"fp_ollama","choices":[{"index":0,"delta":{`...)
	// Older versions repeat the role in every chunk.
	if !o.begun || !o.modern {
		b = append(b, `"role":"assistant",`...)
		o.begun = true
	}
	b = delta(b)
	b = append(b, `},"finish_reason":`...)
	b = append(b, reason...)
	return append(b, "}]}\n\n"...)
}

func (o *openAIChatFormat) token(b []byte, k kind, text []byte) []byte {
	return o.chunk(b, o.model, "null", func(b []byte) []byte {
		if k == thinking {
			return appendString(append(b, `"content":"","reasoning":`...), text)
		}
		return appendString(append(b, `"content":`...), text)
	})
}

func (o *openAIChatFormat) tools(b []byte, calls []toolCall) []byte {
	o.called = true
	return o.chunk(b, o.model, "null", func(b []byte) []byte {
		return openAICalls(append(b, `"content":"","tool_calls":`...), calls)
	})
}

// openAICalls appends tool calls in OpenAI's form.
func openAICalls(b []byte, calls []toolCall) []byte {
	b = append(b, '[')
	for i, call := range calls {
		if i > 0 {
			b = append(b, ',')
		}
		id := call.ID
		if id == "" {
			id = callID(uint64(time.Now().UnixNano()))
		}
		b = append(b, fmt.Sprintf(`{"id":%s,"index":%d,"type":"function","function":{"name":%s,"arguments":%s}}`,
			quote(id), i, quote(call.Function.Name), quote(call.Function.Arguments.String()))...)
	}
	return append(b, ']')
}

func (o *openAIChatFormat) end(b []byte, f *final) []byte {
	reason := f.reason
	if o.called {
		reason = "tool_calls"
	}
	if o.modern && o.begun {
		b = o.chunk(b, o.model, reasonOrNull(reason), func(b []byte) []byte { return b })
	} else {
		b = o.chunk(b, o.model, reasonOrNull(reason), func(b []byte) []byte { return append(b, `"content":""`...) })
	}
	if o.usage {
		b = append(b, `data: {"id":`+o.id+`,"object":"chat.completion.chunk","created":`+o.created+`,"model":`+o.model+
			`,"system_fingerprint":"fp_ollama","choices":[],"usage":`+usageObject(f)+"}\n\n"...)
	}
	return append(b, sseDone...)
}

// broken swallows the error, as Ollama does: it reads the error record as a
// chat record without fields.
func (o *openAIChatFormat) broken(b []byte, _ string) []byte {
	return o.chunk(b, `""`, "null", func(b []byte) []byte { return append(b, `"content":""`...) })
}

func (o *openAIChatFormat) whole(f *final) (string, []byte) {
	reason := f.reason
	message := `{"role":"assistant","content":` + quote(f.text)
	if f.thinking != "" {
		message += `,"reasoning":` + quote(f.thinking)
	}
	if len(f.calls) > 0 {
		reason = "tool_calls"
		message += `,"tool_calls":` + string(openAICalls(nil, f.calls))
	}
	return o.object("chat.completion", `"message":`+message+`}`, reason, f)
}

// object is an answer in one piece.
func (o *openAIFormat) object(kind, body, reason string, f *final) (string, []byte) {
	counts := *f
	if f.truncated {
		counts, reason = final{}, ""
	}
	return "application/json", []byte(`{"id":` + o.id + `,"object":"` + kind + `","created":` + o.created + `,"model":` + o.model +
		`,"system_fingerprint":"fp_ollama","choices":[{"index":0,` + body + `,"finish_reason":` + reasonOrNull(reason) +
		`}],"usage":` + usageObject(&counts) + "}\n")
}

// openAITextFormat is the dialect of /v1/completions.
type openAITextFormat struct {
	openAIFormat
}

// chunk appends a chunk with the given choices.
func (o *openAITextFormat) chunk(b []byte, model string, usage string, choices func([]byte) []byte) []byte {
	b = append(b, `data: {"id":`...)
	b = append(b, o.id...)
	b = append(b, `,"object":"text_completion","created":`...)
	b = append(b, o.created...)
	b = append(b, `,"choices":[`...)
	b = choices(b)
	b = append(b, `],"model":`...)
	b = append(b, model...)
	b = append(b, `,"system_fingerprint":"fp_ollama"`...)
	if o.usage {
		b = append(append(b, `,"usage":`...), usage...)
	}
	return append(b, "}\n\n"...)
}

// noUsage stands in every chunk but the last if usage was asked for.
const noUsage = `{"prompt_tokens":0,"completion_tokens":0,"total_tokens":0}`

func (o *openAITextFormat) choice(b []byte, model string, text []byte, reason string) []byte {
	return o.chunk(b, model, noUsage, func(b []byte) []byte {
		b = appendString(append(b, `{"text":`...), text)
		b = append(b, `,"index":0,"finish_reason":`...)
		return append(append(b, reason...), '}')
	})
}

func (o *openAITextFormat) token(b []byte, k kind, text []byte) []byte {
	if k == thinking { // the dialect has no place for it
		text = nil
	}
	return o.choice(b, o.model, text, "null")
}

func (o *openAITextFormat) tools(b []byte, _ []toolCall) []byte { return b }

func (o *openAITextFormat) end(b []byte, f *final) []byte {
	b = o.choice(b, o.model, nil, reasonOrNull(f.reason))
	if o.usage {
		b = o.chunk(b, o.model, usageObject(f), func(b []byte) []byte { return b })
	}
	return append(b, sseDone...)
}

func (o *openAITextFormat) broken(b []byte, _ string) []byte { return o.choice(b, `""`, nil, "null") }

func (o *openAITextFormat) whole(f *final) (string, []byte) {
	contentType, body := o.object("text_completion", `"text":`+quote(f.text), f.reason, f)
	return contentType, body
}
