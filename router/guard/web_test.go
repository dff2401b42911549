package guard

import (
	"strings"
	"testing"
)

func TestHosts(t *testing.T) {
	w := newWeb([]string{"Gpu-Box", "llm.example.com"}, nil)
	for host, want := range map[string]bool{
		"":                       true,
		"localhost":              true,
		"localhost:11435":        true,
		"LOCALHOST.:11435":       true,
		"127.0.0.1:11435":        true,
		"[::1]:11435":            true,
		"192.168.1.20:11435":     true,
		"8.8.8.8":                true,
		"gpu-box:11435":          true,
		"llm.example.com":        true,
		"gpu-box.local":          true,
		"a.b.internal:1":         true,
		"box.tail1234.ts.net":    true,
		"evil.example":           false,
		"evil.example:11435":     false,
		"localhost.evil.example": false,
		"127.0.0.1.evil.example": false,
		"gpu-box.evil.example":   false,
		"local":                  false,
		"localhost:x":            false,
		"localhost/..":           false,
		"evil.example#.local":    false,
		"user@localhost":         false,
	} {
		if got := w.hostOK(host); got != want {
			t.Errorf("%q: %v, want %v", host, got, want)
		}
	}
}

func TestOrigins(t *testing.T) {
	w := newWeb(nil, []string{"https://chat.example.com", "https://*.home.example"})
	for _, tt := range []struct {
		origin, host string
		want         bool
	}{
		{"http://localhost", "x", true},
		{"http://localhost:3000", "x", true},
		{"https://127.0.0.1:8443", "x", true},
		{"http://0.0.0.0:1", "x", true},
		{"app://obsidian.md", "x", true},
		{"vscode-webview://abc", "x", true},
		{"chrome-extension://abcdef", "x", true},
		{"http://gpu-box:11435", "gpu-box:11435", true},
		{"http://gpu-box:11436", "gpu-box:11435", false},
		{"https://chat.example.com", "x", true},
		{"https://CHAT.example.com", "x", true},
		{"http://chat.example.com", "x", false},
		{"https://a.home.example", "x", true},
		{"https://evil.example", "x", false},
		{"http://localhost.evil.example", "x", false},
		{"http://localhost:80@evil.example", "x", false},
		{"http://localhostx:3000", "x", false},
		{"https://evil.example/.home.example", "x", false},
		{"http://localhost:80.evil.example", "x", false},
		{"null", "x", false},
		{"null", "", false},
	} {
		if got := w.originOK(tt.origin, tt.host); got != tt.want {
			t.Errorf("%q at %q: %v, want %v", tt.origin, tt.host, got, tt.want)
		}
	}
	if all := newWeb(nil, []string{"*"}); !all.originOK("https://evil.example", "x") || all.originOK("null", "x") {
		t.Error("* must let every page in, and no nameless one")
	}
}

func TestPreflightIsAnsweredHere(t *testing.T) {
	d := open(t, Config{RequireKey: true}, "192.168.1.7")
	ask := []string{"Origin", "http://localhost:3000", "Access-Control-Request-Method", "POST", "Access-Control-Request-Private-Network", "true"}
	resp, _ := do(t, "OPTIONS", "http://"+d.addr+"/api/chat", "", ask...)
	h := resp.Header
	if resp.StatusCode != 204 || h.Get("Access-Control-Allow-Origin") != "http://localhost:3000" ||
		!strings.Contains(h.Get("Access-Control-Allow-Headers"), "Authorization") ||
		h.Get("Access-Control-Allow-Private-Network") != "true" || len(d.echo.took()) > 0 {
		t.Errorf("%s %v, handler saw %v", resp.Status, h, d.echo.took())
	}
	ask[1] = "https://evil.example"
	resp, _ = do(t, "OPTIONS", "http://"+d.addr+"/api/chat", "", ask...)
	if resp.StatusCode != 403 || resp.Header.Get("Access-Control-Allow-Origin") != "" {
		t.Errorf("foreign page: %s %v", resp.Status, resp.Header)
	}
}

// A page must be able to read why it was refused, if its origin is allowed.
func TestAllowedPagesCanReadAnswers(t *testing.T) {
	d := open(t, Config{RequireKey: true, Origins: []string{"https://chat.example.com"}}, "192.168.1.7")
	resp, _ := do(t, "POST", "http://"+d.addr+"/api/chat", "{}", "Origin", "https://chat.example.com")
	if resp.StatusCode != 401 || resp.Header.Get("Access-Control-Allow-Origin") != "https://chat.example.com" || resp.Header.Get("Vary") != "Origin" {
		t.Errorf("%s %v", resp.Status, resp.Header)
	}
}

func FuzzHostAndOrigin(f *testing.F) {
	f.Add("localhost:1", "http://localhost:1")
	f.Add("[::1]", "null")
	f.Add("a%00.local", "http://localhost:*")
	w := newWeb([]string{"gpu-box"}, nil)
	f.Fuzz(func(t *testing.T, host, origin string) {
		if w.hostOK(host) && strings.HasSuffix(strings.ToLower(host), ".example") {
			t.Errorf("host %q", host)
		}
		if w.originOK(origin, "") && strings.HasSuffix(strings.ToLower(origin), ".example") && strings.HasPrefix(origin, "http") {
			t.Errorf("origin %q", origin)
		}
	})
}
