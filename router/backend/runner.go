package backend

import (
	"maps"
	"math"
	"time"
)

// runner is one Ollama runner as the gate books it: a model in memory with its
// slots, or one that requests wait for.
type runner struct {
	id      string
	slots   int
	running int

	resident bool
	loading  bool
	since    time.Time // when loading began
	context  int       // tokens per slot it was loaded with, 0 unknown
	size     uint64    // bytes in memory, 0 unknown
	touched  time.Time // when a request of ours last began or ended
	speed    Speed     // with guesses for what was not measured

	// area is the time integral of running up to changed: what a request saw
	// of company is the difference between its end and its start.
	area    float64
	changed time.Time

	// rate is how often somebody wants it here and now, not for batch work:
	// requests per second as of rated.
	rate  float64
	rated time.Time
}

// rateOver is the time that requests are counted over, exponentially weighted.
const rateOver = 2 * time.Minute

// rateAt is how often the runner is wanted, as of now.
func (r *runner) rateAt(now time.Time) float64 {
	return r.rate * math.Exp(-max(now.Sub(r.rated).Seconds(), 0)/rateOver.Seconds())
}

// wanted counts a request.
func (r *runner) wanted(now time.Time) {
	r.rate, r.rated = r.rateAt(now)+1/rateOver.Seconds(), now
}

func (r *runner) held() bool { return r.resident || r.loading || r.running > 0 }

// count changes the number of running requests.
func (r *runner) count(now time.Time, by int) {
	r.area += r.areaTo(now)
	r.changed, r.touched = now, now
	r.running += by
}

func (r *runner) areaTo(now time.Time) float64 {
	return float64(r.running) * max(now.Sub(r.changed).Seconds(), 0)
}

// hold is why a waiting request cannot start.
type hold uint8

const (
	free      hold = iota // nothing holds it
	slotsFull             // its runner has no free slot
	loadBusy              // another model is being loaded; Ollama loads one at a time
	noRoom                // its model must be loaded and busy ones are in the way
)

// board is what decides who may start: the runners and the waiting requests in
// their order. The gate has the true one; forecasts play copies forward.
type board struct {
	runners map[string]*runner
	line    []*Entry // waiting, in order
	limits  *Limits
}

func (b *board) clone() *board {
	c := &board{runners: maps.Clone(b.runners), line: append([]*Entry(nil), b.line...), limits: b.limits}
	all := make([]runner, 0, len(b.runners))
	for id, r := range b.runners {
		all = append(all, *r)
		c.runners[id] = &all[len(all)-1]
	}
	return c
}

// next is the waiting request that may start now: the first in order that
// nothing holds. Requests of different models pass each other, because a slot
// that the first cannot use is no loss to it. But a request whose model needs
// room that busy models take up would wait for ever while those are kept busy;
// see [board.claim].
func (b *board) next(now time.Time) *Entry {
	claim := b.claim(now)
	for _, e := range b.line {
		if !b.barred(e, claim) && b.hold(e, now) == free {
			return e
		}
	}
	return nil
}

// hold says what keeps e from starting now.
func (b *board) hold(e *Entry, now time.Time) hold {
	r := b.runners[e.runner]
	switch {
	case r.running >= r.slots:
		return slotsFull
	case r.held() && r.fits(e.want):
		return free
	case r.running > 0:
		return noRoom // loaded with another context: reloaded when idle
	}
	return b.room(e.runner, e.footprint, now)
}

// fits reports whether a request that wants this context can use the runner as
// it is loaded; otherwise Ollama reloads it. 0 is unknown and fits.
func (r *runner) fits(want int) bool {
	return want == 0 || r.context == 0 || want == r.context
}

// room says whether id, which needs footprint bytes, can be loaded now. Idle
// models are no obstacle: Ollama evicts them itself.
func (b *board) room(id string, footprint uint64, now time.Time) hold {
	held, idle := 0, 0
	var busy uint64
	for _, r := range b.runners {
		switch {
		case r.id == id || !r.held():
			continue
		case r.isLoading(now):
			return loadBusy
		case r.running > 0:
			busy += r.size
		default:
			idle++
		}
		held++
	}
	switch {
	case held == idle:
		return free // nothing runs: whatever there is makes way
	case held >= b.limits.MaxLoaded && idle == 0,
		b.limits.Memory > 0 && footprint > 0 && float64(busy)+float64(footprint)/besideOthers > float64(b.limits.Memory):
		return noRoom
	}
	return free
}

// besideOthers is the part of the free memory that Ollama lets a model take up
// while others are loaded; a larger one waits until they can be evicted
// (server/sched.go of v0.33).
const besideOthers = 0.8

// isLoading reports whether the runner's load may still be going on. A request
// without a stream shows no first token, so a load counts as over when it has
// taken twice its usual time; if it has not ended, Ollama itself makes the
// next load wait.
func (r *runner) isLoading(now time.Time) bool {
	return r.loading && now.Sub(r.since) < 2*seconds(r.speed.Cold)+time.Second
}

// start books e as running on its runner and takes it out of the line. cold
// says that its model must be loaded first.
func (b *board) start(e *Entry, now time.Time) (cold bool) {
	r := b.runners[e.runner]
	if cold = !r.held() || !r.fits(e.want); cold {
		b.evict(e, now)
		r.loading, r.resident, r.since, r.context = true, false, now, e.want
		if e.footprint > 0 {
			r.size = e.footprint
		}
	}
	r.count(now, 1)
	b.remove(e)
	return cold
}

// evict takes out of memory what Ollama will evict for e, the longest unused
// first, until e has room or nothing idle is left. If Ollama chooses otherwise,
// the next look shows it.
func (b *board) evict(e *Entry, now time.Time) {
	for {
		held, used := 0, float64(e.footprint)/besideOthers
		var idlest *runner
		for _, r := range b.runners {
			if r.id == e.runner || !r.held() {
				continue
			}
			held++
			used += float64(r.size)
			if r.running == 0 && (idlest == nil || r.touched.Before(idlest.touched) ||
				r.touched.Equal(idlest.touched) && r.id < idlest.id) {
				idlest = r
			}
		}
		crowded := held >= b.limits.MaxLoaded ||
			b.limits.Memory > 0 && e.footprint > 0 && used > float64(b.limits.Memory)
		if !crowded || idlest == nil {
			return
		}
		idlest.resident, idlest.loading, idlest.context, idlest.size = false, false, 0, 0
		idlest.touched = now // older looks at Ollama do not bring it back
	}
}

func (b *board) remove(e *Entry) bool {
	for i, x := range b.line {
		if x == e {
			b.line = append(b.line[:i], b.line[i+1:]...)
			return true
		}
	}
	return false
}

func seconds(s float64) time.Duration {
	return time.Duration(min(s, 1e9) * float64(time.Second))
}
