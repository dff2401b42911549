// Package relay stands between two programs of a test and makes the network
// between them bad: delay, jitter, lost datagrams, a slow drip, a one-way cut,
// refused and reset connections. It works in user space on any system, for
// kernels without tc netem and for tests without root.
//
// One relay carries TCP and UDP on one port, as gossip needs both. Its
// invariant: a stream that is not reset arrives whole and in order, however
// bad the line, as TCP's would; datagrams may be lost and, with jitter,
// reordered, but never changed or doubled.
//
//	r := relay.Start(t, relay.Config{Target: "127.0.0.1:11437"})
//	r.Set(relay.Both(relay.Line{Delay: 200 * time.Millisecond, Jitter: 100 * time.Millisecond}))
//	... r.Addr() ...
//	r.Set(relay.Faults{Down: relay.Line{Cut: true}}) // answers no longer come back
//
// Faults apply at once to connections that are open already.
package relay
