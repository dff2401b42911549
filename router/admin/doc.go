// Package admin is a node's own API, under /mesh/v1/ on the client port, and
// its Go client: what the members, status and leave commands talk to.
//
// The shapes here are a promise: keys are added, never renamed or taken away,
// and SchemaVersion grows when their meaning changes. They are built from a
// mesh.View by pure functions.
//
// Every route but /mesh/v1/id answers the node's owner only: loopback callers
// with a Host header that names this machine, so that neither the network nor a
// web page in a browser (DNS rebinding) can reach it, and holders of an API key
// of scope admin. Package guard decides it.
package admin
