package guard

import (
	"net/http"
	"strings"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/apikeys"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/wire"
)

// Area is what a route is, as far as policy goes.
type Area int

// The areas. The zero Area is unknown and refused to everybody.
const (
	Unknown   Area = iota
	Open           // is the node alive, and is it a kage-mesh; tells nothing of models
	Inference      // runs a model
	Read           // says what models and nodes there are
	Manage         // changes the models of a node
	Account        // uses the node owner's account at ollama.com
	Control        // the node's own API and page
	Metrics        // numbers for a monitoring system
)

// String names an area for logs.
func (a Area) String() string {
	return [...]string{"unknown", "open", "inference", "read", "manage", "account", "control", "metrics"}[a]
}

// ours are our own paths; the ones that end in a slash stand for all below.
// Everything else must be a route of Ollama's.
var ours = []struct {
	path string
	area Area
}{
	{"/mesh/v1/id", Open},
	{"/health", Open},
	{"/livez", Open},
	{"/readyz", Open},
	{"/health/", Read},
	{"/backends", Read},
	{"/metrics", Metrics},
	{"/mesh", Control},
	{"/mesh/", Control},
	{"/dashboard", Control},
	{"/dashboard/", Control},
}

// AreaOf finds the area of a path, byte for byte as it was sent, and the
// dialect to refuse it in. A path of Ollama's has its area whatever the
// method: the wrong one is refused by the router, with the right ones.
func AreaOf(method, path string) (Area, wire.Dialect) {
	for _, o := range ours {
		if path == o.path || strings.HasSuffix(o.path, "/") && strings.HasPrefix(path, o.path) {
			return o.area, wire.Ollama
		}
	}
	route, methods, ok := wire.Lookup(method, path)
	if !ok {
		if len(methods) == 0 {
			return Unknown, wire.Ollama
		}
		if route, _, ok = wire.Lookup(methods[0], path); !ok {
			return Unknown, wire.Ollama
		}
	}
	switch route.Class {
	case wire.Inference:
		return Inference, route.Kind.Dialect()
	case wire.Read:
		return Read, route.Kind.Dialect()
	case wire.Manage:
		return Manage, route.Kind.Dialect()
	case wire.Account:
		return Account, route.Kind.Dialect()
	}
	return Unknown, wire.Ollama
}

// Zone is how near a caller is.
type Zone int

// The zones, from far to near.
const (
	Outside Zone = iota // a public address, or one that cannot be told
	LAN                 // a private address or a subnet of one of this machine's interfaces
	Trusted             // a network that the owner named: no key needed for inference
	Here                // a program on this machine
)

// String names a zone for logs.
func (z Zone) String() string { return [...]string{"outside", "lan", "trusted", "here"}[z] }

// Ask is one question to the policy.
type Ask struct {
	Area   Area
	Zone   Zone
	Key    *apikeys.Key // nil: none, or none that is known
	Locked bool         // callers from the network need a key
	// Direct says that the caller used a name of this very machine (localhost
	// or a loopback address). A web page that had its own name resolved to
	// 127.0.0.1 did not.
	Direct bool
}

// Decide says nil when the caller may go on, or why not.
//
//	             here   trusted  lan             outside   infer key  metrics key  admin key
//	open         yes    yes      yes             -         yes        yes          yes
//	inference    yes    yes      unless locked   -         yes        -            yes
//	read         yes    yes      unless locked   -         yes        -            yes
//	metrics      yes    -        -               -         -          yes          yes
//	manage       yes    -        -               -         -          -            yes
//	control      yes    -        -               -         -          -            yes
//	account      yes    -        -               -         -          -            -
//
// "here" for the last three means Direct, too. A key adds to what the caller's
// place allows, it takes nothing away.
func Decide(a Ask) *wire.Error {
	if a.allowed() {
		return nil
	}
	switch a.Area {
	case Unknown:
		return wire.ErrNoRoute()
	case Account:
		return wire.ErrForbidden("this route uses the ollama.com account of the node's owner: it answers programs on the node's own machine only")
	case Manage, Control:
		if a.Zone == Here {
			return wire.ErrForbidden("use http://localhost or http://127.0.0.1 for this: the node answers no other name here")
		}
		return wire.ErrForbidden("changing models and the node itself is open to programs on its own machine, and to an API key of scope admin")
	case Metrics:
		return wire.ErrForbidden("metrics are open to programs on the node's own machine, and to an API key of scope metrics")
	}
	switch {
	case a.Key != nil:
		return wire.ErrForbidden("this API key does not open this route: it lacks the scope infer")
	case a.Zone == Outside:
		return wire.ErrUnauthorized("this node answers its own network only; from elsewhere it needs an API key of its own")
	}
	return wire.ErrUnauthorized("this node needs an API key, as 'Authorization: Bearer' or 'x-api-key'")
}

func (a Ask) allowed() bool {
	here := a.Zone == Here
	switch a.Area {
	case Open:
		return a.Zone >= LAN || a.Key != nil
	case Inference, Read:
		return a.Zone >= Trusted || a.Zone == LAN && !a.Locked || a.Key.Has(apikeys.Infer)
	case Metrics:
		return here || a.Key.Has(apikeys.Metrics)
	case Manage, Control:
		return here && a.Direct || a.Key.Has(apikeys.Admin)
	case Account:
		return here && a.Direct
	}
	return false
}

// Methods that no route has and that mean something to proxies: what they do
// to a connection differs between implementations.
func strangeMethod(method string) bool {
	switch method {
	case http.MethodConnect, http.MethodTrace, "TRACK", "PRI", "DEBUG":
		return true
	}
	return false
}
