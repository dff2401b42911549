package router

import (
	"context"
	"sync"
	"time"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh"
)

// A machine that is gone ends its connections within four seconds, by the
// kernel's keep-alives. A process that is frozen keeps them open: the kernel
// answers for it. So when an answer is silent for quietFor its owner is asked
// for a sign of life, and the attempt ends when none comes within pulseWait.
const (
	quietFor  = 1500 * time.Millisecond
	pulseWait = 2500 * time.Millisecond
)

// pulses asks nodes whether they live, once for all answers that wait for the
// same node.
type pulses struct {
	ask func(context.Context, mesh.NodeID) error // nil: nobody is asked

	mu      sync.Mutex
	running map[mesh.NodeID]*pulse
}

type pulse struct {
	done chan struct{}
	err  error
}

// of reports why the node shows no life; nil: it does, or ctx ended.
func (p *pulses) of(ctx context.Context, node mesh.NodeID) error {
	if p.ask == nil {
		return nil
	}
	p.mu.Lock()
	q := p.running[node]
	if q == nil {
		q = &pulse{done: make(chan struct{})}
		if p.running == nil {
			p.running = make(map[mesh.NodeID]*pulse)
		}
		p.running[node] = q
		go func() { //nolint:gosec // not the first one's context: others wait for the same answer
			ctx, cancel := context.WithCancelCause(context.Background())
			patience := newWatchdog(cancel, ErrSilent, pulseWait, nil)
			q.err = p.ask(ctx, node)
			patience.stop()
			cancel(nil)
			p.mu.Lock()
			delete(p.running, node)
			p.mu.Unlock()
			close(q.done)
		}()
	}
	p.mu.Unlock()
	select {
	case <-q.done:
		return q.err
	case <-ctx.Done():
		return nil
	}
}
