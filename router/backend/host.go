package backend

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
)

// DefaultPort is where Ollama listens when OLLAMA_HOST names no port.
const DefaultPort = "11434"

// ErrHost marks an OLLAMA_HOST that nothing could be reached under.
var ErrHost = errors.New("backend: bad ollama host")

// ParseHost reads an OLLAMA_HOST the way Ollama reads its own (envconfig.Host
// of v0.11.4), so that one environment variable means the same to both: blanks
// and quotes around it are trimmed, the scheme is optional, the port defaults
// to 11434 (80 or 443 when http:// or https:// is written out), a port that is
// no port falls back to the default, IPv6 may stand in brackets, a path stays.
// The empty string is 127.0.0.1:11434.
//
// The result is for dialling, as Ollama's own clients do it: an address that
// means "all interfaces" (0.0.0.0, ::, or none before the port) becomes the
// loopback of its family. What Ollama would take but nobody can dial (another
// scheme, port 0, blanks inside a name) is an [ErrHost].
func ParseHost(s string) (*url.URL, error) {
	text := strings.TrimSpace(strings.Trim(strings.TrimSpace(s), `"'`))
	scheme, rest, found := strings.Cut(text, "://")
	port := DefaultPort
	switch {
	case !found:
		scheme, rest = "http", text
	case scheme == "http":
		port = "80"
	case scheme == "https":
		port = "443"
	default:
		return nil, fmt.Errorf("%w %q: scheme must be http or https", ErrHost, s)
	}
	hostport, path, _ := strings.Cut(rest, "/")
	host, given, err := net.SplitHostPort(hostport)
	if err != nil {
		host, given = strings.TrimSuffix(strings.TrimPrefix(hostport, "["), "]"), port
	}
	if n, err := strconv.ParseInt(given, 10, 32); err != nil || n < 0 || n > 65535 {
		given = port
	} else if n == 0 {
		return nil, fmt.Errorf("%w %q: port 0 cannot be dialled", ErrHost, s)
	} else {
		given = strconv.FormatInt(n, 10)
	}
	if host, err = dialable(host); err != nil {
		return nil, fmt.Errorf("%w %q: %w", ErrHost, s, err)
	}
	u := &url.URL{Scheme: scheme, Host: net.JoinHostPort(host, given)}
	if path = strings.Trim(path, "/"); path != "" {
		u.Path = "/" + path
	}
	return u, nil
}

// dialable maps unspecified addresses to loopback and checks names: letters,
// digits, dots, dashes and underscores.
func dialable(host string) (string, error) {
	if host == "" {
		return "127.0.0.1", nil
	}
	if ip, err := netip.ParseAddr(host); err == nil {
		switch {
		case ip.IsUnspecified() && ip.Unmap().Is4():
			return "127.0.0.1", nil
		case ip.IsUnspecified():
			return "::1", nil
		}
		return ip.String(), plainName(ip.Zone())
	}
	return host, plainName(host)
}

func plainName(s string) error {
	for _, c := range []byte(s) {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '.', c == '-', c == '_':
		default:
			return fmt.Errorf("%q in the host name", rune(c))
		}
	}
	return nil
}
