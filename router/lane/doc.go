// Package lane speaks HTTP/1.1 at the least cost that net/http's own types
// allow: a client without a goroutine per connection, and a server for plain
// requests that hands everything else to net/http.
//
// net/http's Transport takes two goroutines and some forty allocations for
// what is one write and one read to an Ollama on the same machine, its Server
// a read in the background for every request. Both are general; what crosses a
// mesh is not: POSTs with a length, over connections that stay.
//
// The server answers a request itself only when its head is within a subset of
// RFC 9112 that no two parsers read differently (see plain). Whatever is not,
// from an odd header to a chunked body, goes to the http.Server behind it with
// every byte that was read, so the lane has no parser to be fooled: it knows
// what it takes, and refuses nothing by itself.
//
// Between two nodes all conversations share one TLS connection, a trunk.
package lane
