// Package discovery finds addresses at which peers might be: by mDNS on the
// local network, from seeds the user named, from the addresses of earlier
// runs, and from a tailnet. It merges them, tries each with a back-off of its
// own, and hands those that answer to a [Joiner].
//
// Its invariant: an address found here is a hint and nothing more. Who is in
// the mesh is the business of membership alone, so discovery never says that a
// peer is alive or gone; it asks [Config.Known] and offers whatever is missing
// again, for as long as any source still speaks of it.
//
//	mdns, err := discovery.NewMDNS(discovery.MDNSConfig{
//		Instance: id, Cluster: "home", Protocol: 1, Port: 11437,
//	})
//	seeds, err := discovery.ParseSeeds("10.0.0.7", "gpu.lan:11437")
//	remembered := discovery.LoadRemembered(filepath.Join(state, "peers.json"), logger)
//	d, err := discovery.New(discovery.Config{
//		Self: id, Cluster: "home", Joiner: mesh,
//		Known:   func(p discovery.Peer) bool { return mesh.Alive(p.ID, p.Addr) },
//		Sources: []discovery.Source{mdns, seeds, remembered, discovery.NewTailnet(discovery.TailnetConfig{})},
//	})
//	err = d.Run(ctx) // until ctx ends
//
// DESIGN.md tells why, and lists the traps of the mDNS library that this
// package works around.
package discovery
