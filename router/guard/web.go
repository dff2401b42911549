package guard

import (
	"net"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"strings"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/wire"
)

// web is what keeps web pages out: which names this node answers to, and which
// origins may call it.
type web struct {
	hosts   []string // names beside the built-in ones, lower case
	origins []string // patterns with at most one *
}

// defaultOrigins are Ollama's: this machine under three names, on any port, and
// the schemes of desktop applications and browser extensions.
var defaultOrigins = []string{
	"http://localhost", "https://localhost", "http://localhost:*", "https://localhost:*",
	"http://127.0.0.1", "https://127.0.0.1", "http://127.0.0.1:*", "https://127.0.0.1:*",
	"http://0.0.0.0", "https://0.0.0.0", "http://0.0.0.0:*", "https://0.0.0.0:*",
	"app://*", "file://*", "tauri://*", "vscode-webview://*", "vscode-file://*",
	"chrome-extension://*", "safari-extension://*", "moz-extension://*", "ms-browser-extension://*",
}

// newWeb adds names and origins to the built-in ones. An origin may hold one *
// for any text; "*" alone lets every page in.
func newWeb(hosts, origins []string) web {
	w := web{origins: slices.Clone(defaultOrigins)}
	if name, err := os.Hostname(); err == nil && name != "" {
		hosts = append(slices.Clone(hosts), name)
	}
	for _, h := range hosts {
		if h = strings.ToLower(strings.TrimSuffix(strings.TrimSpace(h), ".")); h != "" {
			w.hosts = append(w.hosts, h)
		}
	}
	for _, o := range origins {
		if o = strings.ToLower(strings.Trim(strings.TrimSpace(o), `"'`)); o != "" {
			w.origins = append(w.origins, o)
		}
	}
	return w
}

// localSuffixes end names that public DNS cannot give to anybody, or that
// belong to the owner's tailnet.
var localSuffixes = []string{".localhost", ".local", ".internal", ".lan", ".home.arpa", ".ts.net"}

// hostOK reports whether a Host header names this node or its network. DNS
// rebinding needs a name that its author owns, so any literal address will do.
// HTTP/1.0 has no Host, and no browser speaks it.
func (w web) hostOK(header string) bool {
	if header == "" {
		return true
	}
	host := hostname(header)
	if host == "" {
		return false
	}
	if host == "localhost" || slices.Contains(w.hosts, host) {
		return true
	}
	if _, err := netip.ParseAddr(host); err == nil {
		return true
	}
	return slices.ContainsFunc(localSuffixes, func(s string) bool { return strings.HasSuffix(host, s) })
}

// direct reports whether a Host header means this very machine.
func direct(header string) bool {
	host := hostname(header)
	if host == "localhost" {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.Unmap().IsLoopback()
}

// hostname is the host of a Host header in lower case, without port, brackets
// and the root's dot; "" when it has no sane form.
func hostname(header string) string {
	host := header
	if strings.IndexByte(header, ':') < 0 {
		// no port: nothing to split
	} else if h, port, err := net.SplitHostPort(header); err == nil {
		if strings.IndexFunc(port, func(r rune) bool { return r < '0' || r > '9' }) >= 0 {
			return ""
		}
		host = h
	}
	host = strings.ToLower(strings.TrimSuffix(strings.Trim(host, "[]"), "."))
	if strings.ContainsAny(host, " /\\@?#,\t") {
		return ""
	}
	return host
}

// originOK reports whether a page of that origin may call the node that it
// knows as host. "null" is what a sandboxed page and a redirect send: it could
// be anybody.
func (w web) originOK(origin, host string) bool {
	origin = strings.ToLower(origin)
	if host != "" && (origin == "http://"+strings.ToLower(host) || origin == "https://"+strings.ToLower(host)) {
		return true
	}
	for _, pattern := range w.origins {
		if origin == "null" && pattern != "null" {
			continue
		}
		before, after, star := strings.Cut(pattern, "*")
		switch {
		case !star && origin == pattern:
			return true
		case !star || len(origin) < len(before)+len(after):
		case strings.HasPrefix(origin, before) && strings.HasSuffix(origin, after) && stands(before, origin[len(before):len(origin)-len(after)]):
			return true
		}
	}
	return false
}

// stands reports whether text may stand for the * after before: behind a colon
// it is a port, elsewhere it has no user and no path.
func stands(before, text string) bool {
	if strings.HasSuffix(before, ":") {
		return strings.Trim(text, "0123456789") == ""
	}
	return before == "" || !strings.ContainsAny(text, "@/\\")
}

// sameOrigin reports whether a request comes from the node's own page.
func sameOrigin(req *http.Request) bool {
	origin := wire.Field(req.Header, "Origin")
	return origin == "" || origin == "http://"+req.Host || origin == "https://"+req.Host
}

// crossSite reports whether a browser says that a page of another site made the
// request. Browsers leave Origin out of simple GETs, but not this header.
func crossSite(req *http.Request) bool {
	switch wire.Field(req.Header, "Sec-Fetch-Site") {
	case "cross-site", "same-site":
		return true
	}
	return false
}

// corsHeaders are what a page may send: Ollama's list, and what the OpenAI and
// Anthropic clients and our own routes add.
const corsHeaders = "Authorization,Content-Type,User-Agent,Accept,X-Requested-With," +
	"OpenAI-Beta,X-Stainless-Arch,X-Stainless-Async,X-Stainless-Custom-Poll-Interval,X-Stainless-Helper-Method," +
	"X-Stainless-Lang,X-Stainless-Os,X-Stainless-Package-Version,X-Stainless-Poll-Helper,X-Stainless-Retry-Count," +
	"X-Stainless-Runtime,X-Stainless-Runtime-Version,X-Stainless-Timeout," +
	"X-Api-Key,Anthropic-Version,Anthropic-Beta,Anthropic-Dangerous-Direct-Browser-Access," +
	"X-Kage-Request-Id,X-Kage-Class,X-Kage-Continue"

const corsExposed = "X-Kage-Node,X-Kage-Attempts,X-Kage-Digest,X-Kage-Request-Id,Retry-After"

// answerOrigin writes what lets a page of an allowed origin read the answer.
func answerOrigin(h http.Header, origin string) {
	h.Set("Access-Control-Allow-Origin", origin)
	h.Set("Access-Control-Expose-Headers", corsExposed)
	h.Add("Vary", "Origin")
}

// preflight answers a browser's question whether a page may call; the page's
// origin has been checked.
func preflight(w http.ResponseWriter, req *http.Request) {
	h := w.Header()
	answerOrigin(h, wire.Field(req.Header, "Origin"))
	h.Del("Access-Control-Expose-Headers")
	h.Add("Vary", "Access-Control-Request-Method")
	h.Add("Vary", "Access-Control-Request-Headers")
	h.Set("Access-Control-Allow-Methods", "GET,POST,PUT,PATCH,DELETE,HEAD,OPTIONS")
	h.Set("Access-Control-Allow-Headers", corsHeaders)
	h.Set("Access-Control-Max-Age", "43200")
	if wire.Field(req.Header, "Access-Control-Request-Private-Network") == "true" {
		h.Set("Access-Control-Allow-Private-Network", "true")
	}
	w.WriteHeader(http.StatusNoContent)
}
