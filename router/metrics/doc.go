// Package metrics is what a node tells Prometheus: what became of the requests
// of its clients, and the mesh as it sees it.
//
//	m := metrics.New(metrics.Config{View: mesh.View, Version: "1.2.3"})
//	router.Config{Done: m.Observe}
//	http.Handle("/metrics", m.Handler())
//
// The invariant: a client cannot make the page grow. Labels have values of
// small sets only; a model that no node has, and names beyond [maxNames], are
// "other".
//
// Each node counts the requests of its own clients, so that sums over all nodes
// count every request once. What it says of other nodes (kage_node_*, and
// kage_members) is its own view of them: compare it between nodes, never sum it.
package metrics
