package wire

import (
	"net/http"
	"slices"
	"strings"
)

// Class is who may call a route and where it may be answered.
type Class int

// The classes of routes.
const (
	Inference Class = iota + 1 // runs a model on any holder; the zero Class is none of these
	Read                       // answered from what the mesh knows, or by any holder
	Manage                     // changes the models of one node
	Account                    // uses the node owner's account at ollama.com; never crosses the mesh
)

// String returns the class's name, fit for a metric label.
func (c Class) String() string {
	switch c {
	case Inference:
		return "inference"
	case Read:
		return "read"
	case Manage:
		return "manage"
	case Account:
		return "account"
	}
	return "none"
}

// Repeatable reports whether a request of this class may be sent again after
// it reached a node: inference and reads have no effect but their answer.
func (c Class) Repeatable() bool { return c == Inference || c == Read }

// Route is one route of Ollama, as [Lookup] found it.
type Route struct {
	Method  string
	Pattern string // the route as Ollama registers it, fit for a metric label
	Path    string // the path asked for; differs from Pattern only by Param
	Param   string // the value of the pattern's parameter, "" when it has none
	Kind    Kind
	Class   Class
	// Since is the first Ollama version that has the route, "" when all that
	// we support have it. A request must not go to an older node.
	Since string
}

// routes are those of Ollama 0.33 (server/routes.go), each with the methods
// that it is registered for. The image routes /v1/images/generations and edits
// existed from 0.14.3 to 0.30 and are gone.
var routes = []struct {
	pattern string
	methods []string
	kind    Kind
	class   Class
	since   string
}{
	{"/api/generate", post, Generate, Inference, ""},
	{"/api/chat", post, Chat, Inference, ""},
	{"/api/embed", post, Embed, Inference, ""},
	{"/api/embeddings", post, Embeddings, Inference, ""},
	{"/v1/chat/completions", post, V1Chat, Inference, ""},
	{"/v1/completions", post, V1Completions, Inference, ""},
	{"/v1/embeddings", post, V1Embeddings, Inference, ""},
	{"/v1/responses", post, V1Responses, Inference, "0.13.3"},
	{"/v1/messages", post, V1Messages, Inference, "0.14.0"},
	{"/v1/audio/transcriptions", post, V1Transcriptions, Inference, "0.24.0"},

	{"/", headGet, Root, Read, ""},
	{"/api/version", headGet, Version, Read, ""},
	{"/api/status", get, Status, Read, "0.18.0"},
	{"/api/tags", headGet, Tags, Read, ""},
	{"/api/ps", get, Ps, Read, ""},
	{"/api/show", post, Show, Read, ""},
	{"/v1/models", get, V1Models, Read, ""},
	{"/v1/models/:model", get, V1Model, Read, ""},

	{"/api/pull", post, Pull, Manage, ""},
	{"/api/push", post, Push, Manage, ""},
	{"/api/create", post, Create, Manage, ""},
	{"/api/copy", post, Copy, Manage, ""},
	{"/api/delete", del, Delete, Manage, ""},
	{"/api/blobs/:digest", []string{http.MethodHead, http.MethodPost}, Blob, Manage, ""},

	{"/api/me", post, Me, Account, ""},
	{"/api/signout", post, Signout, Account, ""},
	{"/api/user/keys/:encodedKey", del, UserKey, Account, ""},
	{"/api/experimental/web_search", post, WebSearch, Account, "0.18.0"},
	{"/api/experimental/web_fetch", post, WebFetch, Account, "0.18.0"},
	{"/api/experimental/model-recommendations", get, Recommendations, Account, ""},
}

var (
	get     = []string{http.MethodGet}
	post    = []string{http.MethodPost}
	del     = []string{http.MethodDelete}
	headGet = []string{http.MethodGet, http.MethodHead}
)

// literal indexes the routes without parameter by their path.
var literal = func() map[string]int {
	m := make(map[string]int, len(routes))
	for i, r := range routes {
		if !strings.Contains(r.pattern, ":") {
			m[r.pattern] = i
		}
	}
	return m
}()

// Routes are all routes, one for each method, with Path as the pattern is
// written.
func Routes() (all []Route) {
	for _, r := range routes {
		for _, method := range r.methods {
			all = append(all, Route{
				Method: method, Pattern: r.pattern, Path: r.pattern, Kind: r.kind, Class: r.class, Since: r.since,
			})
		}
	}
	return all
}

// Lookup finds the route for a request. The path is matched byte for byte: no
// cleaning, no trailing slash, no decoding, because what one side cleans and
// the other does not is how a request slips past a policy. A parameter is one
// non-empty path segment.
//
// When the path exists but not for this method, ok is false and allowed lists
// the methods for the Allow header of a 405. Otherwise allowed is nil, and !ok
// is a 404.
func Lookup(method, path string) (route Route, allowed []string, ok bool) {
	i, param, found := match(path)
	if !found {
		return Route{}, nil, false
	}
	r := &routes[i]
	if !slices.Contains(r.methods, method) {
		return Route{}, slices.Clone(r.methods), false
	}
	return Route{
		Method: method, Pattern: r.pattern, Path: path, Param: param,
		Kind: r.kind, Class: r.class, Since: r.since,
	}, nil, true
}

func match(path string) (index int, param string, ok bool) {
	if i, ok := literal[path]; ok {
		return i, "", true
	}
	slash := strings.LastIndexByte(path, '/')
	if slash < 0 || slash == len(path)-1 {
		return 0, "", false
	}
	for i := range routes {
		prefix, _, has := strings.Cut(routes[i].pattern, ":")
		if has && path[:slash+1] == prefix {
			return i, path[slash+1:], true
		}
	}
	return 0, "", false
}
