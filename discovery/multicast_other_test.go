//go:build !linux

package discovery

import "testing"

// TestMulticast is the lab's stand-in where there are no network namespaces.
func TestMulticast(t *testing.T) { multicastOnThisHost(t) }
