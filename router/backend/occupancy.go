package backend

import (
	"slices"
	"time"
)

// Occupancy is what a gate holds at one moment.
type Occupancy struct {
	Draining         bool
	Parallel         int // slots of an ordinary model
	MaxLoaded        int
	Running, Waiting int
	Written          uint64                    // tokens, or pieces of answers, since the start
	Models           map[string]ModelOccupancy // by canonical name
}

// ModelOccupancy is what a gate holds of one model. Names that share a runner
// share its numbers.
type ModelOccupancy struct {
	Slots, Running, Waiting int
	Loading                 bool
	Start                   time.Duration // until a new interactive request could start
	Rate                    float64       // requests per second of late
	clock                   clock
	Touched                 time.Time // when a request of this node last began or ended; zero never
}

// Occupancy describes the given models, and all that run or wait.
func (g *Gate) Occupancy(keys []string) Occupancy {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.a.Occupancy(time.Now(), keys)
}

// Occupancy describes the given models, and all that run or wait.
func (a *Admission) Occupancy(now time.Time, keys []string) Occupancy {
	keys = slices.Clone(keys)
	for _, list := range [][]*Entry{a.running, a.line} {
		for _, e := range list {
			if !slices.Contains(keys, e.Key) {
				keys = append(keys, e.Key)
			}
		}
	}
	o := Occupancy{
		Draining: a.draining, Parallel: a.parallel(), MaxLoaded: a.given.MaxLoaded,
		Running: len(a.running), Waiting: len(a.line), Written: a.written,
		Models: make(map[string]ModelOccupancy, len(keys)),
	}
	starts := a.Starts(now, keys)
	for _, key := range keys {
		id := a.idOf(key)
		m := ModelOccupancy{Slots: a.state.Slots(key, o.Parallel), Start: starts[key], clock: a.clocks[id]}
		if r := a.runners[id]; r != nil {
			m.Slots, m.Running, m.Touched = r.slots, r.running, r.touched
			m.Loading, m.Rate = r.loading, r.rateAt(now)
		}
		for _, e := range a.line {
			if e.runner == id {
				m.Waiting++
			}
		}
		o.Models[key] = m
	}
	return o
}
