package wire

import (
	"encoding/json"
	"net/http"
	"strconv"
	"time"
)

// Error is an answer that is an error, to be written in the caller's dialect.
// Status and Message are what Ollama itself would say where it has words for
// the case. It must not hold prompt text: messages reach logs.
type Error struct {
	Status  int // HTTP status
	Message string
	// Type overrides the type that OpenAI and Anthropic errors carry; "" takes
	// the one that belongs to Status.
	Type string
	// Code is OpenAI's machine-readable code; "" is written as null, as
	// Ollama does.
	Code       string
	RetryAfter time.Duration // for the Retry-After header; 0 none
	RequestID  string        // Anthropic's request_id; "" leaves it out
	Plain      bool          // no JSON: unknown path or method, in any dialect
	Allow      []string      // methods for the Allow header, with status 405
	Err        error         // the cause, for logs; nil when there is none
}

// Error returns the status and the message.
func (e *Error) Error() string {
	s := "wire: " + strconv.Itoa(e.Status) + " " + e.Message
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// SetHeader sets the headers that go with e, but Content-Type.
func (e *Error) SetHeader(h http.Header) {
	if e.RetryAfter > 0 {
		// Whole seconds, rounded up: 0 would invite the caller back at once.
		h.Set("Retry-After", strconv.FormatInt(int64((e.RetryAfter+time.Second-1)/time.Second), 10))
	}
	for i, m := range e.Allow {
		if i == 0 {
			h.Set("Allow", m)
		} else {
			h.Set("Allow", h.Get("Allow")+", "+m)
		}
	}
}

// The shapes of an error in each dialect, with the members in Ollama's order.
type (
	ollamaError struct {
		Error string `json:"error"`
	}
	openAIError struct {
		Error openAIDetail `json:"error"`
	}
	openAIDetail struct {
		Message string  `json:"message"`
		Type    string  `json:"type"`
		Param   *string `json:"param"`
		Code    *string `json:"code"`
	}
	anthropicError struct {
		Type      string          `json:"type"`
		Error     anthropicDetail `json:"error"`
		RequestID string          `json:"request_id,omitempty"`
	}
	anthropicDetail struct {
		Type    string `json:"type"`
		Message string `json:"message"`
	}
	// responsesError is the error event of the Responses API. The nested copy
	// is what makes the official clients throw: they look for an "error"
	// member and hand any other event on.
	responsesError struct {
		Type    string       `json:"type"`
		Code    *string      `json:"code"`
		Message string       `json:"message"`
		Param   *string      `json:"param"`
		Error   openAIDetail `json:"error"`
	}
)

// Body returns e as the body of a response in dialect d.
func (e *Error) Body(d Dialect) (contentType string, body []byte) {
	switch {
	case e.Plain:
		return "text/plain", []byte(e.Message)
	case d == OpenAI:
		return "application/json", marshal(openAIError{e.openAI()})
	case d == Anthropic:
		return "application/json", marshal(anthropicError{"error", e.anthropic(), e.RequestID})
	}
	return "application/json; charset=utf-8", marshal(ollamaError{e.Message})
}

// Frame returns e as the last frame of a stream of kind k that has begun. For
// a kind that does not stream it is the body.
func (e *Error) Frame(k Kind) []byte {
	switch {
	case !k.Streams():
		_, body := e.Body(k.Dialect())
		return body
	case k == V1Messages:
		return event("error", anthropicError{"error", e.anthropic(), e.RequestID})
	case k == V1Responses:
		o := e.openAI()
		return event("error", responsesError{"error", o.Code, o.Message, nil, o})
	case k.Framing() == SSE:
		return append(append([]byte("data: "), marshal(openAIError{e.openAI()})...), "\n\n"...)
	}
	return append(marshal(ollamaError{e.Message}), '\n')
}

func event(name string, data any) []byte {
	b := append([]byte("event: "), name...)
	b = append(b, "\ndata: "...)
	return append(append(b, marshal(data)...), "\n\n"...)
}

// marshal never fails on the shapes above, and its text has no line break.
func marshal(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic("wire: " + err.Error())
	}
	return b
}

func (e *Error) openAI() openAIDetail {
	d := openAIDetail{Message: e.Message, Type: e.Type}
	if e.Code != "" {
		d.Code = &e.Code
	}
	if d.Type == "" {
		switch e.Status {
		case http.StatusBadRequest:
			d.Type = "invalid_request_error"
		case http.StatusNotFound:
			d.Type = "not_found_error"
		default:
			d.Type = "api_error"
		}
	}
	return d
}

func (e *Error) anthropic() anthropicDetail {
	d := anthropicDetail{Type: e.Type, Message: e.Message}
	if d.Type == "" {
		switch e.Status {
		case http.StatusBadRequest:
			d.Type = "invalid_request_error"
		case http.StatusUnauthorized:
			d.Type = "authentication_error"
		case http.StatusForbidden:
			d.Type = "permission_error"
		case http.StatusNotFound:
			d.Type = "not_found_error"
		case http.StatusRequestEntityTooLarge:
			d.Type = "request_too_large"
		case http.StatusTooManyRequests:
			d.Type = "rate_limit_error"
		case http.StatusServiceUnavailable, statusOverloaded:
			d.Type = "overloaded_error"
		default:
			d.Type = "api_error"
		}
	}
	return d
}

// statusOverloaded is Anthropic's own status for an overloaded service.
const statusOverloaded = 529
