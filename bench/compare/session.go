package compare

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"time"
)

// The scenarios, in the order they run in.
const (
	Small    = "small"    // requests per second, latency, CPU of small requests
	Streamed = "streams"  // many paced streams, and one as fast as it goes
	Faults   = "faults"   // dead, dying and returning backends
	Gone     = "gone"     // clients that leave
	Makespan = "makespan" // unequal nodes
)

// Options of a run.
type Options struct {
	Binaries
	Targets   []string      // ways to compare; default all
	Scenarios []string      // default all
	Case      string        // of the streams, only those whose name has this in it
	Repeats   int           // default 5
	Slice     time.Duration // of load, where a scenario has no length of its own; default 2 s
	Quick     bool          // smaller in everything: about two minutes, for a first look
	Seed      uint64
	Notes     string    // for the report: what else the machine did
	Progress  io.Writer // nil: silent
}

func (o *Options) withDefaults() {
	if len(o.Targets) == 0 {
		o.Targets = []string{Direct, Nginx, HAProxy, OneHop, TwoHops, Whole}
	}
	if len(o.Scenarios) == 0 {
		o.Scenarios = []string{Small, Streamed, Faults, Gone, Makespan}
	}
	if o.Repeats == 0 {
		o.Repeats = 5
		if o.Quick {
			o.Repeats = 2
		}
	}
	if o.Slice == 0 {
		o.Slice = 2 * time.Second
		if o.Quick {
			o.Slice = time.Second
		}
	}
	if o.Progress == nil {
		o.Progress = io.Discard
	}
}

// session is a run in progress.
type session struct {
	Options
	results *Results
	random  *rand.Rand
}

// Run measures. It ends early, with what there is, when ctx ends.
func Run(ctx context.Context, o Options) (*Results, error) {
	if err := Supported(); err != nil {
		return nil, err
	}
	o.withDefaults()
	s := &session{
		Options: o, random: rand.New(rand.NewPCG(o.Seed, 7)),
		results: &Results{Machine: machine(), Repeats: o.Repeats, Notes: o.Notes},
	}
	defer func() { s.results.LoadAverage = loadAverage() }()
	for _, scenario := range []struct {
		name string
		run  func(context.Context) error
	}{
		{Small, s.small}, {Streamed, s.streams}, {Faults, s.faults}, {Gone, s.gone}, {Makespan, s.makespan},
	} {
		if !slices.Contains(o.Scenarios, scenario.name) {
			continue
		}
		began := time.Now()
		if err := scenario.run(ctx); err != nil {
			return s.results, fmt.Errorf("compare: %s: %w", scenario.name, err)
		}
		s.say("%s took %s", scenario.name, time.Since(began).Round(time.Second))
	}
	return s.results, nil
}

func (s *session) say(format string, args ...any) { fmt.Fprintf(s.Progress, format+"\n", args...) }

// rig starts fakes and the ways named in front of them; what is not installed
// is left out and said so.
func (s *session) rig(ctx context.Context, fakes []Fake, targets []string) (*Rig, error) {
	r, err := newRig(s.Self, fakes)
	if err != nil {
		return nil, err
	}
	for _, name := range targets {
		err := r.add(ctx, name, s.Binaries)
		if errors.Is(err, errMissing) {
			r.targets = slices.DeleteFunc(r.targets, func(t *target) bool { return t.name == name })
			if missing := name + ": " + err.Error(); !slices.Contains(s.results.Missing, missing) {
				s.results.Missing = append(s.results.Missing, missing)
			}
			continue
		}
		if err != nil {
			r.close()
			return nil, err
		}
	}
	return r, nil
}

// shuffled is the rig's targets in a new order.
func (s *session) shuffled(r *Rig) []*target {
	list := slices.Clone(r.targets)
	s.random.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
	return list
}

// usage is what a slice cost.
type usage struct {
	cpu     time.Duration // of the way's processes
	foreign float64       // share of the machine that others used, 0 to 1
}

// measure runs a slice of load on t and takes what it cost.
func (r *Rig) measure(t *target, load func() *Load) (*Load, usage) {
	everything := make([]*process, 0, len(r.fakes)+len(t.procs))
	for _, f := range r.fakes {
		everything = append(everything, f.process)
	}
	for _, other := range r.targets {
		everything = append(everything, other.procs...)
	}
	self := ownCPU()
	mine, ours, all, start := cpuOf(t.procs), cpuOf(everything), busy(), time.Now()
	l := load()
	took := time.Since(start)
	u := usage{cpu: cpuOf(t.procs) - mine}
	others := busy() - all - (cpuOf(everything) - ours) - (ownCPU() - self)
	u.foreign = max(0, others.Seconds()) / took.Seconds() / cores()
	return l, u
}

func (s *session) add(scenario, case_ string, t *target, repeat int, l *Load, values map[string]float64) {
	sample := Sample{Scenario: scenario, Case: case_, Target: t.name, Repeat: repeat, Values: values}
	if l != nil && len(l.Errors) > 0 {
		sample.Errors = l.Errors
	}
	s.results.Samples = append(s.results.Samples, sample)
}
