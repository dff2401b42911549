package ollamatest

import (
	"net"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"strings"
)

// admit applies Ollama's two guards against web pages: the Origin header, if
// any, must be local, and on a server bound to loopback so must the Host
// header. It answers refused requests and preflights itself.
func (s *Server) admit(w http.ResponseWriter, r *http.Request) bool {
	if origin := r.Header.Get("Origin"); origin != "" && !sameOrigin(origin, r.Host) {
		if !allowedOrigin(origin) {
			w.WriteHeader(http.StatusForbidden)
			return false
		}
		h := w.Header()
		h.Set("Access-Control-Allow-Origin", origin)
		h.Add("Vary", "Origin")
		if r.Method == http.MethodOptions {
			h.Add("Vary", "Access-Control-Request-Method")
			h.Add("Vary", "Access-Control-Request-Headers")
			h.Set("Access-Control-Allow-Methods", "GET,POST,PUT,PATCH,DELETE,HEAD,OPTIONS")
			h.Set("Access-Control-Allow-Headers", "Authorization,Content-Type,User-Agent,Accept,X-Requested-With")
			h.Set("Access-Control-Max-Age", "43200")
			w.WriteHeader(http.StatusNoContent)
			return false
		}
	}
	if !s.boundToLoopback(r) || s.allowedHost(r.Host) {
		return true
	}
	w.WriteHeader(http.StatusForbidden)
	return false
}

func sameOrigin(origin, host string) bool {
	return origin == "http://"+host || origin == "https://"+host
}

// allowedOrigin is Ollama's default list: this machine under three names, on
// any port, and the schemes of desktop applications.
func allowedOrigin(origin string) bool {
	scheme, rest, _ := strings.Cut(origin, "://")
	switch scheme {
	case "app", "file", "tauri", "vscode-webview", "vscode-file",
		"chrome-extension", "safari-extension", "moz-extension", "ms-browser-extension":
		return true
	case "http", "https":
		host, _, _ := strings.Cut(rest, ":")
		return slices.Contains([]string{"localhost", "127.0.0.1", "0.0.0.0"}, host)
	}
	return false
}

// boundToLoopback reports whether the server listens on loopback only. Under a
// foreign HTTP server the address of the connection has to do. An in-memory
// listener has no address to protect.
func (s *Server) boundToLoopback(r *http.Request) bool {
	addr := s.Addr()
	if addr == nil {
		addr, _ = r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	}
	if addr == nil {
		return false
	}
	ap, err := netip.ParseAddrPort(addr.String())
	return err == nil && ap.Addr().IsLoopback()
}

// allowedHost reports whether a Host header names this machine or its network.
func (s *Server) allowedHost(header string) bool {
	host, _, err := net.SplitHostPort(header)
	if err != nil {
		host = header
	}
	host = strings.ToLower(host)
	if ip, err := netip.ParseAddr(strings.Trim(host, "[]")); err == nil {
		return ip.IsLoopback() || ip.IsPrivate() || ip.IsUnspecified() || slices.Contains(s.cfg.Hosts, host)
	}
	if host == "" || host == "localhost" || slices.Contains(s.cfg.Hosts, host) {
		return true
	}
	if name, err := os.Hostname(); err == nil && host == strings.ToLower(name) {
		return true
	}
	for _, tld := range []string{".localhost", ".local", ".internal"} {
		if strings.HasSuffix(host, tld) {
			return true
		}
	}
	return false
}
