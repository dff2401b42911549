package router

import (
	"context"
	"slices"
	"sync"
)

// Retries may be a fifth of the active requests, so that a mesh in trouble is
// not given half as much work again, but always three: in a household most
// moments have fewer than fifteen requests (Google SRE, ch. 21, and Envoy's
// retry budget, which has the same two numbers).
const (
	retryShare = 5 // one in so many
	retryFloor = 3
)

// budget bounds how many retries are on their way at once. A retry counts
// until its owner answers. One over the budget waits: failing it would lose
// what the budget is there to save, and those before it end soon.
type budget struct {
	mu      sync.Mutex
	active  int
	retries int
	line    []chan struct{} // first come, first served
}

// enter counts a request in; the caller calls leave once.
func (b *budget) enter() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.active++
	b.serve()
}

func (b *budget) leave() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.active--
}

// retry waits until one more retry is allowed. err != nil: ctx has ended and
// the caller owns nothing; otherwise it calls done once.
func (b *budget) retry(ctx context.Context) (done func(), err error) {
	turn := make(chan struct{})
	b.mu.Lock()
	b.line = append(b.line, turn)
	b.serve()
	b.mu.Unlock()
	done = sync.OnceFunc(func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.retries--
		b.serve()
	})
	select {
	case <-turn:
		return done, nil
	case <-ctx.Done():
	}
	b.mu.Lock()
	i := slices.Index(b.line, turn)
	if i >= 0 {
		b.line = slices.Delete(b.line, i, i+1)
	}
	b.mu.Unlock()
	if i < 0 { // its turn came at the same moment
		done()
	}
	return nil, ctx.Err()
}

// serve lets those at the head of the line go, as far as the budget reaches.
// The caller holds mu.
func (b *budget) serve() {
	for len(b.line) > 0 && b.retries < max(retryFloor, b.active/retryShare) {
		b.retries++
		close(b.line[0])
		b.line = slices.Delete(b.line, 0, 1)
	}
}
