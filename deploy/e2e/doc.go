// Package e2e holds the end-to-end tests: the real program on several hosts
// (network namespaces with their own addresses on one bridge), real mDNS, real
// Serf and real Ollama servers with tiny models. `make e2e` runs them.
package e2e
