package wire

import (
	"bytes"
	"io"
	"mime"
	"mime/multipart"
)

const (
	maxParts    = 64   // a transcription has seven fields
	audioPerTok = 1024 // bytes; 16 kHz 16-bit sound is 32 kB/s, and encoders make some 25 to 50 tokens of a second
)

// ParseForm reads a multipart request (audio transcription): the model is a
// form field. A second model field, or one sent as a file, is refused, because
// parsers differ in which they take.
//
// Ollama looks for the model in the query string first. A caller that forwards
// such a request must drop the query.
func ParseForm(contentType string, body []byte) (Peek, *Error) {
	p := Peek{NumPredict: -1, N: 1}
	media, params, err := mime.ParseMediaType(contentType)
	if err != nil || media != "multipart/form-data" || params["boundary"] == "" {
		return Peek{}, formError("request Content-Type isn't multipart/form-data", err)
	}
	form := multipart.NewReader(bytes.NewReader(body), params["boundary"])
	seen := false
	for parts := 0; ; parts++ {
		part, err := form.NextPart()
		if err == io.EOF { // not errors.Is: a wrapped EOF is a body that ends early
			break
		}
		if err != nil {
			return Peek{}, formError("the body is corrupt or ends early", err)
		}
		if parts == maxParts {
			return Peek{}, formError("too many parts", nil)
		}
		switch part.FormName() {
		case "model":
			if seen || part.FileName() != "" {
				return Peek{}, formError("there must be one model field", nil)
			}
			seen = true
			name, err := io.ReadAll(io.LimitReader(part, MaxModelName+1))
			if err != nil {
				return Peek{}, formError("the body is corrupt or ends early", err)
			}
			if len(name) > MaxModelName {
				return Peek{}, ErrBadRequest("invalid model name")
			}
			p.Model = string(name)
		case "file":
			n, err := io.Copy(io.Discard, part)
			if err != nil {
				return Peek{}, formError("the body is corrupt or ends early", err)
			}
			p.PromptBytes += int(n)
		}
	}
	if p.Model == "" {
		return Peek{}, ErrBadRequest("model is required")
	}
	p.PromptTokens = p.PromptBytes / audioPerTok
	return p, nil
}

func formError(why string, err error) *Error {
	e := ErrBadRequest("failed to parse multipart form: " + why)
	e.Err = err
	return e
}
