// Package packaging holds what packages are made of, and the test that installs,
// runs, upgrades and removes one.
package packaging
