package backend

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh"
)

// How often a [Watcher] looks. The answers cost Ollama little; what is resident
// changes with every load and unload, what is on disk only by pull, create,
// copy and delete.
const (
	psEvery      = time.Second
	tagsEvery    = 3 * time.Second
	versionEvery = 30 * time.Second
	pokeGap      = 200 * time.Millisecond // pokes closer than this share one look
	showAgain    = 30 * time.Second       // after a show that failed
	shapesEvery  = 2 * time.Second        // publish shapes while more are being read
)

// A server that is down is looked for again after 250 ms, then less often, but
// never less than every 1.5 s: a refused connection costs next to nothing, and
// a node should be back in business within two seconds of its Ollama.
const (
	downFirst = 250 * time.Millisecond
	downMost  = 1500 * time.Millisecond
)

// stallsToDown is how many questions in a row may time out before the server
// counts as down: one may be starved by inference on all cores.
const stallsToDown = 2

// Watcher keeps a [State] of one Ollama up to date, through restarts, outages
// and absence. New starts nothing; Run does all the work in one goroutine.
type Watcher struct {
	client *Client
	log    *slog.Logger
	state  atomic.Pointer[State]
	poke   chan struct{}      // 1 deep
	fresh  chan chan struct{} // Refresh hands in what is closed when it is done

	mu      sync.Mutex
	changed chan struct{} // closed at the next publish

	// owned by Run
	next     State
	psAt     time.Time // when each look is due
	tagsAt   time.Time
	verAt    time.Time
	asked    time.Time // last /api/ps
	backoff  time.Duration
	stalls   int
	poked    bool   // the next look was brought forward as far as it goes
	tags     []byte // last /api/tags, to see that nothing changed
	listed   mesh.Catalog
	shapes   map[string]Shape     // by digest
	failed   map[string]time.Time // digest -> when its show failed
	pending  []int                // indices into listed that lack a shape
	shaped   time.Time            // when the catalog was last built
	downSaid bool
}

// NewWatcher makes a Watcher of c's Ollama; nil log discards.
func NewWatcher(c *Client, log *slog.Logger) *Watcher {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	w := &Watcher{
		client: c, log: log.With("component", "backend"),
		poke: make(chan struct{}, 1), fresh: make(chan chan struct{}),
		changed: make(chan struct{}),
		shapes:  make(map[string]Shape), failed: make(map[string]time.Time),
	}
	w.state.Store(&State{})
	return w
}

// State is the newest state: one atomic load. It is never nil and belongs to
// everybody.
func (w *Watcher) State() *State { return w.state.Load() }

// Changed returns a channel that is closed when the next State is published,
// which happens with every look. Get it before reading State.
func (w *Watcher) Changed() <-chan struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.changed
}

// Poke asks for a look at memory now: something was loaded, ended or failed.
// It never blocks; many pokes make one look.
func (w *Watcher) Poke() {
	select {
	case w.poke <- struct{}{}:
	default:
	}
}

// Refresh looks at everything and returns when the State shows it: after a
// pull or delete, or before telling somebody that a model does not exist. It
// needs a running Run and ends with ctx.
func (w *Watcher) Refresh(ctx context.Context) error {
	done := make(chan struct{})
	select {
	case w.fresh <- done:
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Run watches until ctx ends and then returns nil.
func (w *Watcher) Run(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	var waiting []chan struct{}
	defer func() {
		for _, done := range waiting {
			close(done)
		}
	}()
	for {
		if len(w.pending) == 0 || time.Until(w.due()) <= 0 {
			timer.Reset(time.Until(w.due()))
			poke := w.poke
			if w.poked {
				poke = nil // a busy node is poked with every request
			}
			select {
			case <-ctx.Done():
				return nil
			case <-timer.C:
			case <-poke:
				w.poked = true
				if soonest := w.asked.Add(pokeGap); w.psAt.After(soonest) {
					w.psAt = soonest
				}
				continue
			case done := <-w.fresh:
				waiting = append(waiting, done)
				w.psAt, w.tagsAt = time.Now(), time.Now()
				continue
			}
		}
		w.poked = false
		w.step(ctx, time.Now())
		if ctx.Err() != nil {
			return nil
		}
		if len(waiting) > 0 && len(w.pending) == 0 && time.Now().Before(w.due()) {
			for _, done := range waiting {
				close(done)
			}
			waiting = nil
		}
	}
}

// due is when the next look is.
func (w *Watcher) due() time.Time {
	if !w.next.Up {
		return w.psAt
	}
	if w.tagsAt.Before(w.psAt) {
		return w.tagsAt
	}
	return w.psAt
}

// publish hands out a copy of the next state.
func (w *Watcher) publish() {
	s := w.next
	w.state.Store(&s)
	w.mu.Lock()
	close(w.changed)
	w.changed = make(chan struct{})
	w.mu.Unlock()
}
