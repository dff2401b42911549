package backend

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh"
)

// signEvery is how often a waiting request's Notify is called at least: the
// sign of life that keeps an ingress waiting.
const signEvery = time.Second

// newsEvery is how often it is called at most because the queue has changed: a
// half of the gain that makes a request move to another node (moveMargin). Every
// start and end is news to all who wait, so without it n requests that come at
// once are told n²/2 times.
const newsEvery = signEvery / 4

// GateConfig makes a Gate.
type GateConfig struct {
	Limits
	// Load is asked for this node's own load when a request is refused; nil
	// leaves it out. The gate calls it holding no lock.
	Load func() *mesh.Load
	// Changed, if set, is told that a request started, ended, or was refused.
	// It is called holding no lock and must not block.
	Changed func()
	// Done, if set, gets every request that ran, after it left. It is called
	// from the goroutine that left, holding no lock.
	Done func(Finished)
}

// Finished is a request that ran.
type Finished struct {
	Work
	Model    *mesh.Model // nil when the catalog does not know it
	Usage    Usage
	Cold     bool // its start made Ollama load the model
	Together float64
	Others   float64
	Waited   time.Duration
	First    time.Duration // from the start to the first piece of the answer; 0 unknown
	Took     time.Duration // from the start to the end
}

// Gate admits requests to the local Ollama: an [Admission] with a lock and a
// way to wait. There is no ticker and no goroutine; who leaves wakes who may
// start.
type Gate struct {
	config GateConfig

	mu      sync.Mutex
	a       *Admission
	byID    map[string]*Entry
	idle    chan struct{} // closed when nothing runs or waits; nil when nobody asked
	tickets []Ticket      // of changes and at
	changes uint64
	at      time.Time
}

// NewGate makes a Gate that admits whatever comes until it is told more by
// Observe.
func NewGate(c GateConfig) *Gate {
	return &Gate{config: c, a: NewAdmission(c.Limits), byID: make(map[string]*Entry)}
}

// Enter waits for a slot. It is the ownership contract of the package:
//
//   - err == nil: the caller owns a slot and must call leave exactly once, with
//     what the request used, whatever became of it. Further calls do nothing.
//   - err != nil: the caller owns nothing and nothing was done. err is a
//     *[Refused], or the cause of ctx when it ended first.
//
// Enter keeps to the order of [Work]'s fields: interactive before batch, the
// clients of a class in turn, FIFO within a client. A request that could start
// later than it was promised is refused at once, a full queue refuses whoever
// is last in order, and draining or losing Ollama refuses all who wait.
func (g *Gate) Enter(ctx context.Context, w Work) (leave func(Usage), err error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	g.mu.Lock()
	now := time.Now()
	e := g.a.Enter(now, w)
	if r := e.refused; r != nil {
		g.mu.Unlock()
		return nil, g.refuse(r)
	}
	g.settle(now)
	started := e.Running()
	if !started {
		e.fate, e.news = make(chan struct{}), make(chan struct{}, 1)
		if e.done { // refused in the same moment
			close(e.fate)
		}
	}
	g.mu.Unlock()
	g.changed()
	if !started {
		if err := g.wait(ctx, e); err != nil {
			return nil, err
		}
	}
	return g.leaver(e), nil
}

// wait returns nil when e runs, else why it never will.
func (g *Gate) wait(ctx context.Context, e *Entry) error {
	var tick <-chan time.Time
	if e.Notify != nil {
		ticker := time.NewTicker(signEvery)
		defer ticker.Stop()
		tick = ticker.C
		g.notify(e)
	}
	news, rest := e.news, (<-chan time.Time)(nil)
	for waits := true; waits; {
		select {
		case <-e.fate:
			waits = false
		case <-ctx.Done():
			waits = false
		case <-tick:
		case <-rest:
			news, rest = e.news, nil
			continue
		case <-news:
			news, rest = nil, time.After(newsEvery)
		}
		if waits && ctx.Err() == nil {
			g.notify(e)
		}
	}
	g.mu.Lock()
	switch {
	case e.refused != nil:
		g.mu.Unlock()
		return g.refuse(e.refused)
	case ctx.Err() != nil:
		// It may have been given a slot in the same moment: then it gives it
		// back unused.
		now := time.Now()
		g.forget(e)
		g.a.Leave(now, e, false)
		g.settle(now)
		g.mu.Unlock()
		g.changed()
		return context.Cause(ctx)
	}
	g.mu.Unlock()
	return nil
}

func (g *Gate) leaver(e *Entry) func(Usage) {
	var left atomic.Bool
	return func(u Usage) {
		if left.CompareAndSwap(false, true) {
			g.leave(e, u)
		}
	}
}

func (g *Gate) leave(e *Entry, u Usage) {
	g.mu.Lock()
	now := time.Now()
	g.forget(e)
	g.a.wrote(e, u.OutputTokens) // an answer in one piece says it here only
	together, others := g.a.Leave(now, e, u.OutputTokens > 0 || u.PromptTokens > 0)
	model := g.a.state.Model(e.Key)
	g.settle(now)
	g.mu.Unlock()
	if g.config.Done != nil {
		f := Finished{
			Work: e.Work, Model: model, Usage: u, Cold: e.cold, Together: together, Others: others,
			Waited: e.started.Sub(e.arrived), Took: now.Sub(e.started),
		}
		if !e.first.IsZero() {
			f.First = e.first.Sub(e.started)
		}
		g.config.Done(f)
	}
	g.changed()
}

// refuse completes a refusal, outside of the lock.
func (g *Gate) refuse(r *Refused) error {
	if g.config.Load != nil {
		r.Load = g.config.Load()
	}
	g.changed()
	return r
}

func (g *Gate) changed() {
	if g.config.Changed != nil {
		g.config.Changed()
	}
}

// settle makes known what the admission decided. g.mu is held.
func (g *Gate) settle(now time.Time) {
	for _, e := range g.a.Settle(now) {
		if e.fate != nil {
			close(e.fate)
		}
		if e.Running() && e.ID != "" {
			g.byID[e.ID] = e
		}
	}
	for _, e := range g.a.line {
		if e.Notify != nil && e.news != nil {
			select {
			case e.news <- struct{}{}:
			default:
			}
		}
	}
	if g.idle != nil && g.quiet() {
		close(g.idle)
		g.idle = nil
	}
}

func (g *Gate) quiet() bool { return len(g.a.running) == 0 && len(g.a.line) == 0 }

func (g *Gate) forget(e *Entry) {
	if g.byID[e.ID] == e {
		delete(g.byID, e.ID)
	}
}

// notify tells e where it stands, if it still waits.
func (g *Gate) notify(e *Entry) {
	g.mu.Lock()
	at := slices.Index(g.a.line, e)
	if at < 0 {
		g.mu.Unlock()
		return
	}
	t := g.standing(time.Now())[at]
	g.mu.Unlock()
	e.Notify(t.Position, t.Start)
}

// forecastLife is how long a forecast is shared: every change wakes as many
// goroutines as there are waiting requests, and all ask for the same one.
const forecastLife = 100 * time.Millisecond

// standing is the queue with its forecast. g.mu is held; the slice is shared
// and not written to.
func (g *Gate) standing(now time.Time) []Ticket {
	if g.tickets == nil || g.changes != g.a.changes || now.Sub(g.at) >= forecastLife {
		g.tickets, g.changes, g.at = g.a.Waiting(now), g.a.changes, now
	}
	return g.tickets
}

// Waiting lists the requests that wait, the next one first.
func (g *Gate) Waiting() []Ticket {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Clone(g.standing(time.Now()))
}

// Progress tells how many pieces of its answer the running request has brought
// so far: the first proves its model loaded, the number says how much is left.
func (g *Gate) Progress(id string, chunks int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	e := g.byID[id]
	if e == nil {
		return
	}
	first := e.first.IsZero()
	now := time.Now()
	g.a.Progress(now, e, chunks)
	if first {
		g.settle(now) // the next load may begin
	}
}

// Observe takes in a newer state of Ollama.
func (g *Gate) Observe(s *State) {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := time.Now()
	g.a.Observe(now, s)
	g.settle(now)
}

// SetLimits changes what the gate may use of Ollama; Speed stays when l has
// none. What runs goes on.
func (g *Gate) SetLimits(l Limits) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if l.Speed == nil {
		l.Speed = g.a.given.Speed
	}
	g.a.SetLimits(l)
	g.settle(time.Now())
}

// SetParallel changes the slots per model; 0 goes back to Ollama's default.
func (g *Gate) SetParallel(n int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	l := g.a.given
	l.Parallel = max(n, 0)
	g.a.SetLimits(l)
	g.settle(time.Now())
}

// Drain refuses new work, and all that waits, with ErrDraining, so that it
// moves; what runs goes on to its end. See Idle.
func (g *Gate) Drain() {
	g.mu.Lock()
	g.a.Drain()
	g.settle(time.Now())
	g.mu.Unlock()
	g.changed()
}

// Undrain admits again.
func (g *Gate) Undrain() {
	g.mu.Lock()
	g.a.Undrain()
	g.mu.Unlock()
	g.changed()
}

// Idle returns a channel that is closed as soon as nothing runs and nothing
// waits; at once if that is now.
func (g *Gate) Idle() <-chan struct{} {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.quiet() {
		done := make(chan struct{})
		close(done)
		return done
	}
	if g.idle == nil {
		g.idle = make(chan struct{})
	}
	return g.idle
}
