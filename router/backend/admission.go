package backend

import (
	"slices"
	"time"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh"
)

// Admission is the gate's logic without its loop: a plain value that is told
// what happens and when, and says who may start. It neither blocks nor reads a
// clock nor locks, so that a simulator can run the very rules that nodes run;
// [Gate] makes it safe and makes callers wait.
//
// After any other method, Settle says what followed.
type Admission struct {
	board
	given    Limits
	state    *State
	draining bool
	running  []*Entry
	clocks   map[string]clock // by runner; they outlive it
	decided  []*Entry
	told     []*Entry // by the last Settle: its memory is used again
	seq      uint64
	served   [2]uint64 // highest tag that got a slot, by class
	changes  uint64    // grows whenever a forecast would change
	written  uint64    // tokens of all answers since the start

	// busyArea is the time integral of the number of active models up to
	// busySince; see runner.area.
	busyArea  float64
	busySince time.Time
}

// NewAdmission makes an Admission that knows nothing of Ollama yet and admits
// whatever comes.
func NewAdmission(l Limits) *Admission {
	a := &Admission{given: l, clocks: make(map[string]clock)}
	a.board = board{runners: make(map[string]*runner), limits: &a.given}
	a.SetLimits(l)
	return a
}

// SetLimits changes the limits; what runs beyond them goes on.
func (a *Admission) SetLimits(l Limits) {
	a.given = l.withDefaults()
	a.resize()
	a.changes++
}

// parallel is the number of slots of an ordinary model.
func (a *Admission) parallel() int {
	if a.given.Parallel > 0 {
		return a.given.Parallel
	}
	if a.state != nil {
		return ParallelOf(a.state.Version)
	}
	return 1
}

// Enter takes w in: it will start, wait or be refused (see [Entry.Refused]).
func (a *Admission) Enter(now time.Time, w Work) *Entry {
	e := &Entry{Work: w, arrived: now}
	if reason := a.closed(w); reason != nil {
		e.refuse(reason, 0)
		return e
	}
	m := a.state.Model(w.Key)
	r := a.runnerFor(w)
	e.runner, e.want = r.id, wanted(w, m)
	if m != nil && m.Size > 0 {
		e.footprint = m.Need(w.Context, r.slots).Total()
	}
	e.patience = r.patience()
	a.seq++
	e.seq, e.tag = a.seq, a.tagFor(w)
	a.changes++

	at, _ := slices.BinarySearchFunc(a.line, e, byTurn)
	a.line = slices.Insert(a.line, at, e)
	if a.next(now) == e { // a slot is free
		if a.slower(e) {
			a.remove(e)
			e.refuse(ErrLate, 0)
		}
		return e
	}
	start := a.forecast(now, nil).start(e)
	switch {
	case w.NoWait:
		a.remove(e)
		e.refuse(ErrSaturated, start)
	case w.Promise >= 0 && start > w.Promise+LateMargin(w.Promise):
		a.remove(e)
		e.refuse(ErrLate, start)
	case len(a.line) > a.given.Queue:
		// Whoever is last in order makes way: a new request of a client that
		// has few waiting pushes out the last of one that has many.
		last := a.line[len(a.line)-1]
		a.remove(last)
		last.refuse(ErrSaturated, start)
		if last != e {
			a.decided = append(a.decided, last)
		}
	}
	return e
}

// slower reports whether e, if it started now, would end later than its ingress
// assumed, by more than a margin, for the company that it would have here.
// Entries that have all seen the same idle node a second ago would otherwise
// share it while others are idle.
func (a *Admission) slower(e *Entry) bool {
	if e.Promise < 0 || e.Slow <= 0 {
		return false
	}
	r, active := a.runners[e.runner], len(a.active())
	if r.running == 0 {
		active++
	}
	lone := r.speed.lone(e.Work)
	slow := (1 + r.speed.Slope*float64(r.running)) * float64(active)
	return seconds(lone*(slow-e.Slow)) > LateMargin(seconds(lone*e.Slow))
}

// closed is why nothing, or nothing of this model, is admitted.
func (a *Admission) closed(w Work) error {
	switch {
	case a.draining:
		return ErrDraining
	case a.state == nil:
		return nil
	case !a.state.Up:
		return ErrDown
	case a.state.Listed && a.state.Model(w.Key) == nil:
		return ErrNoModel
	}
	return nil
}

// tagFor is start-time fair queueing with unit costs (Goyal, Vin, Cheng 1996):
// a client's requests get rising turns, and a client that was away starts at
// the turn being served, neither owed nor owing. Whoever has one request
// waiting is thus served before the second of anybody else, and a lone client
// gets plain FIFO.
func (a *Admission) tagFor(w Work) uint64 {
	e := Entry{Work: w}
	last := a.served[e.class()]
	for _, x := range a.line {
		if x.Client == w.Client && x.Batch == w.Batch {
			last = max(last, x.tag)
		}
	}
	for _, x := range a.running {
		if x.Client == w.Client && x.Batch == w.Batch {
			last = max(last, x.tag)
		}
	}
	return last + 1
}

// runnerFor finds or makes the books of the runner that serves w.
func (a *Admission) runnerFor(w Work) *runner {
	id := w.Blob
	if id == "" {
		id = a.idOf(w.Key)
	}
	r := a.runners[id]
	if r == nil {
		r = &runner{id: id}
		a.runners[id] = r
	}
	m := a.state.Model(w.Key)
	r.slots = a.state.Slots(w.Key, a.parallel())
	r.speed = a.speed(w.Key, m).checked(a.clocks[id])
	return r
}

// idOf names the runner that serves the model. While requests of it are booked
// under its name, a digest that became known in the meantime must not open a
// second set of slots.
func (a *Admission) idOf(key string) string {
	if r := a.runners[key]; r != nil && (r.running > 0 || a.waitsFor(key)) {
		return key
	}
	return a.state.Runner(key)
}

func (a *Admission) waitsFor(id string) bool {
	return slices.ContainsFunc(a.line, func(e *Entry) bool { return e.runner == id })
}

// Settle starts whatever may start and returns every entry whose fate was
// decided since the last call: running, or refused while it waited. They are
// valid until the next call.
func (a *Admission) Settle(now time.Time) []*Entry {
	for e := a.next(now); e != nil; e = a.next(now) {
		a.account(now)
		e.cold = a.start(e, now)
		if !e.Batch {
			a.runners[e.runner].wanted(now)
		}
		e.started, e.area, e.busy = now, a.runners[e.runner].area, a.busyArea
		a.served[e.class()] = max(a.served[e.class()], e.tag)
		a.running = append(a.running, e)
		a.decided = append(a.decided, e)
		a.changes++
	}
	clear(a.told)
	a.told, a.decided = a.decided, a.told[:0]
	return a.told
}

// account brings the integral of active models up to now.
func (a *Admission) account(now time.Time) {
	a.busyArea += float64(len(a.active())) * max(now.Sub(a.busySince).Seconds(), 0)
	a.busySince = now
}

// Leave ends an entry: one that ran, or one that no longer wants to wait. ok
// says that Ollama answered it, which proves its model loaded. Leaving twice
// changes nothing. For an entry that ran, together is the mean number of
// requests on its runner meanwhile, itself included, and others the mean number
// of other models that were active on the device.
func (a *Admission) Leave(now time.Time, e *Entry, ok bool) (together, others float64) {
	if e.done {
		return 1, 0
	}
	e.done = true
	a.changes++
	if a.remove(e) {
		return 1, 0
	}
	at := slices.Index(a.running, e)
	if at < 0 {
		return 1, 0
	}
	a.account(now)
	a.running = slices.Delete(a.running, at, at+1)
	r := a.runners[e.runner]
	r.count(now, -1)
	if took := now.Sub(e.started).Seconds(); took > 0 {
		together, others = (r.area-e.area)/took, (a.busyArea-e.busy)/took-1
	}
	if ok {
		a.time(now, e, max(together, 1), max(others, 0))
	}
	switch {
	case ok || e.chunks > 0:
		r.loading, r.resident = false, true
	case r.running == 0 && r.loading: // a load that was given up
		r.loading, r.resident = false, false
	}
	return max(together, 1), max(others, 0)
}

// drop forgets a runner that is not in memory, that nobody waits for and that
// no request of ours has used since before. Who used it last is remembered for
// a while: its load may end after the request that wanted it has left.
func (a *Admission) drop(id string, before time.Time) {
	if r := a.runners[id]; r != nil && !r.held() && !a.waitsFor(id) && !r.touched.After(before) {
		delete(a.runners, id)
	}
}

// Progress notes how many pieces of its answer a running entry has brought.
// The first proves its model loaded.
func (a *Admission) Progress(now time.Time, e *Entry, chunks int) {
	if chunks <= e.chunks || !e.Running() {
		return
	}
	a.wrote(e, chunks)
	e.pieces = chunks
	if e.first.IsZero() {
		e.first = now
		if r := a.runners[e.runner]; r.loading {
			r.loading, r.resident = false, true
		}
		a.changes++
	}
}

// wrote counts the pieces of a running entry's answer.
func (a *Admission) wrote(e *Entry, chunks int) {
	if chunks > e.chunks && e.Running() {
		a.written += uint64(chunks - e.chunks) //nolint:gosec // positive
		e.chunks = chunks
	}
}

// Drain refuses all new work, and what waits, so that it moves. What runs goes
// on. Undrain takes it back.
func (a *Admission) Drain() {
	a.draining = true
	a.expel(func(*Entry) error { return ErrDraining })
}

// Undrain admits again.
func (a *Admission) Undrain() {
	a.draining = false
	a.changes++
}

// expel refuses the waiting entries for which why gives a reason.
func (a *Admission) expel(why func(*Entry) error) {
	a.changes++
	a.line = slices.DeleteFunc(a.line, func(e *Entry) bool {
		reason := why(e)
		if reason != nil {
			e.refuse(reason, 0)
			a.decided = append(a.decided, e)
		}
		return reason != nil
	})
}

// Observe takes in a newer state of Ollama: what is in memory, and whether it
// is there at all. What happened after the state was asked for is believed
// before it.
func (a *Admission) Observe(now time.Time, s *State) {
	a.state = s
	a.changes++
	if !s.Up {
		a.expel(func(*Entry) error { return ErrDown })
	} else if s.Listed {
		a.expel(func(e *Entry) error { return a.closed(e.Work) })
	}
	seen := make(map[string]bool, len(s.Resident))
	for i := range s.Resident {
		p := &s.Resident[i]
		r := a.runnerFor(Work{Key: p.Key})
		seen[r.id] = true
		if r.touched.After(s.Polled) && !r.resident {
			continue
		}
		if r.loading && r.isLoading(now) {
			continue // a loading runner is listed too
		}
		r.resident, r.loading = true, false
		if p.Context > 0 {
			r.context = p.Context
		}
		if r.size = p.SizeVRAM; r.size == 0 {
			r.size = p.Size
		}
	}
	for id, r := range a.runners {
		if !seen[id] && r.running == 0 && !r.touched.After(s.Polled) {
			r.resident, r.loading, r.context, r.size = false, false, 0, 0
			a.drop(id, now.Add(-time.Minute))
		}
	}
	a.resize()
}

// resize gives every runner its slots and speed anew.
func (a *Admission) resize() {
	for id, r := range a.runners {
		key := a.keyOf(id)
		r.slots = a.state.Slots(key, a.parallel())
		r.speed = a.speed(key, a.state.Model(key)).checked(a.clocks[id])
	}
}

// keyOf is a model that the runner serves.
func (a *Admission) keyOf(id string) string {
	for _, list := range [][]*Entry{a.running, a.line} {
		for _, e := range list {
			if e.runner == id {
				return e.Key
			}
		}
	}
	if a.state != nil {
		for i := range a.state.Catalog {
			if m := &a.state.Catalog[i]; m.Blob == id || m.Key == id {
				return m.Key
			}
		}
	}
	return id
}

func (a *Admission) speed(key string, m *mesh.Model) Speed {
	var s Speed
	if a.given.Speed != nil {
		s = a.given.Speed(key, m)
	}
	var size uint64
	if m != nil {
		size = m.Size
	}
	return s.orGuess(size)
}
