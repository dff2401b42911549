// Package guard stands in front of the client port: it decides who may call
// what, keeps web pages out, and bounds what any caller can make the node hold.
//
// Its invariant: a request that reaches the handler behind it came from a
// caller that the policy lets do exactly that, was framed in the one way that
// every HTTP implementation reads alike, and shows no key any more. What the
// policy does not name is refused.
//
//	g, err := guard.New(guard.Config{Keys: apikeys.Open(path), Logger: log})
//	srv := &http.Server{Handler: g.Handler(router), ConnContext: g.ConnContext}
//	err = srv.Serve(g.Listener(l))
//
// The policy itself is [Decide], a pure function of the kind of route and the
// kind of caller. Why each rule is there: DESIGN.md.
package guard
