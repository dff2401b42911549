package wire

import (
	"bytes"
	"mime/multipart"
	"strings"
	"testing"
)

const formType = "multipart/form-data; boundary=xx"

func form(parts ...string) string {
	var b strings.Builder
	for _, p := range parts {
		b.WriteString("--xx\r\nContent-Disposition: form-data; " + p + "\r\n")
	}
	return b.String() + "--xx--\r\n"
}

func TestParseForm(t *testing.T) {
	file := "name=\"file\"; filename=\"a.wav\"\r\nContent-Type: audio/wav\r\n\r\n" + strings.Repeat("\x00", 4096)
	model := "name=\"model\"\r\n\r\nwhisper"
	many := make([]string, maxParts+1)
	for i := range many {
		many[i] = "name=\"x\"\r\n\r\ny"
	}
	tests := []struct {
		name, contentType, body string
		model                   string
		message                 string
	}{
		{"model first", formType, form(model, file), "whisper", ""},
		{"model last", formType, form(file, "name=language\r\n\r\nde", model), "whisper", ""},
		{"quoted-printable, as Ollama reads it", formType, form("name=\"model\"\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\nwhis=70er"), "whisper", ""},
		{"no model", formType, form(file), "", "model is required"},
		{"empty model", formType, form("name=\"model\"\r\n\r\n"), "", "model is required"},
		{"two models", formType, form(model, model), "", "there must be one model field"},
		{"model as a file", formType, form("name=\"model\"; filename=\"m\"\r\n\r\nwhisper"), "", "there must be one model field"},
		{"long model", formType, form("name=\"model\"\r\n\r\n" + strings.Repeat("m", MaxModelName+1)), "", "invalid model name"},
		{"many parts", formType, form(many...), "", "too many parts"},
		{"cut in the file", formType, form(model, file)[:900], "", "ends early"},
		{"cut after a part", formType, strings.TrimSuffix(form(model), "--xx--\r\n"), "", "ends early"},
		{"empty", formType, "", "", "ends early"},
		{"JSON", "application/json", `{"model":"a"}`, "", "isn't multipart/form-data"},
		{"no boundary", "multipart/form-data", form(model), "", "isn't multipart/form-data"},
		{"mixed", "multipart/mixed; boundary=xx", form(model), "", "isn't multipart/form-data"},
		{"bad type", ";;", form(model), "", "isn't multipart/form-data"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p, err := ParseForm(tt.contentType, []byte(tt.body))
			if tt.message != "" {
				if err == nil || err.Status != 400 || !strings.Contains(err.Message, tt.message) {
					t.Errorf("got %+v, %v, want %q", p, err, tt.message)
				}
				return
			}
			if err != nil || p.Model != tt.model {
				t.Errorf("got %+v, %v", p, err)
			}
			if strings.Contains(tt.body, "a.wav") && (p.PromptBytes != 4096 || p.PromptTokens != 4) {
				t.Errorf("%d bytes, %d tokens", p.PromptBytes, p.PromptTokens)
			}
		})
	}
}

// FuzzParseForm compares with what net/http makes of the form: the first value
// of the field that is no file.
func FuzzParseForm(f *testing.F) {
	f.Add([]byte(form("name=\"model\"\r\n\r\nwhisper")))
	f.Add([]byte(form("name=\"model\"\r\n\r\na", "name=\"model\"\r\n\r\nb")))
	f.Add([]byte(form("name=\"model\"; filename=\"\"\r\n\r\na")))
	f.Add([]byte(form("name=\"file\"; filename=\"f\"\r\n\r\na", "name=model\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n=61")))
	f.Fuzz(func(t *testing.T, body []byte) {
		p, err := ParseForm(formType, body)
		if err != nil {
			return
		}
		form, ferr := multipart.NewReader(bytes.NewReader(body), "xx").ReadForm(1 << 20)
		if ferr != nil {
			t.Fatalf("%q: model %q, ReadForm says %v", body, p.Model, ferr)
		}
		if v := form.Value["model"]; len(v) != 1 || v[0] != p.Model {
			t.Fatalf("%q: model %q, ReadForm reads %q", body, p.Model, v)
		}
	})
}
