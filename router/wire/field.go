package wire

import "net/http"

// Field is the first value of a header field, "" when there is none. name is in
// canonical form: [http.Header.Get] makes sure of that with every call, and a
// request asks for two dozen.
func Field(h http.Header, name string) string {
	if v := h[name]; len(v) > 0 {
		return v[0]
	}
	return ""
}
