package sim

import (
	"math"
	"time"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/backend"
)

// node is a machine of the mesh: the real admission, rates and report in front
// of a simulated Ollama. Rules without a mesh use the Ollama alone.
type node struct {
	s     *Sim
	index int
	id    mesh.NodeID
	kind  *Kind
	dev   *device
	speed []Rate    // true, this machine's
	error []float64 // what the figures that the node gets are wrong by

	up    bool
	since float64
	wake  int // version of the planned wake-up

	gate        *backend.Admission
	rates       *backend.Rates
	state       *backend.State
	seq         uint64
	incarnation uint64
	reports     []report // sent, the newest last; at most keptReports
	sent        int      // how many in all
	fresh       *mesh.Load
	freshAt     float64
	dirty       bool // something happened since fresh

	tickets   []backend.Ticket // who waits, as of ticketsAt
	ticketsAt float64
}

// report is a statement on its way to the others.
type report struct {
	at   float64
	load *mesh.Load
}

const keptReports = 64

// ticket is a request at a gate or in its Ollama.
type ticket struct {
	r     *request
	entry *backend.Entry
	job   *job
	said  int // pieces told to the gate
}

func (s *Sim) newNode(i int, k *Kind) *node {
	n := &node{s: s, index: i, id: nodeID(i), kind: k}
	n.speed = make([]Rate, len(s.Fleet.Models))
	n.error = make([]float64, len(s.Fleet.Models))
	for m := range n.speed {
		n.speed[m], n.error[m] = k.rates[m], 1
		if s.WrongSpeeds > 0 {
			n.error[m] = 1 + s.WrongSpeeds*(2*s.random.Float64()-1)
		}
	}
	n.boot()
	return n
}

// boot starts the machine anew: nothing is in memory. What it has measured
// before is on its disk.
func (n *node) boot() {
	n.up, n.since = true, n.s.now
	n.incarnation++
	n.dev = newDevice(n.kind, n.speed, len(n.s.Fleet.Models))
	n.dev.first, n.dev.finish = n.began, n.ended
	if n.rates == nil {
		n.rates = backend.NewRates()
	}
	n.gate = backend.NewAdmission(backend.Limits{
		Parallel: n.kind.Slots, MaxLoaded: n.kind.MaxLoaded, Memory: n.kind.memory, Queue: 1 << 20, Speed: n.gateSpeed,
	})
	n.state = nil
	n.look()
}

// Speeds as the node knows them.

func (n *node) gateSpeed(_ string, m *mesh.Model) backend.Speed {
	if m == nil {
		return backend.Speed{}
	}
	v := n.known(m.Key)
	if v.Samples >= backend.TrustedSamples {
		return v
	}
	f := n.s.guess(n.kind, m.Key)
	return v.Blend(f.decode, f.prefill)
}

func (n *node) known(key string) backend.Speed {
	if n.s.Rule.Perfect || n.s.WrongSpeeds > 0 {
		m := n.s.models[key]
		v := n.speed[m]
		s := backend.Speed{
			Decode: v.Decode * n.error[m], Prefill: v.Prefill * n.error[m], Slope: v.Slope, Cold: v.Cold,
			Output: n.s.Fleet.Models[m].Output, Samples: 100,
		}
		if n.s.NoLengths {
			s.Output = 0
		}
		return s
	}
	s := n.rates.Speed(key)
	if n.s.NoLengths {
		s.Output = 0
	}
	return s
}

// look is the watcher's look at /api/ps.
func (n *node) look() {
	s := &backend.State{Up: true, Version: "0.33.0", Listed: true, Catalog: n.kind.card.Catalog, Polled: moment(n.s.now)}
	for m := range n.dev.runners {
		r := &n.dev.runners[m]
		if !r.in {
			continue
		}
		x := backend.Resident{
			Key: n.s.Fleet.Models[m].Key, Digest: n.s.Fleet.Models[m].Key, Size: n.kind.footprint[m], Context: 4096,
			Expires: moment(r.touched + keepAlive),
		}
		if n.kind.Hardware.VRAM.N > 0 {
			x.SizeVRAM = min(x.Size, n.kind.memory)
		}
		s.Resident = append(s.Resident, x)
	}
	n.state = s
	n.gate.Observe(moment(n.s.now), s)
}

// catchUp brings the machine, and what its gate knows of it, up to now.
func (n *node) catchUp() {
	n.dev.advance(n.s.now)
	now := moment(n.s.now)
	n.dev.each(func(j *job) {
		if t, ok := j.owner.(*ticket); ok && t.entry != nil && int(j.written) > t.said {
			t.said = int(j.written)
			n.gate.Progress(now, t.entry, t.said)
		}
	})
}

// plan wakes the node when something happens on it by itself.
func (n *node) plan() {
	n.wake++
	version := n.wake
	if t := n.dev.next(); !math.IsInf(t, 1) {
		n.s.at(t, func() {
			if n.wake == version && n.up {
				n.dev.advance(n.s.now)
				n.settle()
			}
		})
	}
}

// enter hands a request to the gate: nil, it runs or waits there; otherwise
// nothing was done.
func (n *node) enter(r *request, promise time.Duration, slow float64) *backend.Refused {
	n.catchUp()
	n.dirty = true
	e := n.gate.Enter(moment(n.s.now), backend.Work{
		ID: r.id, Key: r.key, PromptTokens: int(r.prompt), Client: r.client, Promise: promise, Slow: slow,
	})
	if e.Refused() == nil {
		t := &ticket{r: r, entry: e}
		n.s.waiting++
		r.ticket = t
		n.s.tickets[e] = t
	}
	n.settle()
	return e.Refused()
}

// settle starts what the gate lets in.
func (n *node) settle() {
	for {
		decided := n.gate.Settle(moment(n.s.now))
		if len(decided) == 0 {
			break
		}
		n.dirty = true
		for _, e := range decided {
			t := n.s.tickets[e]
			if t == nil {
				continue // refused on entry
			}
			if e.Refused() != nil {
				delete(n.s.tickets, e)
				n.s.waiting--
				n.s.expelled(t.r)
				continue
			}
			n.s.waiting--
			t.job = t.r.job()
			t.job.owner = t
			n.dev.submit(t.job)
		}
	}
	n.plan()
}

// leave takes a request out of the gate and the machine.
func (n *node) leave(t *ticket) {
	n.catchUp()
	n.dirty = true
	n.gate.Leave(moment(n.s.now), t.entry, false)
	delete(n.s.tickets, t.entry)
	if t.job != nil {
		n.dev.remove(t.job)
	} else {
		n.s.waiting--
	}
	n.settle()
}

// began is told when a prompt has been read.
func (n *node) began(j *job) {
	t, ok := j.owner.(*ticket)
	if !ok {
		j.owner.(*request).first = n.dev.now
		return
	}
	n.dirty = true
	t.r.began(n.dev.now)
	if t.said == 0 {
		t.said = 1
		n.gate.Progress(moment(n.dev.now), t.entry, 1)
	}
}

// ended is told when an answer is whole.
func (n *node) ended(j *job) {
	t, ok := j.owner.(*ticket)
	if !ok {
		n.s.finish(j.owner.(*request), n.dev.now)
		return
	}
	n.dirty = true
	now := moment(n.dev.now)
	n.gate.Progress(now, t.entry, int(j.output))
	together, others := n.gate.Leave(now, t.entry, true)
	delete(n.s.tickets, t.entry)
	n.rates.Observe(t.r.key, backend.Sample{
		PromptTokens: int(j.prompt), PromptTime: span(j.readEnd - max(j.began, j.began+j.loaded)),
		OutputTokens: int(j.output), OutputTime: span(n.dev.now - j.readEnd),
		LoadTime: span(j.loaded), Cold: t.entry.Cold(), Together: together, Others: others,
	}, now)
	t.r.answered(n.dev.now)
}

func span(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

// load is the node's statement, anew if anything happened since the last one.
func (n *node) load() *mesh.Load {
	if n.fresh != nil && !n.dirty && n.s.now-n.freshAt < 0.5 {
		return n.fresh
	}
	return n.restate()
}

func (n *node) restate() *mesh.Load {
	n.catchUp()
	if n.dirty || n.s.now-n.freshAt >= 1 || n.fresh == nil {
		n.look()
	}
	_, l := backend.Report(backend.Facts{
		State: n.state, Gate: n.gate.Occupancy(moment(n.s.now), backend.Reported(n.state, n.known)), Hardware: n.kind.Hardware,
		Speed: n.known,
	})
	n.seq++
	l.Node, l.Incarnation, l.Seq = n.id, n.incarnation, n.seq
	n.fresh, n.freshAt, n.dirty = overTheWire(&l, n.s.now), n.s.now, false
	n.settle() // a look may have let somebody in
	return n.fresh
}

// overTheWire is what a reader makes of a report.
func overTheWire(l *mesh.Load, now float64) *mesh.Load {
	b, err := mesh.EncodeLoad(l, moment(now), mesh.LoadDatagram)
	if err != nil {
		panic(err) // a bug of the simulator: its ids are valid
	}
	out, err := mesh.DecodeLoad(b, moment(now))
	if err != nil {
		panic(err)
	}
	return out
}

// publish sends a report to all others, as every period.
func (n *node) publish() {
	if n.up && n.s.heeded() {
		l := n.fresh
		if l == nil || n.dirty || l.Running+l.Waiting > 0 || n.s.now-n.freshAt > 10 {
			l = n.restate()
		}
		if len(n.reports) == keptReports {
			n.reports = append(n.reports[:0], n.reports[keptReports/2:]...)
		}
		n.reports = append(n.reports, report{n.s.now, l})
		n.sent++
	}
	n.s.after(n.s.Gossip*(0.9+0.2*n.s.random.Float64()), n.publish)
}

// die ends the machine with all that runs on it.
func (n *node) die() {
	n.dev.advance(n.s.now)
	n.up, n.since = false, n.s.now
	n.wake++
	var lost []*request
	for e, t := range n.s.tickets {
		if t.r.at == n {
			delete(n.s.tickets, e)
			if t.job == nil {
				n.s.waiting--
			}
			lost = append(lost, t.r)
		}
	}
	n.s.bereave(n, lost)
}
