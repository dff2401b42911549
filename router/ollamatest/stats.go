package ollamatest

import (
	"context"
	"maps"
	"sync"
	"sync/atomic"
)

// Headers that name a request in [Stats.Executions]; the first present counts.
const (
	HeaderRequestID = "X-Kage-Request-Id"
	HeaderTestID    = "X-Ollamatest-Id"
)

// Stats counts what a server did since it was made or [Server.ResetStats].
type Stats struct {
	Requests   map[string]int // by "METHOD /path"
	Executions map[string]int // times that work began on a request, by its id
	Running    int            // requests in a slot now
	Waiting    int            // requests waiting now for a load or a slot
	MaxRunning map[string]int // most in slots at the same time, by model

	Loads     int // model loads begun
	Reloads   int // unloads because a request had other load options
	Evictions int // unloads to make room
	Unloads   int // all unloads, including ended keep_alive

	Completed int // answers that ended by themselves
	Cancelled int // requests whose client went away, waiting or running
	Failed    int // answers that ended in an error or an injected fault
	Faults    int // injected faults that struck
	Tokens    int // tokens generated
}

// recorder keeps the Stats of a server.
type recorder struct {
	tokens  atomic.Int64 // apart from the rest, since it changes with every token
	waiters atomic.Int32 // callers of Await

	mu      sync.Mutex
	stats   Stats
	running map[string]int // by model
	changed chan struct{}  // closed and replaced at a change, nil while nobody waits
}

func newRecorder() *recorder {
	r := &recorder{}
	r.reset()
	return r
}

// reset clears the counters; what runs and waits now stays.
func (r *recorder) reset() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.tokens.Store(0)
	now := r.stats
	r.stats = Stats{
		Requests:   map[string]int{},
		Executions: map[string]int{},
		MaxRunning: map[string]int{},
		Running:    now.Running,
		Waiting:    now.Waiting,
	}
	if r.running == nil {
		r.running = map[string]int{}
	}
}

// update changes the counters and wakes those who wait for a change.
func (r *recorder) update(change func(*Stats)) {
	r.mu.Lock()
	change(&r.stats)
	r.notify()
	r.mu.Unlock()
}

func (r *recorder) notify() {
	if r.changed != nil {
		close(r.changed)
		r.changed = nil
	}
}

func (r *recorder) waiting(n int) { r.update(func(s *Stats) { s.Waiting += n }) }
func (r *recorder) load()         { r.update(func(s *Stats) { s.Loads++ }) }
func (r *recorder) fault()        { r.update(func(s *Stats) { s.Faults++ }) }

func (r *recorder) unload(why purpose) {
	r.update(func(s *Stats) {
		s.Unloads++
		switch why {
		case toReload:
			s.Reloads++
		case toMakeRoom:
			s.Evictions++
		}
	})
}

func (r *recorder) request(method, path string) {
	r.update(func(s *Stats) { s.Requests[method+" "+path]++ })
}

// begin notes that a request got its slot.
func (r *recorder) begin(id, model string) {
	r.update(func(s *Stats) {
		if id != "" {
			s.Executions[id]++
		}
		s.Running++
		r.running[model]++
		s.MaxRunning[model] = max(s.MaxRunning[model], r.running[model])
	})
}

// end notes that it gave the slot back.
func (r *recorder) end(model string) {
	r.update(func(s *Stats) {
		s.Running--
		r.running[model]--
	})
}

// outcome notes how a request ended.
func (r *recorder) outcome(err error, gone bool) {
	r.update(func(s *Stats) {
		switch {
		case err == nil:
			s.Completed++
		case gone:
			s.Cancelled++
		default:
			s.Failed++
		}
	})
}

// generated counts tokens. It takes the lock only when somebody waits.
func (r *recorder) generated(n int) {
	r.tokens.Add(int64(n))
	if r.waiters.Load() > 0 {
		r.mu.Lock()
		r.notify()
		r.mu.Unlock()
	}
}

// snapshot copies the counters.
func (r *recorder) snapshot() Stats {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.stats
	s.Requests = maps.Clone(s.Requests)
	s.Executions = maps.Clone(s.Executions)
	s.MaxRunning = maps.Clone(s.MaxRunning)
	s.Tokens = int(r.tokens.Load())
	return s
}

// next returns a channel that is closed at the next change.
func (r *recorder) next() <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.changed == nil {
		r.changed = make(chan struct{})
	}
	return r.changed
}

// Stats returns a copy of the counters.
func (s *Server) Stats() Stats { return s.stats.snapshot() }

// ResetStats sets the counters to zero, except what is running and waiting.
func (s *Server) ResetStats() { s.stats.reset() }

// Await returns when ok holds for the statistics, or with the context's error.
// It looks again at every change, so a test need not sleep:
//
//	err := ollama.Await(t.Context(), func(s ollamatest.Stats) bool { return s.Running == 0 })
func (s *Server) Await(ctx context.Context, ok func(Stats) bool) error {
	s.stats.waiters.Add(1)
	defer s.stats.waiters.Add(-1)
	for {
		changed := s.stats.next()
		if ok(s.stats.snapshot()) {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}
