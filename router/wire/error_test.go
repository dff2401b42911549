package wire

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestErrorBody: the bodies of unknown models and bad requests are those that
// Ollama 0.11.4 sent, but for the type of v1's 404, which newer ones name.
func TestErrorBody(t *testing.T) {
	tests := []struct {
		name        string
		err         *Error
		dialect     Dialect
		contentType string
		body        string
	}{
		{"unknown model, generate", ErrModelNotFound(Generate, "nosuch", nil), Ollama, "application/json; charset=utf-8", `{"error":"model 'nosuch' not found"}`},
		{"unknown model, chat", ErrModelNotFound(Chat, "nosuch", nil), Ollama, "application/json; charset=utf-8", `{"error":"model 'nosuch' not found"}`},
		{"unknown model, embed", ErrModelNotFound(Embed, "nosuch", nil), Ollama, "application/json; charset=utf-8", `{"error":"model \"nosuch\" not found, try pulling it first"}`},
		{"unknown model, copy", ErrModelNotFound(Copy, "nosuch", nil), Ollama, "application/json; charset=utf-8", `{"error":"model \"nosuch\" not found"}`},
		{"unknown model, hints", ErrModelNotFound(Show, "a", []string{"b:latest", "c:7b"}), Ollama, "application/json; charset=utf-8", `{"error":"model 'a' not found; the mesh has b:latest, c:7b"}`},
		{"unknown model, v1", ErrModelNotFound(V1Chat, "nosuch", nil), OpenAI, "application/json", `{"error":{"message":"model 'nosuch' not found","type":"not_found_error","param":null,"code":null}}`},
		{"unknown model, messages", ErrModelNotFound(V1Messages, "nosuch", nil), Anthropic, "application/json", `{"type":"error","error":{"type":"not_found_error","message":"model 'nosuch' not found"}}`},
		{"bad request", ErrBadRequest("unexpected EOF"), Ollama, "application/json; charset=utf-8", `{"error":"unexpected EOF"}`},
		{"bad request, v1", ErrBadRequest("EOF"), OpenAI, "application/json", `{"error":{"message":"EOF","type":"invalid_request_error","param":null,"code":null}}`},
		{"request id", &Error{Status: 400, Message: "x", RequestID: "req_1"}, Anthropic, "application/json", `{"type":"error","error":{"type":"invalid_request_error","message":"x"},"request_id":"req_1"}`},
		{"queue full", ErrBusy(0, ""), Ollama, "application/json; charset=utf-8", `{"error":"server busy, please try again.  maximum pending requests exceeded"}`},
		{"queue full, v1", ErrBusy(0, ""), OpenAI, "application/json", `{"error":{"message":"server busy, please try again.  maximum pending requests exceeded","type":"api_error","param":null,"code":null}}`},
		{"queue full, messages", ErrBusy(0, "draining"), Anthropic, "application/json", `{"type":"error","error":{"type":"overloaded_error","message":"server busy, please try again.  draining"}}`},
		{"too large, messages", ErrTooLarge(5), Anthropic, "application/json", `{"type":"error","error":{"type":"request_too_large","message":"request body is larger than 5 bytes"}}`},
		{"code", &Error{Status: 401, Message: "x", Type: "t", Code: "invalid_api_key"}, OpenAI, "application/json", `{"error":{"message":"x","type":"t","param":null,"code":"invalid_api_key"}}`},
		{"no route", ErrNoRoute(), Ollama, "text/plain", "404 page not found"},
		{"method, v1", ErrMethod([]string{"POST"}), OpenAI, "text/plain", "405 method not allowed"},
		{"hostile name", ErrModelNotFound(Generate, "a\"\n<\xff>", nil), Ollama, "application/json; charset=utf-8", `{"error":"model 'a\"\n\u003c\ufffd\u003e' not found"}`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			contentType, body := tt.err.Body(tt.dialect)
			if contentType != tt.contentType || string(body) != tt.body {
				t.Errorf("got  %s %s\nwant %s %s", contentType, body, tt.contentType, tt.body)
			}
		})
	}
}

func TestAnthropicErrorTypes(t *testing.T) {
	for status, want := range map[int]string{
		400: "invalid_request_error", 401: "authentication_error", 403: "permission_error", 404: "not_found_error",
		413: "request_too_large", 429: "rate_limit_error", 500: "api_error", 502: "api_error", 503: "overloaded_error", 529: "overloaded_error",
	} {
		if got := (&Error{Status: status}).anthropic().Type; got != want {
			t.Errorf("%d: %s, want %s", status, got, want)
		}
	}
}

func TestErrorFrame(t *testing.T) {
	err := ErrInterrupted("node \"a\" was lost\n")
	const message = `the answer was cut off: node \"a\" was lost\n`
	tests := map[Kind]string{
		Generate:      `{"error":"` + message + `"}` + "\n",
		Chat:          `{"error":"` + message + `"}` + "\n",
		Pull:          `{"error":"` + message + `"}` + "\n",
		V1Chat:        `data: {"error":{"message":"` + message + `","type":"api_error","param":null,"code":null}}` + "\n\n",
		V1Completions: `data: {"error":{"message":"` + message + `","type":"api_error","param":null,"code":null}}` + "\n\n",
		V1Messages:    "event: error\n" + `data: {"type":"error","error":{"type":"api_error","message":"` + message + `"}}` + "\n\n",
		V1Responses:   "event: error\n" + `data: {"type":"error","code":null,"message":"` + message + `","param":null,"error":{"message":"` + message + `","type":"api_error","param":null,"code":null}}` + "\n\n",
		Embed:         `{"error":"` + message + `"}`,
	}
	for kind, want := range tests {
		t.Run(kind.String(), func(t *testing.T) {
			if got := string(err.Frame(kind)); got != want {
				t.Errorf("got  %q\nwant %q", got, want)
			}
		})
	}
}

// What we write as an error frame, we read as an error that ends nothing.
func TestErrorFrameIsReadBack(t *testing.T) {
	err := ErrInterrupted("gone")
	for k := range kindEnd {
		if !k.Streams() {
			continue
		}
		s := NewScanner(k.Framing(), 0)
		s.Write(err.Frame(k))
		f, ok := s.Next()
		if c := f.Inspect(k); !ok || c.Error != err.Message || c.Done {
			t.Errorf("%v: %v %+v", k, ok, c)
		}
	}
}

func TestErrorHeader(t *testing.T) {
	h := http.Header{}
	ErrBusy(1500*time.Millisecond, "").SetHeader(h)
	ErrMethod([]string{"GET", "HEAD"}).SetHeader(h)
	if h.Get("Retry-After") != "2" || h.Get("Allow") != "GET, HEAD" {
		t.Errorf("%v", h)
	}
	h = http.Header{}
	ErrBadRequest("x").SetHeader(h)
	if len(h) != 0 {
		t.Errorf("%v", h)
	}
}

func TestErrors(t *testing.T) {
	cause := ErrInternal(io.ErrClosedPipe)
	if !errors.Is(cause, io.ErrClosedPipe) || !strings.Contains(cause.Error(), "500") {
		t.Errorf("%v", cause)
	}
	if _, body := cause.Body(Ollama); bytes.Contains(body, []byte("pipe")) {
		t.Errorf("the cause is for logs, but the caller reads %s", body)
	}
	for _, tt := range []struct {
		err    *Error
		status int
	}{
		{ErrCloud("m:cloud"), 403},
		{ErrNoNode("m", "all are busy", time.Second), 503},
		{ErrTooMany(time.Second), 429},
		{ErrUnauthorized("x"), 401},
		{ErrForbidden("x"), 403},
		{ErrLoop(), 508},
		{ErrEncoding("br"), 415},
		{ErrInterrupted("x"), 502},
	} {
		if tt.err.Status != tt.status || tt.err.Message == "" {
			t.Errorf("%+v", tt.err)
		}
		for _, d := range []Dialect{Ollama, OpenAI, Anthropic} {
			if _, body := tt.err.Body(d); !json.Valid(body) {
				t.Errorf("%v: %s", tt.err, body)
			}
		}
	}
	long := ErrModelNotFound(Generate, strings.Repeat("é", 500), nil)
	if len(long.Message) > 300 {
		t.Errorf("%d bytes of message", len(long.Message))
	}
	if r, allowed, _ := Lookup("PUT", "/api/tags"); !slices.Equal(ErrMethod(allowed).Allow, []string{"GET", "HEAD"}) {
		t.Errorf("%v %v", r, allowed)
	}
}
