package ollamatest

import "errors"

// refusal writes an error in the dialect of a route.
type refusal func(status int, text string) (contentType string, body []byte)

// errorLine is Ollama's error object.
func errorLine(text string) []byte {
	return append(appendString([]byte(`{"error":`), []byte(text)), '}')
}

// ollamaRefusal is an error of the routes under /api.
func ollamaRefusal(_ int, text string) (string, []byte) {
	return "application/json; charset=utf-8", errorLine(text)
}

// statusError is an error with the HTTP status that Ollama gives it.
type statusError struct {
	status int
	text   string
}

func (e *statusError) Error() string { return e.text }

// asStatus returns the status and text of an error, 500 for any other.
func asStatus(err error) (int, string) {
	if e, ok := errors.AsType[*statusError](err); ok {
		return e.status, e.text
	}
	return 500, err.Error()
}
