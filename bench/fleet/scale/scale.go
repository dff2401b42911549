// Package scale measures meshes of many members: real membership over real
// sockets on loopback, all in this process, without Ollamas and requests.
// `make scale` prints the table.
//
// All nodes share this machine's cores, so what a node costs is exact and how
// long things take is an upper bound: when Busy is near 1, the machine and not
// the mesh is what is slow. A mesh that is too large for the machine is measured in
// slow motion (Options.Slow): every interval of the nodes is so many times longer,
// and what is told is divided by as much, as if there were that many times the cores.
package scale

import (
	"context"
	"errors"
	"fmt"
	"io"
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
	Slow       int           `json:"slow"`        // how many times slower the run was than what is told of it
	Rate       int           `json:"rate"`        // members that joined per second; 0: all at once
	Joined     time.Duration `json:"joined_ns"`   // from the first start (at once) or the last one (by and by) until everybody sees everybody
	JoinCPU    time.Duration `json:"join_cpu_ns"` // per node, until then
	Stale50    time.Duration `json:"stale50_ns"`  // age of what a member knows of another's load
	Stale99    time.Duration `json:"stale99_ns"`
	Datagrams  float64       `json:"datagrams"` // sent
	Bytes      float64       `json:"bytes"`     // in them
	Streamed   float64       `json:"streamed"`  // bytes over TCP
	Memory     uint64        `json:"memory"`    // bytes, heap and stacks
	Died       int           `json:"died"`      // members, at once
	Seen       time.Duration `json:"seen_ns"`   // until all others saw it of all of them
	FalseDeath int           `json:"false_deaths"`
	Returned   time.Duration `json:"returned_ns"` // those started again at once, until everybody sees everybody
	CPU        float64       `json:"cpu"`         // seconds per node and second, in the quiet window
	Busy       float64       `json:"busy"`        // share of the cores that this process used in the quiet window
}

// Options of a run.
type Options struct {
	Rate   int           // members that join per second; 0: all at once
	Slow   int           // every interval is so many times longer, and results are told as if it were not; 0 and 1: none is
	Window time.Duration // of steady traffic; default 20 s
	Limit  time.Duration // for every step; default 2 min
	Seed   uint64
	// Profile takes a CPU profile of the window; nil: none.
	Profile io.Writer
	Say     func(format string, args ...any) // nil: silent
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
	o.Slow = max(o.Slow, 1)
	o.Window *= time.Duration(o.Slow)
	o.Limit *= time.Duration(o.Slow)
	if o.Say == nil {
		o.Say = func(string, ...any) {}
	}
	if n < 4 {
		return Result{}, errors.New("scale: a mesh to measure has at least 4 members")
	}
	c := &crowd{Options: o, random: rand.New(rand.NewPCG(o.Seed, uint64(n)))}
	defer c.close()
	r := Result{Members: n, Rate: o.Rate, Slow: o.Slow}
	base := memory()
	for range n {
		id, err := identity.New()
		if err != nil {
			return r, err
		}
		c.members = append(c.members, &member{id: id})
	}
	cpu := processCPU()
	start, err := c.begin(ctx, c.members, o.Rate)
	if err != nil {
		return r, err
	}
	if r.Joined, err = c.settled(ctx, start, "everybody sees everybody"); err != nil {
		return r, err
	}
	r.JoinCPU = (processCPU() - cpu) / time.Duration(n)
	o.Say("%d members see each other after %s", n, r.Joined.Round(time.Millisecond))
	if err := c.await(ctx, time.Now().Add(calming*time.Duration(c.Slow))); err != nil {
		return r, err
	}
	if err := c.quiet(ctx, &r); err != nil {
		return r, err
	}
	r.Memory = (memory() - min(base, memory())) / uint64(n)
	o.Say("%d members: load known %s late (p50), %s (p99); %.0f datagrams, %.1f kB a second and node",
		n, r.Stale50.Round(time.Millisecond), r.Stale99.Round(time.Millisecond), r.Datagrams, (r.Bytes+r.Streamed)/1000)
	return r, c.deaths(ctx, &r)
}

// told is a time of the run as it would be were it not slowed.
func (c *crowd) told(d time.Duration) time.Duration { return d / time.Duration(c.Slow) }

// begin starts members, rate per second or all at once, each of which joins the
// first that runs. It returns when the first of them was started, or at a rate the
// last, once all have joined.
func (c *crowd) begin(ctx context.Context, list []*member, rate int) (began time.Time, err error) {
	began = time.Now()
	ctx, cancel := context.WithTimeout(ctx, c.Limit+time.Duration(len(list))*c.between(rate))
	defer cancel()
	var wg sync.WaitGroup
	errs := make(chan error, len(list))
	room := make(chan struct{}, 32)
	for i, m := range list {
		if err := c.await(ctx, began.Add(time.Duration(i)*c.between(rate))); err != nil {
			return began, err
		}
		if err := m.start(len(c.members), c.Slow); err != nil {
			return began, err
		}
		if m == c.members[0] {
			continue
		}
		wg.Go(func() {
			room <- struct{}{}
			defer func() { <-room }()
			if err := m.join(ctx, c.members[0].mesh.Addr().String()); err != nil {
				errs <- err
			}
		})
	}
	if rate > 0 {
		began = time.Now()
	}
	wg.Wait()
	c.Say("%d have reached the first", len(list))
	select {
	case err := <-errs:
		return began, err
	default:
		return began, nil
	}
}

// between is the time between two starts.
func (c *crowd) between(rate int) time.Duration {
	if rate == 0 {
		return 0
	}
	return time.Second * time.Duration(c.Slow) / time.Duration(rate)
}

// await waits for a moment.
func (c *crowd) await(ctx context.Context, at time.Time) error {
	t := time.NewTimer(time.Until(at))
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

// join tries until it works, as discovery does.
func (m *member) join(ctx context.Context, addr string) error {
	again := time.NewTimer(0)
	defer again.Stop()
	for {
		<-again.C
		n, err := m.mesh.Join(ctx, addr)
		if n > 0 {
			return nil
		}
		if ctx.Err() != nil {
			return fmt.Errorf("scale: join: %w", err)
		}
		again.Reset(100 * time.Millisecond)
	}
}

// start starts a node that remembers a mesh of the given size.
func (m *member) start(size, slow int) error {
	cfg := mesh.DefaultConfig()
	cfg.Identity, cfg.Cluster = m.id, "scale"
	cfg.Bind = netip.MustParseAddrPort("127.0.0.1:0")
	cfg.Info.Hostname = m.id.ID().Short()
	cfg.Expect = size
	cfg.Profile = cfg.Profile.Slower(slow)
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
	return c.told(time.Since(start)), err
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
