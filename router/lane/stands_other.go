//go:build !unix

package lane

import "time"

// stands reports whether a kept connection can carry another request. It
// cannot be looked at here, so only one that was used just now is believed: a
// server that restarts takes longer.
func (c *conn) stands() bool { return time.Since(c.since) < time.Second }
