// Package node puts one node together: identity, membership, the local Ollama,
// the router and their listeners. The join command runs one, with discovery
// beside it; demo and tests run several in one process.
//
// New binds every port and starts nothing; Run owns all goroutines. A node
// stops in order: it tells the mesh that it drains, finishes what it runs for
// as long as Config.Grace, hands over what is left, lets its own clients read
// on for as long again, says goodbye, and closes.
package node
