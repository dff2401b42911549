package router

import (
	"context"
	"sync"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/backend"
)

// lives ends jobs together with the life of the server that they wait for.
// Each could watch it by itself; one watch for all costs them nothing.
type lives struct {
	mu  sync.Mutex
	now *heirs
}

// heirs are the jobs that wait under one life. lives.mu guards them.
type heirs struct {
	life context.Context //nolint:containedctx // it is the server's lifetime
	jobs map[*job]struct{}
}

// enter cancels j with [backend.ErrFrozen] when life ends before leave.
func (l *lives) enter(life context.Context, j *job) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.now == nil || l.now.life != life {
		h := &heirs{life: life, jobs: make(map[*job]struct{})}
		l.now = h
		context.AfterFunc(life, func() { l.end(h) })
	}
	if life.Err() != nil {
		j.cancel(backend.ErrFrozen)
		return
	}
	j.heirs = l.now
	l.now.jobs[j] = struct{}{}
}

func (l *lives) leave(j *job) {
	if j.heirs == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(j.heirs.jobs, j)
}

func (l *lives) end(h *heirs) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for j := range h.jobs {
		j.cancel(backend.ErrFrozen)
	}
}
