// Package scale measures meshes of many members: real membership over real
// sockets on loopback, all in this process, without Ollamas and requests.
// `make scale` prints the table.
//
// All nodes share this machine's cores, so what a node costs is exact and how
// long things take is an upper bound: when Busy is near 1, the machine and not
// the mesh is what is slow.
package scale

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh/identity"
)

// Result is one row of the table. Rates are per node and second.
type Result struct {
	Members    int           `json:"members"`
	Joined     time.Duration `json:"joined_ns"`  // all at once, until everybody sees everybody
	Stale50    time.Duration `json:"stale50_ns"` // age of what a member knows of another's load
	Stale99    time.Duration `json:"stale99_ns"`
	Datagrams  float64       `json:"datagrams"` // sent
	Bytes      float64       `json:"bytes"`     // in them
	Streamed   float64       `json:"streamed"`  // bytes over TCP
	Memory     uint64        `json:"memory"`    // bytes, heap and stacks
	Died       int           `json:"died"`      // members, at once
	Seen       time.Duration `json:"seen_ns"`   // until all others saw it of all of them
	FalseDeath int           `json:"false_deaths"`
	Returned   time.Duration `json:"returned_ns"` // those started again at once, until everybody sees everybody
	Busy       float64       `json:"busy"`        // share of the cores that this process used in the quiet window
}

// Options of a run.
type Options struct {
	Window time.Duration // of steady traffic; default 20 s
	Limit  time.Duration // for every step; default 2 min
	Seed   uint64
	Say    func(format string, args ...any) // nil: silent
}

// member is one node.
type member struct {
	id     *identity.Identity
	mesh   *mesh.Mesh
	cancel context.CancelFunc
	done   chan struct{}
}

// crowd is the nodes of one run.
type crowd struct {
	Options
	members []*member
	random  *rand.Rand
}

// Run measures a mesh of n members.
func Run(ctx context.Context, n int, o Options) (Result, error) {
	if o.Window == 0 {
		o.Window = 20 * time.Second
	}
	if o.Limit == 0 {
		o.Limit = 2 * time.Minute
	}
	if o.Say == nil {
		o.Say = func(string, ...any) {}
	}
	if n < 4 {
		return Result{}, errors.New("scale: a mesh to measure has at least 4 members")
	}
	c := &crowd{Options: o, random: rand.New(rand.NewPCG(o.Seed, uint64(n)))}
	defer c.close()
	r := Result{Members: n}
	base := memory()
	start := time.Now()
	for range n {
		id, err := identity.New()
		if err != nil {
			return r, err
		}
		c.members = append(c.members, &member{id: id})
	}
	if err := c.begin(ctx, c.members); err != nil {
		return r, err
	}
	var err error
	if r.Joined, err = c.settled(ctx, start, "everybody sees everybody"); err != nil {
		return r, err
	}
	o.Say("%d members joined within %s", n, r.Joined.Round(time.Millisecond))
	if err := c.quiet(ctx, &r); err != nil {
		return r, err
	}
	r.Memory = (memory() - min(base, memory())) / uint64(n)
	o.Say("%d members: load known %s late (p50), %s (p99); %.0f datagrams, %.1f kB a second and node",
		n, r.Stale50.Round(time.Millisecond), r.Stale99.Round(time.Millisecond), r.Datagrams, (r.Bytes+r.Streamed)/1000)
	return r, c.deaths(ctx, &r)
}

// begin starts members and joins them all at once to the first that runs.
func (c *crowd) begin(ctx context.Context, list []*member) error {
	for _, m := range list {
		if err := m.start(); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, c.Limit)
	defer cancel()
	var wg sync.WaitGroup
	errs := make(chan error, len(list))
	room := make(chan struct{}, 32)
	first := c.members[0]
	for _, m := range list {
		if m == first {
			continue
		}
		wg.Go(func() {
			room <- struct{}{}
			defer func() { <-room }()
			again := time.NewTimer(0)
			defer again.Stop()
			for {
				<-again.C
				n, err := m.mesh.Join(ctx, first.mesh.Addr().String())
				if n > 0 {
					return
				}
				if ctx.Err() != nil {
					errs <- fmt.Errorf("scale: join: %w", err)
					return
				}
				again.Reset(100 * time.Millisecond)
			}
		})
	}
	wg.Wait()
	c.Say("%d have reached the first", len(list))
	select {
	case err := <-errs:
		return err
	default:
		return nil
	}
}

func (m *member) start() error {
	cfg := mesh.DefaultConfig()
	cfg.Identity, cfg.Cluster = m.id, "scale"
	cfg.Bind = netip.MustParseAddrPort("127.0.0.1:0")
	cfg.Info.Hostname = m.id.ID().Short()
	made, err := mesh.New(cfg)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	m.mesh, m.cancel, m.done = made, cancel, make(chan struct{})
	go func() {
		defer close(m.done)
		_ = made.Run(ctx) // ends with cancel
	}()
	return nil
}

func (m *member) kill() {
	if m.cancel != nil {
		m.cancel()
		<-m.done
		m.cancel = nil
	}
}

func (m *member) runs() bool { return m.cancel != nil }

func (c *crowd) close() {
	var wg sync.WaitGroup
	for _, m := range c.members {
		wg.Go(m.kill)
	}
	wg.Wait()
}

// settled waits until every running member sees exactly the running ones alive.
func (c *crowd) settled(ctx context.Context, start time.Time, what string) (time.Duration, error) {
	running := 0
	for _, m := range c.members {
		if m.runs() {
			running++
		}
	}
	behind := slices.DeleteFunc(slices.Clone(c.members), func(m *member) bool { return !m.runs() })
	err := c.until(ctx, what, func() bool {
		behind = slices.DeleteFunc(behind, func(m *member) bool { return alive(m.mesh.View()) == running })
		return len(behind) == 0
	})
	return time.Since(start), err
}

func alive(v *mesh.View) (n int) {
	for _, m := range v.Members() {
		if m.Status == mesh.Alive {
			n++
		}
	}
	return n
}

// until polls ok.
func (c *crowd) until(ctx context.Context, what string, ok func() bool) error {
	ctx, cancel := context.WithTimeout(ctx, c.Limit)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-ctx.Done():
			return fmt.Errorf("scale: not within %s: %s: %w", c.Limit, what, ctx.Err())
		case <-tick.C:
		}
	}
	return nil
}

// memory is the heap in use and the stacks, bytes.
func memory() uint64 {
	runtime.GC()
	var s runtime.MemStats
	runtime.ReadMemStats(&s)
	return s.HeapAlloc + s.StackInuse
}
