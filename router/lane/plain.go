package lane

import (
	"net/http"
	"net/textproto"
	"net/url"
	"slices"
	"strings"
)

// Bounds of a head that is answered here. Ollama's clients send some 200 bytes.
const (
	plainHead    = 8 << 10
	plainHeaders = 48
)

// plain reads a request's head into r, which ends with its empty line, when it is
// within the subset that all HTTP/1.1 parsers agree on:
//
//   - POST with exactly one Content-Length, or GET with none;
//   - a path of letters, digits and -_/:@, with single dots inside;
//   - lines that end in CR LF and hold visible ASCII, spaces and tabs;
//   - header names that are tokens, right before their colon;
//   - one Host;
//   - no field that speaks of framing or of the connection, but
//     "Connection: keep-alive".
//
// false: it is not, and nothing is said about why; r and u are used up. On true
// r, whose URL is u, is the request but for its RemoteAddr, context and body.
func plain(r *http.Request, u *url.URL, head []byte) bool {
	if len(head) > plainHead {
		return false
	}
	text := string(head) // all strings of the request share it
	line, rest, ok := strings.Cut(text, "\r\n")
	if !ok {
		return false
	}
	line, ok = strings.CutSuffix(line, " HTTP/1.1")
	if !ok {
		return false
	}
	method, path, _ := strings.Cut(line, " ")
	if method != http.MethodPost && method != http.MethodGet || !plainPath(path) {
		return false
	}
	*u = url.URL{Path: path}
	*r = http.Request{
		Method: method, URL: u, RequestURI: path,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, ContentLength: -1,
	}
	if !plainFields(r, rest) || r.Host == "" || (r.ContentLength < 0) != (method == http.MethodGet) {
		return false
	}
	r.ContentLength = max(r.ContentLength, 0)
	return true
}

var crlf = []byte("\r\n")

// field takes the next line of a head's fields. !ok: it is not plain; no key: it is
// the empty line, and the head ends with it.
func field(text string) (key, value, rest string, ok bool) {
	line, rest, ok := strings.Cut(text, "\r\n")
	if !ok || line == "" {
		return "", "", rest, ok && rest == ""
	}
	name, value, ok := strings.Cut(line, ":")
	if !ok || !token(name) {
		return "", "", "", false
	}
	value = strings.Trim(value, " \t")
	return canonical(name), value, rest, visible(value)
}

func plainFields(r *http.Request, text string) bool {
	n := strings.Count(text, "\r\n")
	if n > plainHeaders {
		return false
	}
	values := make([]string, 0, n)
	r.Header = make(http.Header, n)
	for {
		key, value, rest, ok := field(text)
		if !ok || key == "" {
			return ok
		}
		text = rest
		switch key {
		case "Host":
			if r.Host != "" || !plainHost(value) {
				return false
			}
			r.Host = value
		case "Content-Length":
			n, ok := plainLength(value)
			if !ok || r.ContentLength >= 0 {
				return false
			}
			r.ContentLength = n
			values = append(values, value)
			r.Header[key] = values[len(values)-1:]
		case "Connection":
			if !strings.EqualFold(value, "keep-alive") {
				return false
			}
		case "Transfer-Encoding", "Te", "Trailer", "Upgrade", "Expect", "Keep-Alive", "Proxy-Connection", "Http2-Settings":
			return false
		default:
			if have := r.Header[key]; have != nil {
				r.Header[key] = append(slices.Clip(have), value)
				continue
			}
			values = append(values, value)
			r.Header[key] = values[len(values)-1 : len(values) : len(values)]
		}
	}
}

// visible reports whether a field's value is ASCII that can be seen, blanks and
// tabs.
func visible(value string) bool {
	for i := range len(value) {
		if c := value[i]; (c < ' ' && c != '\t') || c > '~' {
			return false
		}
	}
	return true
}

// canonical is textproto's canonical form, without allocating for names that
// are in it already.
func canonical(name string) string {
	upper := true
	for i := range len(name) {
		c := name[i]
		if upper && 'a' <= c && c <= 'z' || !upper && 'A' <= c && c <= 'Z' {
			if key, ok := lower[name]; ok {
				return key
			}
			return textproto.CanonicalMIMEHeaderKey(name)
		}
		upper = c == '-'
	}
	return name
}

// lower has the names that clients write in lower case.
var lower = func() map[string]string {
	m := make(map[string]string)
	for _, key := range []string{
		"Host", "Content-Length", "Content-Type", "Connection", "Accept", "Accept-Encoding", "Accept-Language",
		"User-Agent", "Authorization", "Sec-Fetch-Mode",
	} {
		m[strings.ToLower(key)] = key
	}
	return m
}()

func plainPath[T string | []byte](p T) bool {
	if len(p) == 0 || p[0] != '/' || len(p) > 256 {
		return false
	}
	for i := range len(p) {
		switch c := p[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', c == '_', c == ':', c == '@':
		case c == '/' || c == '.':
			if i > 0 && (p[i-1] == '/' || p[i-1] == '.') {
				return false // nothing that could be cleaned
			}
		default:
			return false
		}
	}
	return true
}

func plainHost(h string) bool {
	for i := range len(h) {
		switch c := h[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		case c == '.', c == '-', c == '_', c == ':', c == '[', c == ']':
		default:
			return false
		}
	}
	return h != ""
}

// plainLength reads a Content-Length of at most 15 digits.
func plainLength(s string) (n int64, ok bool) {
	if len(s) == 0 || len(s) > 15 {
		return 0, false
	}
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return 0, false
		}
		n = n*10 + int64(s[i]-'0')
	}
	return n, true
}
