// Package mesh knows who is here, what they can do and how busy they are.
//
// It joins the nodes over Serf (membership, failure detection, network
// coordinates), spreads live load in small signed datagrams, fetches what does
// not fit into gossip over the pinned peer link, and publishes the whole as one
// immutable [View] behind an atomic pointer.
//
// Its invariant: a Card or a Load in a View was stated by the very node it
// describes. Cards come over TLS pinned to the node's id, Loads carry the
// node's signature or arrive over the same pinned link. Only what gossip tags
// say (a name, an address, a port) is hearsay, and no request is ever sent to a
// node that cannot prove its id.
//
//	m, err := mesh.New(cfg)          // checks and binds, starts nothing
//	go m.Run(ctx)                    // owns every goroutine, ends with ctx
//	n, err := m.Join(ctx, "192.168.1.20")
//	m.Announce(card)                 // what this node can do
//	m.Publish(load)                  // how busy it is
//	for _, h := range m.View().Holders("llama3.2:3b") { ... }
//
// One goroutine, the loop in Run, owns all state and is the only writer; what
// it decides is in the pure type state. Why it is built so: DESIGN.md.
package mesh
