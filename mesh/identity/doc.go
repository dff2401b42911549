// Package identity owns what makes a node itself: one Ed25519 key in the state
// directory, the [NodeID] that follows from it, and the TLS configurations by
// which two nodes prove to each other who they are.
//
// Its invariant: a NodeID is the hash of a public key, and no connection made
// or accepted here is used before the other side has proved to hold the
// private key of the NodeID it is taken for. There is no certificate
// authority, no table of pins and no expiry: a laptop whose clock is wrong is
// still itself.
//
//	id, err := identity.LoadOrCreate("/var/lib/kage-mesh")
//	srv := &http.Server{Handler: h, TLSConfig: id.ServerTLS(view.Has)}
//	identity.ConfigureServer(srv)
//	go srv.ServeTLS(ln, "", "")
//
//	client := &http.Client{Transport: id.Transport(resolve, identity.TransportOptions{})}
//	client.Get("https://" + string(peer) + "/mesh/v1/card")
package identity
