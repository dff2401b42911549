package store

import (
	"fmt"
	"path"
	"strings"
)

// Name is a model's name in its four parts, as the store's directories have
// them.
type Name struct {
	Host, Namespace, Model, Tag string
}

// temporary marks the namespace of names that exist only while a model is
// copied from another node.
const temporary = "kage-copy-"

// TemporaryName is the name under which host:port offers a model during a copy.
// ticket must be letters and digits.
func TemporaryName(address, ticket string, n Name) string {
	return address + "/" + temporary + ticket + "/" + n.Model + ":" + n.Tag
}

// Temporary reports whether a model's name is one of [TemporaryName].
func Temporary(name string) bool {
	n, err := ParseName(name)
	return err == nil && strings.HasPrefix(n.Namespace, temporary) && strings.HasPrefix(n.Host, "127.0.0.1:")
}

// Ticket is the ticket in a temporary name's namespace, "" when it is none.
func Ticket(namespace string) string {
	ticket, ok := strings.CutPrefix(namespace, temporary)
	if !ok {
		return ""
	}
	return ticket
}

// ParseName reads a name as Ollama lists it: the default host, namespace and
// tag may be left out, letter case is kept.
func ParseName(s string) (Name, error) {
	n := Name{Host: "registry.ollama.ai", Namespace: "library", Tag: "latest"}
	rest := s
	if i := strings.LastIndexByte(s, ':'); i > strings.LastIndexByte(s, '/') {
		rest, n.Tag = s[:i], s[i+1:]
	}
	parts := strings.Split(rest, "/")
	switch len(parts) {
	case 1:
		n.Model = parts[0]
	case 2:
		n.Namespace, n.Model = parts[0], parts[1]
	case 3:
		n.Host, n.Namespace, n.Model = parts[0], parts[1], parts[2]
	default:
		return Name{}, fmt.Errorf("%w: %d parts", ErrName, len(parts))
	}
	if !part(n.Host, true) || !part(n.Namespace, false) || !part(n.Model, false) || !part(n.Tag, false) {
		return Name{}, ErrName
	}
	return n, nil
}

// part reports whether s may be a directory's name on the way to a manifest:
// what Ollama allows, which has no separator and no "..".
func part(s string, host bool) bool {
	if s == "" || len(s) > 350 {
		return false
	}
	for i, c := range []byte(s) {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '_':
		case i > 0 && (c == '-' || c == '.' || c == ':' && host):
		default:
			return false
		}
	}
	return true
}

// file is where the manifest is, below the directory of manifests.
func (n Name) file() string { return path.Join(n.Host, n.Namespace, n.Model, n.Tag) }
