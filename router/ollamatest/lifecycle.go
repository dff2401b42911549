package ollamatest

import (
	"slices"
	"time"
)

// How runners come and go. All of this runs under scheduler.mu.

// load starts a runner for t. The request that asked for it owns the load: if
// it goes away, the load is aborted.
func (s *scheduler) load(t *ticket, where memory, parallel int) {
	r := newRunner(t, where, parallel)
	r.keep = s.cfg.KeepAlive
	if r.keep < 0 {
		r.keep = forever
	}
	s.runners[t.entry.Weights] = r
	s.loading = r
	s.stats.load()
	took := time.Duration(float64(t.entry.Load) / s.cfg.Speed)
	fault := s.faults.pick(atLoad, "", t.entry.Name)
	if fault != nil && fault.Kind == SlowLoad {
		took = fault.Delay
	}
	s.cfg.Logger.Debug("model loading", "model", t.entry.Name, "takes", took)
	r.loadTimer = time.AfterFunc(took, func() { s.loaded(r, fault) })
}

// loaded ends a load.
func (s *scheduler) loaded(r *runner, fault *Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.loading != r { // aborted meanwhile
		return
	}
	s.loading = nil
	t := r.owner
	r.owner = nil
	if fault != nil && fault.Kind == FailLoad {
		s.drop(r)
		t.done <- granted{err: &statusError{500, fault.text("unable to load model: " + blobPath(r.entry.Weights))}}
	} else {
		r.ready = true
		s.join(r, t.keep)
		t.done <- granted{runner: r}
	}
	s.pump()
}

// join counts a request in.
func (s *scheduler) join(r *runner, keep *time.Duration) {
	r.refs++
	if r.expiry != nil {
		r.expiry.Stop()
	}
	if keep != nil {
		r.keep = *keep
	}
}

// leave counts a request out; the last one starts the keep_alive.
func (s *scheduler) leave(r *runner) {
	r.refs--
	if r.refs > 0 || s.runners[r.entry.Weights] != r {
		return
	}
	if r.keep <= 0 {
		s.unloadFor(r, idleLong)
		return
	}
	r.expires = time.Now().Add(r.keep)
	if r.keep != forever {
		r.expiry = time.AfterFunc(r.keep, func() { s.expire(r) })
	}
}

// expire unloads a runner whose keep_alive has run out.
func (s *scheduler) expire(r *runner) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.runners[r.entry.Weights] == r && r.refs == 0 && !time.Now().Before(r.expires) {
		s.unloadFor(r, idleLong)
		s.pump()
	}
}

// unload is a request's keep_alive 0 without a prompt: idle runners go at once.
func (s *scheduler) unload(e *entry) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r := s.runners[e.Weights]; r != nil && r != s.loading {
		s.unloadFor(r, idleLong)
		s.pump()
	}
}

// crash ends a runner as if its process had died, with all its requests.
func (s *scheduler) crash(r *runner) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.runners[r.entry.Weights] == r {
		s.drop(r)
		s.pump()
	}
}

// drop forgets a runner.
func (s *scheduler) drop(r *runner) {
	delete(s.runners, r.entry.Weights)
	if s.leaving == r {
		s.leaving = nil
	}
	s.cfg.Logger.Debug("model unloaded", "model", r.entry.Name)
	if r.expiry != nil {
		r.expiry.Stop()
	}
	close(r.gone)
}

// reset unloads everything; no request may be left.
func (s *scheduler) reset() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.loading != nil {
		s.loading.loadTimer.Stop()
		s.loading = nil
	}
	for _, r := range s.runners {
		s.drop(r)
	}
	s.queue = nil
}

// purpose is why a runner is unloaded.
type purpose int

const (
	idleLong purpose = iota // its keep_alive is over
	toReload
	toMakeRoom
)

// unloadFor unloads r if it is idle. A busy runner is marked to go when it
// becomes so.
func (s *scheduler) unloadFor(r *runner, why purpose) bool {
	r.why = max(r.why, why)
	if r.refs > 0 {
		r.keep = 0
		return false
	}
	s.drop(r)
	s.stats.unload(r.why)
	return true
}

// resident is what /api/ps says of a runner.
type resident struct {
	entry   *entry
	size    uint64
	vram    uint64
	ctx     int
	expires time.Time
}

// loadedModels lists the runners, the longest remaining first.
func (s *scheduler) loadedModels() []resident {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]resident, 0, len(s.runners))
	for _, r := range s.runners {
		expires := r.expires
		if r.refs > 0 || !r.ready {
			expires = time.Now().Add(r.keep)
		}
		out = append(out, resident{r.entry, r.place.total(), r.place.vram, r.key.numCtx, expires})
	}
	slices.SortFunc(out, func(a, b resident) int { return b.expires.Compare(a.expires) })
	return out
}
