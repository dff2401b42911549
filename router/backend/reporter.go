package backend

import (
	"context"
	"reflect"
	"sync"
	"time"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh/hardware"
)

// Publisher takes what a node says of itself; *mesh.Mesh is one. It keeps what
// it is given and must not change it.
type Publisher interface {
	Announce(mesh.Card)
	Publish(mesh.Load)
}

// How often a [Reporter] speaks. Changes within coalesce of each other are one
// report; without change the Load is repeated every beat, because free memory
// and the expected starts move by themselves. How often reports travel is the
// mesh's own decision.
const (
	coalesce     = 50 * time.Millisecond
	beat         = time.Second
	refreshEvery = 5 * time.Second // free memory: some file reads or an nvidia-smi
)

// ReporterConfig makes a Reporter.
type ReporterConfig struct {
	Node        mesh.NodeID
	Incarnation uint64 // start of the process, Unix ns; grows with every start
	State       func() *State
	Occupancy   func(keys []string) Occupancy
	Speed       func(digest string) Speed
}

// Refresher reads the free numbers of an inventory anew; a nil one leaves them.
type Refresher func(context.Context, hardware.Inventory) hardware.Inventory

// Reporter says what this node can do and how busy it is.
type Reporter struct {
	config ReporterConfig
	signal chan struct{} // 1 deep

	mu           sync.Mutex
	seq          uint64
	hardware     hardware.Inventory
	held         Held
	peak         uint64
	seen         *State // the state that foreign use was last looked for in
	foreignUntil time.Time
	last         *mesh.Load // what Load handed out last, for loadLife
	lastAt       time.Time
}

// NewReporter makes a Reporter; it starts nothing.
func NewReporter(c ReporterConfig) *Reporter {
	return &Reporter{config: c, signal: make(chan struct{}, 1), seen: &State{}}
}

// Changed says that something worth a report happened. It never blocks.
func (r *Reporter) Changed() {
	r.mu.Lock()
	r.last = nil
	r.mu.Unlock()
	select {
	case r.signal <- struct{}{}:
	default:
	}
}

// Saw looks for foreign use in a newer state.
func (r *Reporter) Saw(s *State) {
	keys := make([]string, len(s.Resident))
	for i := range s.Resident {
		keys[i] = s.Resident[i].Key
	}
	now := time.Now()
	o := r.config.Occupancy(keys)
	r.mu.Lock()
	if foreign(r.seen, s, func(key string) time.Time {
		if o.Models[key].Running > 0 {
			return now
		}
		return o.Models[key].Touched
	}) {
		r.foreignUntil = now.Add(foreignFor)
	}
	r.seen = s
	r.peak = max(r.peak, HeldBy(s.Resident).VRAM)
	r.mu.Unlock()
	r.Changed()
}

// loadLife is how long a Load is handed out again when nothing changed.
const loadLife = 20 * time.Millisecond

// Load is this node's own load as of now, with a Seq of its own. It belongs to
// everybody.
func (r *Reporter) Load() *mesh.Load {
	now := time.Now()
	r.mu.Lock()
	if r.last != nil && now.Sub(r.lastAt) < loadLife {
		defer r.mu.Unlock()
		return r.last
	}
	r.mu.Unlock()
	_, load := r.report(now)
	return load
}

// report gathers the facts. The number is drawn before, under one lock with
// them, so that a higher Seq never carries older facts.
func (r *Reporter) report(now time.Time) (mesh.Card, *mesh.Load) {
	r.mu.Lock()
	defer r.mu.Unlock()
	state := r.config.State()
	card, load := Report(Facts{
		State: state, Gate: r.config.Occupancy(Reported(state, r.config.Speed)),
		Hardware: r.hardware, Held: r.held, Peak: r.peak, Speed: r.config.Speed,
		Foreign: now.Before(r.foreignUntil),
	})
	r.seq++
	load.Node, load.Incarnation, load.Seq = r.config.Node, r.config.Incarnation, r.seq
	r.last, r.lastAt = &load, now
	return card, &load
}

// Hardware is the inventory with the newest free numbers.
func (r *Reporter) Hardware() hardware.Inventory {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := HeldBy(r.config.State().Resident)
	return correct(r.hardware, r.held, now).Learn(now.VRAM, r.peak)
}

// Run publishes to p (nil: to nobody) until ctx ends and then returns nil. hw is
// what the machine has.
func (r *Reporter) Run(ctx context.Context, p Publisher, hw hardware.Inventory, refresh Refresher) error {
	r.mu.Lock()
	r.hardware = hw
	r.held = HeldBy(r.config.State().Resident)
	r.mu.Unlock()
	var wg sync.WaitGroup
	defer wg.Wait()
	if refresh != nil {
		wg.Go(func() { r.refresh(ctx, refresh) })
	}

	timer := time.NewTimer(0)
	defer timer.Stop()
	var announced mesh.Card
	first := true
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-r.signal:
			// Whatever else happens within the next moment goes along.
			timer.Reset(coalesce)
			select {
			case <-ctx.Done():
				return nil
			case <-timer.C:
			}
			select {
			case <-r.signal:
			default:
			}
		case <-timer.C:
		}
		card, load := r.report(time.Now())
		if p != nil {
			if first || !sameCard(card, announced) {
				p.Announce(card)
				announced, first = card, false
			}
			p.Publish(*load)
		}
		timer.Reset(beat)
	}
}

// refresh keeps the free numbers fresh. It has a goroutine of its own because a
// hung driver can hold a reading for seconds.
func (r *Reporter) refresh(ctx context.Context, read Refresher) {
	ticker := time.NewTicker(refreshEvery)
	defer ticker.Stop()
	for {
		r.mu.Lock()
		inv := r.hardware
		r.mu.Unlock()
		held := HeldBy(r.config.State().Resident)
		inv = read(ctx, inv)
		if ctx.Err() != nil {
			return
		}
		r.mu.Lock()
		r.hardware, r.held = inv, held
		r.mu.Unlock()
		r.Changed()
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// sameCard compares cards; catalogs that are one slice need no deep look.
func sameCard(a, b mesh.Card) bool {
	if len(a.Catalog) != len(b.Catalog) || len(a.Catalog) > 0 && &a.Catalog[0] != &b.Catalog[0] && !reflect.DeepEqual(a.Catalog, b.Catalog) {
		return false
	}
	a.Catalog, b.Catalog = nil, nil
	return reflect.DeepEqual(a, b)
}
