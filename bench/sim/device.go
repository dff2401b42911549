package sim

import (
	"math"
	"slices"
)

// job is one request on a machine's Ollama.
type job struct {
	model          int
	conversation   int     // 0: none
	prompt, output float64 // tokens, as they will turn out
	cached         float64 // of the prompt, found in the slot's cache

	read, written         float64 // tokens so far
	asked, began, readEnd float64 // when it came, got its slot, had read its prompt
	loaded                float64 // seconds of it that were a cold load
	owner                 any
}

// device is a simulated Ollama on one machine: models in memory with slots, one
// load at a time, eviction of the longest idle, batching. It is the truth that
// rules estimate.
//
// Models that compute share the machine equally. n requests of a model write at
// decode/(1+slope*(n-1)) each, and none of them writes while another's prompt is
// read: llama.cpp's batches take prompts and single tokens together. A request
// for a model in memory waits for a slot of it only; others wait in one line for
// room (Ollama 0.33: server/sched.go).
type device struct {
	kind    *Kind
	speed   []Rate // by model, this machine's own
	now     float64
	runners []runner // by model
	line    []*job   // for models that are not in memory

	loads         int
	first, finish func(*job) // told when a job has read its prompt, and at its end
}

// runner is one model in memory.
type runner struct {
	in      bool    // in memory, or being loaded
	ready   float64 // when the load ends
	jobs    []*job  // in slots
	queue   []*job  // for a slot
	touched float64 // when it was last used
	slots   []slot
}

// slot is what the KV cache of one slot holds.
type slot struct {
	conversation int
	tokens       float64
	used         float64
	busy         *job
}

func newDevice(k *Kind, speed []Rate, models int) *device {
	return &device{kind: k, speed: speed, runners: make([]runner, models), first: func(*job) {}, finish: func(*job) {}}
}

// keepAlive is Ollama's default.
const keepAlive = 300.0

// submit hands in a job now; the caller has advanced the device to now.
func (d *device) submit(j *job) {
	j.asked = d.now
	r := &d.runners[j.model]
	if r.in {
		r.queue = append(r.queue, j)
	} else {
		d.line = append(d.line, j)
	}
	d.start()
}

// start gives out slots and begins loads.
func (d *device) start() {
	for len(d.line) > 0 {
		j := d.line[0]
		r := &d.runners[j.model]
		if !r.in {
			if !d.room(j.model) {
				break
			}
			d.loads++
			j.loaded = d.speed[j.model].Cold
			*r = runner{in: true, ready: d.now + j.loaded, touched: d.now, slots: make([]slot, d.kind.Slots)}
		}
		r.queue = append(r.queue, j)
		d.line = d.line[1:]
	}
	for m := range d.runners {
		r := &d.runners[m]
		for r.in && len(r.queue) > 0 && len(r.jobs) < d.kind.Slots {
			j := r.queue[0]
			r.queue = r.queue[1:]
			j.began = d.now
			r.jobs = append(r.jobs, j)
			r.take(j, d.now)
		}
	}
}

// take puts the job into the free slot that holds the most of its conversation,
// else the longest unused one, as llama.cpp's server does.
func (r *runner) take(j *job, now float64) {
	best := -1
	for i := range r.slots {
		s := &r.slots[i]
		if s.busy != nil {
			continue
		}
		same := j.conversation > 0 && s.conversation == j.conversation
		if same {
			best = i
			break
		}
		if best < 0 || s.used < r.slots[best].used {
			best = i
		}
	}
	s := &r.slots[best]
	if j.conversation > 0 && s.conversation == j.conversation {
		j.cached = min(s.tokens, j.prompt-1)
	}
	*s = slot{conversation: j.conversation, busy: j, used: now}
	j.read = j.cached
}

// room makes room for a model, or says that busy ones, or a load, are in the
// way. Ollama lets a model take at most four fifths of the memory beside others.
func (d *device) room(model int) bool {
	need := float64(d.kind.footprint[model]) / 0.8
	for {
		held, idlest := 0, -1
		used := need
		for m := range d.runners {
			r := &d.runners[m]
			if !r.in {
				continue
			}
			if r.ready > d.now {
				return false
			}
			held++
			used += float64(d.kind.footprint[m])
			if len(r.jobs)+len(r.queue) == 0 && (idlest < 0 || r.touched < d.runners[idlest].touched) {
				idlest = m
			}
		}
		if held == 0 || held < d.kind.MaxLoaded && used <= float64(d.kind.memory) {
			return true
		}
		if idlest < 0 {
			return false
		}
		d.runners[idlest] = runner{}
	}
}

// active counts the models that share the machine now.
func (d *device) active() float64 {
	n := 0
	for m := range d.runners {
		if r := &d.runners[m]; r.ready <= d.now && len(r.jobs) > 0 {
			n++
		}
	}
	return float64(max(n, 1))
}

// reading is the job whose prompt the runner reads now, nil none.
func (r *runner) reading() *job {
	for _, j := range r.jobs {
		if j.read < j.prompt {
			return j
		}
	}
	return nil
}

// next is when something happens by itself: a load or a prompt or an answer
// ends, or an idle model is unloaded. +Inf: nothing will.
func (d *device) next() float64 {
	at, share := math.Inf(1), d.active()
	for m := range d.runners {
		r := &d.runners[m]
		switch {
		case !r.in:
		case r.ready > d.now:
			at = min(at, r.ready)
		case len(r.jobs) == 0:
			at = min(at, r.touched+keepAlive)
		default:
			v := &d.speed[m]
			if j := r.reading(); j != nil {
				at = min(at, d.now+(j.prompt-j.read)/v.Prefill*share)
				continue
			}
			slow := (1 + v.Slope*float64(len(r.jobs)-1)) * share / v.Decode
			for _, j := range r.jobs {
				at = min(at, d.now+(j.output-j.written)*slow)
			}
		}
	}
	return at
}

// tiny is where rounding ends a phase, tokens.
const tiny = 1e-6

// advance goes on to t, through all that happens on the way.
func (d *device) advance(t float64) {
	for {
		to := min(t, d.next())
		if to > d.now {
			d.flow(to - d.now)
			d.now = to
		}
		if !d.happen() && to >= t {
			return
		}
	}
}

// flow lets dt seconds pass in which nothing begins or ends.
func (d *device) flow(dt float64) {
	share := d.active()
	for m := range d.runners {
		r := &d.runners[m]
		if r.ready > d.now || len(r.jobs) == 0 {
			continue
		}
		v := &d.speed[m]
		if j := r.reading(); j != nil {
			j.read += dt * v.Prefill / share
			continue
		}
		tokens := dt * v.Decode / ((1 + v.Slope*float64(len(r.jobs)-1)) * share)
		for _, j := range r.jobs {
			j.written += tokens
		}
	}
}

// happen ends what has ended by now; false: nothing had.
func (d *device) happen() (something bool) {
	for m := range d.runners {
		r := &d.runners[m]
		if !r.in || r.ready > d.now {
			continue
		}
		if len(r.jobs)+len(r.queue) == 0 && d.now >= r.touched+keepAlive {
			*r = runner{}
			something = true
			continue
		}
		for i := 0; i < len(r.jobs); i++ {
			j := r.jobs[i]
			switch {
			case j.readEnd == 0 && j.read >= j.prompt-tiny:
				j.read, j.readEnd = j.prompt, d.now
				something = true
				d.first(j)
			case j.readEnd > 0 && j.written >= j.output-tiny:
				r.jobs = slices.Delete(r.jobs, i, i+1)
				i--
				r.leave(j, d.now)
				something = true
				d.start()
				d.finish(j)
			}
		}
	}
	if len(d.line) > 0 {
		d.start() // a load may have ended
	}
	return something
}

func (r *runner) leave(j *job, now float64) {
	r.touched = now
	for i := range r.slots {
		if s := &r.slots[i]; s.busy == j {
			s.busy, s.tokens, s.used = nil, j.prompt+j.written, now
		}
	}
}

// remove takes a job off the device, wherever it is.
func (d *device) remove(j *job) {
	gone := func(x *job) bool { return x == j }
	d.line = slices.DeleteFunc(d.line, gone)
	r := &d.runners[j.model]
	r.queue = slices.DeleteFunc(r.queue, gone)
	if slices.Contains(r.jobs, j) {
		r.jobs = slices.DeleteFunc(r.jobs, gone)
		r.leave(j, d.now)
	}
	d.start()
}

// held counts everything on the device.
func (d *device) held() int {
	n := len(d.line)
	for m := range d.runners {
		n += len(d.runners[m].jobs) + len(d.runners[m].queue)
	}
	return n
}

// each calls f for everything on the device.
func (d *device) each(f func(*job)) {
	for m := range d.runners {
		for _, j := range d.runners[m].jobs {
			f(j)
		}
		for _, j := range d.runners[m].queue {
			f(j)
		}
	}
	for _, j := range d.line {
		f(j)
	}
}

// clone copies the device with its jobs, for a look into the future.
func (d *device) clone() *device {
	c := *d
	c.first, c.finish = func(*job) {}, func(*job) {}
	copied := map[*job]*job{}
	dup := func(j *job) *job {
		if j == nil {
			return nil
		}
		if copied[j] == nil {
			x := *j
			copied[j] = &x
		}
		return copied[j]
	}
	list := func(js []*job) []*job {
		out := make([]*job, len(js), len(js)+1)
		for i, j := range js {
			out[i] = dup(j)
		}
		return out
	}
	c.runners = slices.Clone(d.runners)
	for m := range c.runners {
		r := &c.runners[m]
		if !r.in {
			continue
		}
		r.jobs, r.queue, r.slots = list(r.jobs), list(r.queue), slices.Clone(r.slots)
		for i := range r.slots {
			r.slots[i].busy = dup(r.slots[i].busy)
		}
	}
	c.line = list(d.line)
	return &c
}

// drain plays the device to its end and returns the sum of the times at which
// its jobs end. It uses the device up.
func (d *device) drain() (sum float64) {
	left := d.held()
	d.finish = func(*job) { sum += d.now; left-- }
	for left > 0 {
		t := d.next()
		if math.IsInf(t, 1) {
			return math.Inf(1)
		}
		d.advance(t)
	}
	return sum
}
