package lane

import "net/http"

// Fits reports whether req is plain as it will be sent (see [Server]), with a
// body of known length up to most bytes.
func Fits(req *http.Request, most int64) bool {
	n := length(req)
	if req.Method != http.MethodPost || n < 0 || n > most || req.URL.RawQuery != "" || !plainPath(req.URL.EscapedPath()) ||
		len(req.Header) > plainHeaders/2 {
		return false
	}
	size, lines := 0, 0
	for name, values := range req.Header {
		switch name {
		case "Te", "Upgrade", "Expect", "Keep-Alive", "Proxy-Connection", "Http2-Settings":
			return false
		}
		for _, v := range values {
			size += len(name) + len(v) + 4
			lines++
			if !visible(v) {
				return false
			}
		}
	}
	return size < plainHead/2 && lines < plainHeaders/2
}
