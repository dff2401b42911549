package scale

import (
	"context"
	"fmt"
	"runtime/pprof"
	"slices"
	"sync"
	"time"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh"
)

// calming is how long the news of a join, and what those who joined repeat, keep a
// mesh busy.
const calming = 6 * time.Second

// quiet measures a window in which nothing happens: every member states its
// load once a second, as a node's reporter does, and it changes in nothing that
// would send it out at once. FreeDisk carries when it was stated.
func (c *crowd) quiet(ctx context.Context, r *Result) error {
	window, stop := context.WithTimeout(ctx, c.Window)
	defer stop()
	began := time.Now()
	if c.Profile != nil {
		if err := pprof.StartCPUProfile(c.Profile); err != nil {
			return err
		}
		defer pprof.StopCPUProfile()
	}
	before, cpu := c.traffic(), processCPU()
	every := time.Second * time.Duration(c.Slow)
	var wg sync.WaitGroup
	for i, m := range c.members {
		wg.Go(func() {
			phase := time.NewTimer(every * time.Duration(i) / time.Duration(len(c.members)))
			defer phase.Stop()
			for {
				select {
				case <-window.Done():
					return
				case <-phase.C:
				}
				m.mesh.Publish(mesh.Load{Up: true, FreeDisk: uint64(time.Since(began)) + 1})
				phase.Reset(every)
			}
		})
	}
	ages := c.ages(window, began)
	wg.Wait()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	real := time.Since(began)
	took := c.told(real).Seconds()
	after, n := c.traffic(), float64(len(c.members))
	r.Datagrams = float64(after.Datagrams-before.Datagrams) / took / n
	r.Bytes = float64(after.Bytes-before.Bytes) / took / n
	r.Streamed = float64(after.Streamed-before.Streamed) / took / n
	used := (processCPU() - cpu).Seconds()
	r.CPU, r.Busy = used/took/n, used/real.Seconds()/cores()
	if len(ages) == 0 {
		return fmt.Errorf("scale: nobody heard of a load within %s", c.Window)
	}
	slices.Sort(ages)
	r.Stale50, r.Stale99 = c.told(ages[len(ages)/2]), c.told(ages[len(ages)*99/100])
	return nil
}

// ages looks, in the second half of the window, at what random members know of
// random others, and returns how old it is. Who is not known at all counts with
// the whole time.
func (c *crowd) ages(ctx context.Context, began time.Time) (ages []time.Duration) {
	warm := time.NewTimer(c.Window / 2)
	defer warm.Stop()
	select {
	case <-ctx.Done():
		return nil
	case <-warm.C:
	}
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return ages
		case <-tick.C:
		}
		for range 10 {
			a, b := c.random.IntN(len(c.members)), c.random.IntN(len(c.members))
			if a == b {
				continue
			}
			now := time.Since(began)
			var stated time.Duration
			if m, ok := c.members[a].mesh.View().Member(c.members[b].id.ID()); ok && m.Load != nil {
				stated = time.Duration(m.Load.FreeDisk)
			}
			ages = append(ages, now-stated)
		}
	}
}

func (c *crowd) traffic() (sum mesh.Traffic) {
	for _, m := range c.members {
		t := m.mesh.Traffic()
		sum.Datagrams += t.Datagrams
		sum.Bytes += t.Bytes
		sum.Streamed += t.Streamed
	}
	return sum
}

// deaths kills 30 % at once, as a power cut would, and then starts them again.
// The first member stays: the others join it.
func (c *crowd) deaths(ctx context.Context, r *Result) error {
	victims := slices.Clone(c.members[1:])
	c.random.Shuffle(len(victims), func(i, j int) { victims[i], victims[j] = victims[j], victims[i] })
	victims = victims[:len(c.members)*3/10]
	r.Died = len(victims)
	dead := make(map[mesh.NodeID]bool)
	start := time.Now()
	var wg sync.WaitGroup
	for _, m := range victims {
		dead[m.id.ID()] = true
		wg.Go(m.kill)
	}
	wg.Wait()
	var survivors []*member
	for _, m := range c.members {
		if m.runs() {
			survivors = append(survivors, m)
		}
	}
	accused := make(map[mesh.NodeID]bool)
	behind := slices.Clone(survivors)
	err := c.until(ctx, "all survivors see the dead", func() bool {
		for _, m := range survivors {
			for _, o := range m.mesh.View().Members() {
				if o.Status == mesh.Failed && !dead[o.ID] {
					accused[o.ID] = true
				}
			}
		}
		behind = slices.DeleteFunc(behind, func(m *member) bool {
			seen := 0
			for _, o := range m.mesh.View().Members() {
				if dead[o.ID] && o.Status != mesh.Alive {
					seen++
				}
			}
			return seen == len(dead)
		})
		return len(behind) == 0
	})
	r.Seen, r.FalseDeath = c.told(time.Since(start)), len(accused)
	if err != nil {
		return err
	}
	c.Say("%d of %d died at once: all others knew within %s, %d alive ones were accused", len(dead), len(c.members), r.Seen.Round(time.Millisecond), r.FalseDeath)
	start, err = c.begin(ctx, victims, 0)
	if err != nil {
		return err
	}
	r.Returned, err = c.settled(ctx, start, "everybody sees everybody again")
	return err
}
