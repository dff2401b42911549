package backend

import (
	"errors"
	"net"
	"net/url"
	"strconv"
	"testing"
)

func TestParseHost(t *testing.T) {
	for name, c := range map[string]struct{ in, want string }{
		"empty":                    {"", "http://127.0.0.1:11434"},
		"address":                  {"1.2.3.4", "http://1.2.3.4:11434"},
		"only port":                {":1234", "http://127.0.0.1:1234"},
		"address and port":         {"1.2.3.4:1234", "http://1.2.3.4:1234"},
		"name":                     {"example.com", "http://example.com:11434"},
		"name and port":            {"example.com:1234", "http://example.com:1234"},
		"port zero padded":         {"example.com:0080", "http://example.com:80"},
		"no port after colon":      {"example.com:", "http://example.com:11434"},
		"port too large":           {":66000", "http://127.0.0.1:11434"},
		"port negative":            {":-1", "http://127.0.0.1:11434"},
		"port is a word":           {"example.com:word", "http://example.com:11434"},
		"ipv6 loopback":            {"[::1]", "http://[::1]:11434"},
		"ipv6 without brackets":    {"::1", "http://[::1]:11434"},
		"ipv6 with port":           {"[::1]:1337", "http://[::1]:1337"},
		"ipv6 with zone":           {"[fe80::1%eth0]:1", "http://[fe80::1%eth0]:1"},
		"blanks around":            {" 1.2.3.4 ", "http://1.2.3.4:11434"},
		"double quotes":            {`"1.2.3.4"`, "http://1.2.3.4:11434"},
		"single quotes":            {"'1.2.3.4'", "http://1.2.3.4:11434"},
		"quotes with blanks":       {`" 1.2.3.4 "`, "http://1.2.3.4:11434"},
		"http":                     {"http://1.2.3.4", "http://1.2.3.4:80"},
		"http with port":           {"http://1.2.3.4:4321", "http://1.2.3.4:4321"},
		"https":                    {"https://1.2.3.4", "https://1.2.3.4:443"},
		"https bad port":           {"https://1.2.3.4:nope", "https://1.2.3.4:443"},
		"slash at the end":         {"example.com/", "http://example.com:11434"},
		"path":                     {"https://example.com/ollama", "https://example.com:443/ollama"},
		"path without scheme":      {"example.com:56789/ollama/", "http://example.com:56789/ollama"},
		"all ipv4 interfaces":      {"0.0.0.0", "http://127.0.0.1:11434"},
		"all with port":            {"0.0.0.0:99", "http://127.0.0.1:99"},
		"all ipv6 interfaces":      {"::", "http://[::1]:11434"},
		"all ipv6 with port":       {"[::]:99", "http://[::1]:99"},
		"a bare number is a name":  {"11500", "http://11500:11434"},
		"underscore in a hostname": {"my_box", "http://my_box:11434"},
	} {
		t.Run(name, func(t *testing.T) {
			u, err := ParseHost(c.in)
			if err != nil {
				t.Fatal(err)
			}
			want, err := url.Parse(c.want)
			if err != nil { // a zone is not valid unescaped
				want = &url.URL{Scheme: "http", Host: c.want[len("http://"):]}
			}
			if u.Scheme != want.Scheme || u.Host != want.Host || u.Path != want.Path {
				t.Errorf("ParseHost(%q) = %v, want %v", c.in, u, want)
			}
		})
	}
}

func TestParseHostRefuses(t *testing.T) {
	for _, in := range []string{
		"ftp://example.com", "unix:///run/ollama.sock", "://", "example.com:0",
		"two words", "user@example.com", "1.2.3.4:5:6", "[::1%a b]", "ex\x00ample", "http://exämple",
	} {
		if u, err := ParseHost(in); !errors.Is(err, ErrHost) {
			t.Errorf("ParseHost(%q) = %v, %v; want ErrHost", in, u, err)
		}
	}
}

func FuzzParseHost(f *testing.F) {
	for _, s := range []string{"", ":1", "[::]:1", "http://a/b", "'x'", "https://[fe80::1%a]:5/x?y", "a:b:c", "\x00"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		u, err := ParseHost(s)
		if err != nil {
			if !errors.Is(err, ErrHost) || u != nil {
				t.Fatalf("ParseHost(%q) = %v, %v", s, u, err)
			}
			return
		}
		host, port, err := net.SplitHostPort(u.Host)
		if err != nil || host == "" {
			t.Fatalf("ParseHost(%q).Host = %q: %v", s, u.Host, err)
		}
		if n, err := strconv.Atoi(port); err != nil || n < 1 || n > 65535 {
			t.Fatalf("ParseHost(%q) has port %q", s, port)
		}
		if u.Scheme != "http" && u.Scheme != "https" {
			t.Fatalf("ParseHost(%q) has scheme %q", s, u.Scheme)
		}
		if ip := net.ParseIP(host); ip != nil && ip.IsUnspecified() {
			t.Fatalf("ParseHost(%q) cannot be dialled: %v", s, u)
		}
		again, err := ParseHost(u.Scheme + "://" + u.Host)
		if err != nil || again.Host != u.Host {
			t.Fatalf("ParseHost of its own result %v = %v, %v", u, again, err)
		}
	})
}
