//go:build !unix

package scale

import "time"

// processCPU is not known here.
func processCPU() time.Duration { return 0 }
