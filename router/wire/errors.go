package wire

import (
	"fmt"
	"net/http"
	"strings"
	"time"
)

// ErrBadRequest is a 400 with the given message.
func ErrBadRequest(message string) *Error {
	return &Error{Status: http.StatusBadRequest, Message: message}
}

// ErrTooLarge is a 413 for a body over limit bytes.
func ErrTooLarge(limit int64) *Error {
	return &Error{
		Status:  http.StatusRequestEntityTooLarge,
		Message: fmt.Sprintf("request body is larger than %d bytes", limit),
	}
}

// ErrModelNotFound is Ollama's 404 for a model that nobody has, in the words of
// the route that was asked; hints, as [Near] gives them, are added.
func ErrModelNotFound(kind Kind, model string, hints []string) *Error {
	format := "model '%s' not found"
	switch kind {
	case Embed, Embeddings, V1Embeddings:
		format = "model %q not found, try pulling it first"
	case Copy:
		format = "model %q not found"
	}
	message := fmt.Sprintf(format, short(model))
	if len(hints) > 0 {
		message += "; the mesh has " + strings.Join(hints, ", ")
	}
	return &Error{Status: http.StatusNotFound, Message: message}
}

// ErrCloud is a 403 for a model that would run at ollama.com on the account of
// a node's owner.
func ErrCloud(model string) *Error {
	return &Error{
		Status:  http.StatusForbidden,
		Message: fmt.Sprintf("%q runs at ollama.com on a node owner's account and is not served through the mesh", short(model)),
	}
}

// ErrBusy is Ollama's 503 for a full queue. reason replaces what Ollama says
// itself; "" keeps that. The two blanks are Ollama's, too.
func ErrBusy(retryAfter time.Duration, reason string) *Error {
	if reason == "" {
		reason = "maximum pending requests exceeded"
	}
	return &Error{
		Status:     http.StatusServiceUnavailable,
		Message:    "server busy, please try again.  " + reason,
		RetryAfter: retryAfter,
	}
}

// ErrTooMany is a 429: this caller has too many requests running or waiting.
func ErrTooMany(retryAfter time.Duration) *Error {
	return &Error{
		Status: http.StatusTooManyRequests, Message: "too many requests from this client",
		Type: "rate_limit_error", RetryAfter: retryAfter,
	}
}

// ErrNoNode is a 503: nodes have the model, but none can take the request now.
// reason says why, for the caller to read.
func ErrNoNode(model, reason string, retryAfter time.Duration) *Error {
	return &Error{
		Status:     http.StatusServiceUnavailable,
		Message:    fmt.Sprintf("no node can serve model '%s': %s", short(model), reason),
		RetryAfter: retryAfter,
	}
}

// ErrInterrupted is what a stream ends with when its node was lost and the
// answer could not be continued; before the first byte it is a 502.
func ErrInterrupted(reason string) *Error {
	return &Error{Status: http.StatusBadGateway, Message: "the answer was cut off: " + reason}
}

// ErrUnauthorized is a 401: the caller must show a key.
func ErrUnauthorized(message string) *Error {
	return &Error{Status: http.StatusUnauthorized, Message: message, Type: "authentication_error"}
}

// ErrForbidden is a 403: this caller may not do that here.
func ErrForbidden(message string) *Error {
	return &Error{Status: http.StatusForbidden, Message: message, Type: "permission_error"}
}

// ErrLoop is a 508: the request came back to a node that it had passed.
func ErrLoop() *Error {
	return &Error{Status: http.StatusLoopDetected, Message: "the request was forwarded in a loop"}
}

// ErrInternal is a 500; the cause is for logs only.
func ErrInternal(cause error) *Error {
	return &Error{Status: http.StatusInternalServerError, Message: "internal error", Err: cause}
}

// ErrNoRoute is the 404 for an unknown path, as Ollama's router writes it.
func ErrNoRoute() *Error {
	return &Error{Status: http.StatusNotFound, Message: "404 page not found", Plain: true}
}

// ErrMethod is the 405 for a known path, as Ollama's router writes it; allowed
// comes from [Lookup].
func ErrMethod(allowed []string) *Error {
	return &Error{
		Status: http.StatusMethodNotAllowed, Message: "405 method not allowed", Plain: true, Allow: allowed,
	}
}

// ErrEncoding is a 415 for a Content-Encoding that nobody here decodes.
func ErrEncoding(encoding string) *Error {
	return &Error{
		Status:  http.StatusUnsupportedMediaType,
		Message: fmt.Sprintf("unsupported content encoding %q, use gzip, zstd or none", short(encoding)),
	}
}

// short bounds what a caller's text may add to an error.
func short(s string) string {
	const most = 200
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "..."
}
