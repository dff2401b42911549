package ollamatest

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// responsesFormat is the dialect of /v1/responses.
type responsesFormat struct {
	id, model string
	created   int64
	maxTokens *int
	item      [2]string // ids of the message and of the reasoning item, by kind

	begun  bool
	seq    int
	open   int // the open item's kind plus one; 0 = none
	output []any
	text   strings.Builder // of the open item
}

func (*responsesFormat) streamType() string { return "text/event-stream" }

// event appends one event; fields is the rest of its data, after the number.
func (r *responsesFormat) event(b []byte, name, fields string) []byte {
	b = append(b, "event: "+name+"\ndata: {\"type\":\""+name+"\",\"sequence_number\":"...)
	b = strconv.AppendInt(b, int64(r.seq), 10)
	r.seq++
	return append(b, ","+fields+"}\n\n"...)
}

// object is the response as a whole.
func (r *responsesFormat) object(status string, f *final) string {
	m := map[string]any{
		"id": r.id, "object": "response", "created_at": r.created, "completed_at": nil, "status": status,
		"incomplete_details": nil, "model": r.model, "previous_response_id": nil, "instructions": nil,
		"output": []any{}, "error": nil, "tools": []any{}, "tool_choice": "auto", "truncation": "disabled",
		"parallel_tool_calls": true, "text": map[string]any{"format": map[string]any{"type": "text"}},
		"top_p": 1, "temperature": 1, "presence_penalty": 0, "frequency_penalty": 0, "top_logprobs": 0,
		"reasoning": nil, "usage": nil, "max_output_tokens": r.maxTokens, "max_tool_calls": nil, "store": false,
		"background": false, "service_tier": "default", "metadata": map[string]any{},
		"safety_identifier": nil, "prompt_cache_key": nil,
	}
	if f != nil {
		m["completed_at"] = time.Now().Unix()
		m["output"] = append([]any{}, r.output...)
		m["usage"] = map[string]any{
			"input_tokens": f.promptN, "output_tokens": f.evalN, "total_tokens": f.promptN + f.evalN,
			"input_tokens_details":  map[string]any{"cached_tokens": 0},
			"output_tokens_details": map[string]any{"reasoning_tokens": 0},
		}
	}
	return string(appendJSON(nil, m))
}

func (r *responsesFormat) start(b []byte) []byte {
	if r.begun {
		return b
	}
	r.begun = true
	response := `"response":` + r.object("in_progress", nil)
	return r.event(r.event(b, "response.created", response), "response.in_progress", response)
}

// place is the fields that say where in the output an event belongs.
func (r *responsesFormat) place(k kind) string {
	index := "content_index"
	if k == thinking {
		index = "summary_index"
	}
	return fmt.Sprintf(`"item_id":%q,"output_index":%d,%q:0`, r.item[k], len(r.output), index)
}

// part is a content part with a text.
func part(text string) string {
	return `{"type":"output_text","text":` + quote(text) + `,"annotations":[],"logprobs":[]}`
}

// finished is the open item as it is at its end.
func (r *responsesFormat) finished(k kind, text string) string {
	if k == thinking {
		return fmt.Sprintf(`{"id":%q,"type":"reasoning","summary":[{"type":"summary_text","text":%s}],"encrypted_content":%s}`,
			r.item[k], quote(text), quote(text))
	}
	return fmt.Sprintf(`{"id":%q,"type":"message","status":"completed","role":"assistant","content":[%s]}`, r.item[k], part(text))
}

// begin opens an item of kind k, closing another.
func (r *responsesFormat) begin(b []byte, k kind) []byte {
	if r.open == int(k)+1 {
		return b
	}
	b = r.close(r.start(b))
	r.open = int(k) + 1
	item := fmt.Sprintf(`{"id":%q,"type":"message","status":"in_progress","role":"assistant","content":[]}`, r.item[k])
	if k == thinking {
		item = fmt.Sprintf(`{"id":%q,"type":"reasoning","summary":[]}`, r.item[k])
	}
	b = r.event(b, "response.output_item.added", fmt.Sprintf(`"output_index":%d,"item":%s`, len(r.output), item))
	if k == content {
		b = r.event(b, "response.content_part.added", r.place(k)+`,"part":`+part(""))
	}
	return b
}

// close ends the open item, if any.
func (r *responsesFormat) close(b []byte) []byte {
	if r.open == 0 {
		return b
	}
	k := kind(r.open - 1)
	text := r.text.String()
	if k == thinking {
		b = r.event(b, "response.reasoning_summary_text.done", r.place(k)+`,"text":`+quote(text))
	} else {
		b = r.event(b, "response.output_text.done", r.place(k)+`,"text":`+quote(text)+`,"logprobs":[]`)
		b = r.event(b, "response.content_part.done", r.place(k)+`,"part":`+part(text))
	}
	item := r.finished(k, text)
	b = r.event(b, "response.output_item.done", fmt.Sprintf(`"output_index":%d,"item":%s`, len(r.output), item))
	r.output = append(r.output, json.RawMessage(item))
	r.open = 0
	r.text.Reset()
	return b
}

func (r *responsesFormat) token(b []byte, k kind, text []byte) []byte {
	b = r.begin(b, k)
	r.text.Write(text)
	delta := r.place(k) + `,"delta":` + string(appendString(nil, text))
	if k == thinking {
		return r.event(b, "response.reasoning_summary_text.delta", delta)
	}
	return r.event(b, "response.output_text.delta", delta+`,"logprobs":[]`)
}

// functionItem is a tool call as an item; args is quoted.
func functionItem(call toolCall, status, args string) string {
	return fmt.Sprintf(`{"id":%q,"type":"function_call","status":%q,"call_id":%q,"name":%s,"arguments":%s}`,
		"fc_"+call.ID, status, call.ID, quote(call.Function.Name), args)
}

func (r *responsesFormat) tools(b []byte, calls []toolCall) []byte {
	b = r.close(r.start(b))
	for _, call := range calls {
		args := quote(call.Function.Arguments.String())
		at := fmt.Sprintf(`"output_index":%d,`, len(r.output))
		of := fmt.Sprintf(`"item_id":%q,`, "fc_"+call.ID)
		done := functionItem(call, "completed", args)
		b = r.event(b, "response.output_item.added", at+`"item":`+functionItem(call, "in_progress", `""`))
		b = r.event(b, "response.function_call_arguments.delta", at+of+`"delta":`+args)
		b = r.event(b, "response.function_call_arguments.done", at+of+`"arguments":`+args)
		b = r.event(b, "response.output_item.done", at+`"item":`+done)
		r.output = append(r.output, json.RawMessage(done))
	}
	return b
}

func (r *responsesFormat) end(b []byte, f *final) []byte {
	b = r.close(r.start(b))
	return r.event(b, "response.completed", `"response":`+r.object("completed", f))
}

// broken says nothing: Ollama reads the error record as an empty chat record.
func (r *responsesFormat) broken(b []byte, _ string) []byte { return r.start(b) }

func (r *responsesFormat) whole(f *final) (string, []byte) {
	if f.thinking != "" {
		r.output = append(r.output, json.RawMessage(r.finished(thinking, f.thinking)))
	}
	for _, call := range f.calls {
		args := quote(call.Function.Arguments.String())
		r.output = append(r.output, json.RawMessage(functionItem(call, "completed", args)))
	}
	if len(f.calls) == 0 {
		r.output = append(r.output, json.RawMessage(r.finished(content, f.text)))
	}
	return "application/json", append([]byte(r.object("completed", f)), '\n')
}
