package ollamatest

import "strings"

// Parts that Ollama fills into a name that leaves them out.
const (
	defaultHost      = "registry.ollama.ai"
	defaultNamespace = "library"
	defaultTag       = "latest"
)

// modelName is a model name in Ollama's four parts.
type modelName struct {
	host, namespace, model, tag string
}

// parseName splits "host/namespace/model:tag" and fills in missing parts. The
// result may be invalid: see valid.
func parseName(s string) modelName {
	var n modelName
	if colon, slash := strings.LastIndexByte(s, ':'), strings.LastIndexByte(s, '/'); colon > slash {
		s, n.tag = s[:colon], s[colon+1:]
	} else {
		n.tag = defaultTag
	}
	n.host, n.namespace = defaultHost, defaultNamespace
	if i := strings.LastIndexByte(s, '/'); i >= 0 {
		s, n.model = s[:i], s[i+1:]
		if i := strings.LastIndexByte(s, '/'); i >= 0 {
			n.host, n.namespace = s[:i], s[i+1:]
			if _, host, ok := strings.Cut(n.host, "://"); ok {
				n.host = host
			}
		} else {
			n.namespace = s
		}
	} else {
		n.model = s
	}
	return n
}

func (n modelName) valid() bool {
	return validPart(n.host, 350, ".:") && validPart(n.namespace, 80, "") &&
		validPart(n.model, 80, ".") && validPart(n.tag, 80, ".")
}

// validPart reports whether s has 1 to limit characters, the first of them
// alphanumeric or _, the others also - or one of more.
func validPart(s string, limit int, more string) bool {
	if len(s) == 0 || len(s) > limit {
		return false
	}
	for i := range len(s) {
		if isAlnum(s[i]) || s[i] == '_' {
			continue
		}
		if i == 0 || s[i] != '-' && strings.IndexByte(more, s[i]) < 0 {
			return false
		}
	}
	return true
}

func isAlnum(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
}

// full is the name with all four parts.
func (n modelName) full() string {
	return n.host + "/" + n.namespace + "/" + n.model + ":" + n.tag
}

// short leaves out the default host and namespace, never the tag.
func (n modelName) short() string {
	s := n.model + ":" + n.tag
	switch {
	case !strings.EqualFold(n.host, defaultHost):
		return n.host + "/" + n.namespace + "/" + s
	case !strings.EqualFold(n.namespace, defaultNamespace):
		return n.namespace + "/" + s
	}
	return s
}

// key identifies the model regardless of case.
func (n modelName) key() string { return strings.ToLower(n.full()) }
