// Package ci holds what make and CI run: scripts that install what the tests
// need and call them, and tests of the tree itself.
//
// Its invariant: a rule about the whole tree is kept by a test here that gives
// the reason for it.
package ci
