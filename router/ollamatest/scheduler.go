package ollamatest

import (
	"context"
	"slices"
	"sync"
	"time"
)

// forever is the keep_alive of a model that is never unloaded, 292 years, as
// Ollama reports it.
const forever = time.Duration(1<<63 - 1)

var errBusy = &statusError{503, "server busy, please try again.  maximum pending requests exceeded"}

// scheduler decides which models are loaded. It has no goroutine: arrivals,
// departures and timers call into it, and each call ends with pump, which does
// all that has become possible. All fields below mu belong to mu, and so does
// the state of every runner.
type scheduler struct {
	cfg    Config
	stats  *recorder
	faults *faults

	mu      sync.Mutex
	queue   []*ticket          // requests whose model must be loaded first, in order
	runners map[string]*runner // by weights digest
	loading *runner            // at most one load at a time
	leaving *runner            // chosen to make room, still busy
}

// ticket is a request waiting for a runner.
type ticket struct {
	entry *entry
	opts  options
	keep  *time.Duration // keep_alive of the request, nil if it has none
	done  chan granted   // holds one value
}

type granted struct {
	runner *runner
	err    error
}

func newScheduler(c Config, stats *recorder, f *faults) *scheduler {
	return &scheduler{cfg: c, stats: stats, faults: f, runners: map[string]*runner{}}
}

// acquire returns a runner that has the model loaded with the options, loading
// it and unloading others as needed. err == nil ⇒ the caller must release it.
// An ended context withdraws the request, which aborts its load.
func (s *scheduler) acquire(ctx context.Context, e *entry, o options, keep *time.Duration) (*runner, error) {
	if e.Remote != "" {
		return newRemoteRunner(e), nil
	}
	t := &ticket{entry: e, opts: o, keep: keep, done: make(chan granted, 1)}
	s.mu.Lock()
	if r := s.runners[e.Weights]; !s.cfg.OldScheduler && r != nil && r.ready && !s.mustReload(r, o) {
		s.join(r, keep)
		s.mu.Unlock()
		return r, nil
	}
	if len(s.queue) > s.cfg.MaxQueue { // the head is in hand, not in the queue
		s.mu.Unlock()
		return nil, errBusy
	}
	s.queue = append(s.queue, t)
	s.pump()
	s.mu.Unlock()

	s.stats.waiting(+1)
	defer s.stats.waiting(-1)
	select {
	case g := <-t.done:
		return g.runner, g.err
	case <-ctx.Done():
		s.withdraw(t)
		return nil, context.Cause(ctx)
	}
}

// withdraw takes back a ticket whose request has gone.
func (s *scheduler) withdraw(t *ticket) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if i := slices.Index(s.queue, t); i >= 0 {
		s.queue = slices.Delete(s.queue, i, i+1)
	} else if r := s.loading; r != nil && r.owner == t {
		r.loadTimer.Stop()
		s.loading = nil
		s.drop(r)
	} else if g := <-t.done; g.runner != nil { // granted in the same moment
		s.leave(g.runner)
	}
	s.pump()
}

// release gives a runner back.
func (s *scheduler) release(r *runner) {
	if r.entry.Remote != "" {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.leave(r)
	s.pump()
}

// pump serves the queue from its head as far as it goes.
func (s *scheduler) pump() {
	for len(s.queue) > 0 && s.loading == nil {
		t := s.queue[0]
		r := s.runners[t.entry.Weights]
		switch {
		case r == nil:
			if !s.makeRoom(t) {
				return
			}
		case s.mustReload(r, t.opts):
			if !s.unloadFor(r, toReload) {
				return
			}
		default:
			s.pop()
			s.join(r, t.keep)
			t.done <- granted{runner: r}
		}
	}
}

// pop takes the head off the queue.
func (s *scheduler) pop() { s.queue = s.queue[1:] }

// makeRoom starts the load of the head of the queue, or refuses it, or unloads
// an idle runner to make room. It reports false when it can only wait.
func (s *scheduler) makeRoom(t *ticket) bool {
	parallel := s.parallel(t.entry)
	need := uint64(t.entry.Size) + KVBytes(t.entry.Model, t.opts.numCtx, parallel)
	free := memoryOf(s.cfg)
	for _, r := range s.runners {
		free = free.minus(r.place)
	}
	if len(s.runners) < s.cfg.MaxLoaded {
		where, fits := place(need, free, s.cfg.VRAM > 0, len(s.runners) == 0)
		if fits {
			s.pop()
			s.load(t, where, parallel)
			return true
		}
		if len(s.runners) == 0 {
			s.pop()
			t.done <- granted{err: noMemory(need, free)}
			return true
		}
	}
	if s.leaving == nil {
		s.leaving = s.victim() // and no other, even if another is idle sooner
	}
	return s.unloadFor(s.leaving, toMakeRoom)
}

// parallel is the number of slots a runner of e gets: embedding models have one.
func (s *scheduler) parallel(e *entry) int {
	if !e.can("completion") {
		return 1
	}
	return s.cfg.Parallel
}

// victim picks the runner to unload: the idle one with the shortest
// keep_alive, or the one with the shortest keep_alive if all are busy.
func (s *scheduler) victim() *runner {
	var best *runner
	for _, r := range s.runners {
		switch {
		case best == nil,
			(r.refs == 0) != (best.refs == 0) && r.refs == 0,
			(r.refs == 0) == (best.refs == 0) && (r.keep < best.keep || r.keep == best.keep && r.born.Before(best.born)):
			best = r
		}
	}
	return best
}

// mustReload reports whether a loaded runner has the wrong parameters. Newer
// versions do not count a context length that the request did not ask for.
func (s *scheduler) mustReload(r *runner, o options) bool {
	key := o.loadKey()
	if !s.cfg.OldScheduler && !o.ctxSet {
		key.numCtx = r.key.numCtx
	}
	return key != r.key
}
