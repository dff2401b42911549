package wire

import "strings"

const (
	defaultHost      = "registry.ollama.ai"
	defaultNamespace = "library"
	defaultTag       = "latest"
)

// Canonical returns the one spelling of a model name that all spellings of the
// same model share: lower case (Ollama compares every part of a name so), the
// default host and namespace left out, the tag always there.
//
//	Qwen2.5, qwen2.5:latest, registry.ollama.ai/library/qwen2.5  =>  qwen2.5:latest
//	user/m  =>  user/m:latest
//	hf.co/User/M:Q4_K_M  =>  hf.co/user/m:q4_k_m
//
// What holds another character than a valid name may, a digest's "@" among
// them, is returned as it is, so that it is equal to no model's name. The sources
// ":local" and ":cloud" are tags here, because older Ollamas know them only so;
// see [SplitSource].
func Canonical(name string) string {
	name = strings.TrimSpace(name)
	upper := false
	for i := range len(name) {
		c := name[i]
		switch {
		case 'A' <= c && c <= 'Z':
			upper = true
		case 'a' <= c && c <= 'z', '-' <= c && c <= ':', c == '_': // -./0123456789:
		default:
			return name
		}
	}
	if name == "" {
		return name
	}
	if upper {
		name = strings.ToLower(name)
	}
	rest, tag := name, defaultTag
	if hasTag(name) {
		i := strings.LastIndexByte(name, ':')
		rest, tag = name[:i], name[i+1:]
	}
	if _, after, ok := strings.Cut(rest, "://"); ok && strings.Count(after, "/") == 2 {
		rest = after // Ollama drops a scheme before the host
	}
	if after, ok := strings.CutPrefix(rest, defaultHost+"/"); ok && strings.Count(after, "/") == 1 {
		rest = after
	}
	if after, ok := strings.CutPrefix(rest, defaultNamespace+"/"); ok && !strings.Contains(after, "/") {
		rest = after
	}
	return rest + ":" + tag
}

// hasTag reports whether name ends in a tag: the last colon is after the last
// slash (a host may have a port).
func hasTag(name string) bool {
	return strings.LastIndexByte(name, ':') > strings.LastIndexByte(name, '/')
}

// Source says where a name asks its model to run.
type Source int

// The sources.
const (
	AnySource   Source = iota
	LocalSource        // ":local": never at a cloud
	CloudSource        // ":cloud", or a tag that ends in "-cloud": at ollama.com, on the node owner's account
)

// SplitSource takes the source off a name as newer Ollamas do: "m:local" is m,
// "m:cloud" is m, "m:120b-cloud" is m:120b. Letter case does not matter.
func SplitSource(name string) (base string, source Source) {
	name = strings.TrimSpace(name)
	i := strings.LastIndexByte(name, ':')
	if i < 0 {
		return name, AnySource
	}
	suffix := strings.TrimSpace(name[i+1:])
	lower := strings.ToLower(suffix)
	switch {
	case lower == "local":
		return name[:i], LocalSource
	case lower == "cloud":
		return name[:i], CloudSource
	case strings.HasSuffix(lower, "-cloud") && !strings.Contains(lower, "/"):
		return name[:i+1] + suffix[:len(suffix)-len("-cloud")], CloudSource
	}
	return name, AnySource
}

// IsCloud reports whether name asks for a model at ollama.com. Such a request
// spends the node owner's account and its prompt leaves the network, so it
// must not be routed. A name that asks for both local and cloud, which Ollama
// refuses, counts as cloud.
func IsCloud(name string) bool {
	for {
		base, source := SplitSource(name)
		switch source {
		case CloudSource:
			return true
		case AnySource:
			return false
		}
		name = base
	}
}
