package backend

import (
	"math"
	"slices"
	"time"
)

// Guesses for what nobody has measured, only ever used inside an estimate.
const (
	guessDecode  = 10.0  // tok/s: a 7B model on a CPU, a 70B one on a GPU
	guessPrefill = 100.0 // tok/s
	guessOutput  = 256.0 // tokens, a chat answer
	guessDisk    = 1.5e9 // bytes/s that a model is loaded with: an SSD
	guessInit    = 0.5   // seconds of a load that do not depend on size
)

// orGuess fills what is unknown, for a model of so many bytes.
func (s Speed) orGuess(size uint64) Speed {
	if s.Decode <= 0 {
		s.Decode = guessDecode
	}
	if s.Prefill <= 0 {
		s.Prefill = max(guessPrefill, 4*s.Decode)
	}
	if s.Cold <= 0 {
		s.Cold = guessInit + float64(size)/guessDisk
	}
	if s.Slope <= 0 && s.Samples == 0 {
		s.Slope = GuessSlope
	}
	return s
}

// Blend mixes a measured speed with a first guess, until there are
// TrustedSamples measurements.
func (s Speed) Blend(decode, prefill float64) Speed {
	w := min(float64(s.Samples)/TrustedSamples, 1)
	mix := func(measured, guess float64) float64 {
		if measured <= 0 || guess <= 0 {
			return max(measured, guess)
		}
		return w*measured + (1-w)*guess
	}
	s.Decode, s.Prefill = mix(s.Decode, decode), mix(s.Prefill, prefill)
	return s
}

// output is how many tokens the answer is expected to have.
func (s Speed) output(bound int) float64 {
	expected := s.Output
	if expected <= 0 {
		expected = guessOutput
	}
	if bound > 0 {
		expected = min(expected, float64(bound))
	}
	return expected
}

// lone is the seconds that the request takes on a device of its own, without
// the load.
func (s Speed) lone(w Work) float64 {
	return float64(w.PromptTokens)/s.Prefill + s.output(w.OutputTokens)/s.Decode
}

// tailShare: of an answer that has outlived its expectation, this share of the
// expectation is assumed to be still to come. Answer lengths have a long tail
// (log-normal describes them well), where what is left does not shrink as an
// answer grows.
const tailShare = 0.25

// left is what is still to do for the running request: seconds of load, which
// nothing slows, and seconds of work on a device of its own. slow is what its
// company makes of a second now.
func (e *Entry) left(s Speed, now time.Time, slow float64) (load, lone float64) {
	elapsed := max(now.Sub(e.started).Seconds(), 0)
	expected := s.output(e.OutputTokens)
	if e.chunks > 0 {
		tokens := max(expected-float64(e.chunks), expected*tailShare)
		if e.OutputTokens > 0 {
			tokens = min(tokens, float64(e.OutputTokens-e.chunks))
		}
		return 0, max(tokens, 0) / s.Decode
	}
	if e.cold {
		load = max(s.Cold-elapsed, 0)
		elapsed = max(elapsed-s.Cold, 0)
	}
	whole := s.lone(e.Work)
	return load, max(whole-elapsed/slow, whole*tailShare)
}

// outlook is a forecast: when each waiting request starts, and when a newcomer
// of each model would.
type outlook struct {
	starts    map[*Entry]time.Duration
	newcomers map[string]time.Duration // by runner
	end       time.Duration            // when all that is known is done
}

func (o outlook) start(e *Entry) time.Duration {
	if d, ok := o.starts[e]; ok {
		return d
	}
	return o.end
}

// horizon is longer than any forecast.
const horizon = 1e4 * time.Hour

// job is a running request of a forecast.
type job struct {
	runner     string
	load, lone float64
}

// forecast plays the board forward by the rules it is run by: each running
// request takes what is left of it, slowed by the others of its batch (decode
// of n together is decode/(1+slope*(n-1))) and by the other models active on
// the device, which share it; whoever ends lets the next one in. It also asks,
// at each step, whether a new interactive request of the given runners could
// start. Cost: O((running+waiting) * waiting).
func (a *Admission) forecast(now time.Time, newcomers []*Entry) outlook {
	o := outlook{starts: make(map[*Entry]time.Duration, len(a.line)), newcomers: make(map[string]time.Duration, len(newcomers))}
	b := a.clone()
	for _, r := range b.runners {
		r.rate, r.rated = r.rateAt(now), now.Add(horizon) // as many will come
	}
	jobs := make([]job, 0, len(a.running)+len(b.line))
	active := len(b.active())
	for _, e := range a.running {
		r := b.runners[e.runner]
		load, lone := e.left(r.speed, now, b.slow(r, active))
		jobs = append(jobs, job{e.runner, load, lone})
	}
	for i := range jobs { // who joined a load waits for it too
		if b.runners[jobs[i].runner].loading {
			jobs[i].load = loadLeft(jobs, jobs[i].runner)
		}
	}
	for t := 0.0; ; {
		at := now.Add(seconds(t))
		ask := func() {
			claim := b.claim(at)
			newcomers = slices.DeleteFunc(newcomers, func(e *Entry) bool {
				if b.behind(e) || b.hold(e, at) != free || b.barred(e, claim) && b.barred(e, b.claimWith(e, at)) {
					return false
				}
				o.newcomers[e.runner] = seconds(t)
				return true
			})
		}
		for e := b.next(at); e != nil; e = b.next(at) {
			if e.Batch { // a newcomer would be before it
				ask()
			}
			r := b.runners[e.runner]
			j := job{runner: e.runner, lone: r.speed.lone(e.Work)}
			if b.start(e, at) {
				j.load = r.speed.Cold
			} else if r.loading {
				j.load = loadLeft(jobs, e.runner)
			}
			jobs = append(jobs, j)
			o.starts[e] = seconds(t)
		}
		o.end = seconds(t)
		ask()
		if len(jobs) == 0 || len(b.line) == 0 && len(newcomers) == 0 {
			break
		}
		t += b.step(&jobs, at)
	}
	for _, e := range newcomers {
		o.newcomers[e.runner] = o.end
	}
	return o
}

// loadLeft is the load that the runner's requests still wait for.
func loadLeft(jobs []job, id string) (load float64) {
	for _, j := range jobs {
		if j.runner == id {
			load = max(load, j.load)
		}
	}
	return load
}

// Starts forecasts, for each of the models, how long a new interactive request
// of it would wait for its start, its own cold load not counted.
func (a *Admission) Starts(now time.Time, keys []string) map[string]time.Duration {
	newcomers := make([]*Entry, 0, len(keys))
	runners := make(map[string]string, len(keys))
	for _, key := range keys {
		r := a.runnerFor(Work{Key: key})
		runners[key] = r.id
		if slices.ContainsFunc(newcomers, func(e *Entry) bool { return e.runner == r.id }) {
			continue
		}
		e := &Entry{Work: Work{Key: key}, runner: r.id, arrived: now, patience: r.patience()}
		if m := a.state.Model(key); m != nil && m.Size > 0 {
			e.footprint = m.Need(0, r.slots).Total()
		}
		newcomers = append(newcomers, e)
	}
	o := a.forecast(now, newcomers)
	starts := make(map[string]time.Duration, len(keys))
	for key, id := range runners {
		starts[key] = o.newcomers[id]
		a.drop(id, time.Time{}) // made for the question
	}
	return starts
}

// Waiting lists who waits, in order, with the start that each may expect.
func (a *Admission) Waiting(now time.Time) []Ticket {
	o := a.forecast(now, nil)
	tickets := make([]Ticket, len(a.line))
	for i, e := range a.line {
		tickets[i] = Ticket{
			ID: e.ID, Key: e.Key, Client: e.Client, Batch: e.Batch,
			Since: e.arrived, Position: i + 1, Start: o.start(e),
		}
	}
	return tickets
}

// behind reports whether interactive requests for the same runner wait.
func (b *board) behind(e *Entry) bool {
	return slices.ContainsFunc(b.line, func(x *Entry) bool { return !x.Batch && x.runner == e.runner })
}

// active lists the runners that have the device busy.
func (b *board) active() (ids []string) {
	for id, r := range b.runners {
		if r.running > 0 {
			ids = append(ids, id)
		}
	}
	return ids
}

// slow is how much longer than alone the runner's requests take now.
func (b *board) slow(r *runner, active int) float64 {
	return (1 + r.speed.Slope*float64(max(r.running, 1)-1)) * float64(max(active, 1))
}

// step goes on to the next end of a load or a request, and returns the seconds
// until then.
func (b *board) step(jobs *[]job, at time.Time) float64 {
	active := len(b.active())
	next := math.Inf(1)
	for _, j := range *jobs {
		if j.load > 0 {
			next = min(next, j.load)
		} else {
			next = min(next, j.lone*b.slow(b.runners[j.runner], active))
		}
	}
	rest := (*jobs)[:0]
	var ended []string
	for _, j := range *jobs {
		r := b.runners[j.runner]
		if j.load > 0 {
			if j.load -= next; j.load <= tiny {
				j.load, r.loading, r.resident = 0, false, true
			}
		} else if j.lone -= next / b.slow(r, active); j.lone <= tiny {
			ended = append(ended, j.runner)
			continue
		}
		rest = append(rest, j)
	}
	*jobs = rest
	for _, id := range ended {
		r := b.runners[id]
		r.count(at, -1)
		r.loading, r.resident = false, true
	}
	return next
}

// tiny is where rounding ends a job, seconds.
const tiny = 1e-9
