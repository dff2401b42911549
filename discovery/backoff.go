package discovery

import (
	"context"
	"time"
)

// backoff is how long to wait after the nth failure in a row (n from 1): lo
// doubled each time, at most hi, then spread by up to a fifth either way so
// that machines switched on together do not stay in step. r is in [0, 1).
func backoff(n int, lo, hi time.Duration, r float64) time.Duration {
	d := lo
	for i := 1; i < n && d < hi; i++ {
		d *= 2
	}
	return spread(min(d, hi), r)
}

// spread moves d by up to a fifth either way; r is in [0, 1), 0.5 keeps d.
func spread(d time.Duration, r float64) time.Duration {
	return time.Duration(float64(d) * (0.8 + 0.4*r))
}

// sleep waits for d and reports whether ctx still lives.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	}
}
