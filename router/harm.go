package router

import (
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/backend"
)

// residual is how much of an average answer a running request still has to
// write, on average, whenever one looks: answer lengths are about log-normal,
// where what is left hardly shrinks while it is written.
const residual = 0.8

// neighbours are the other models of a member: what shares the device with the
// request, and what would have to make room for it.
type neighbours struct {
	active  float64 // models that compute: each gets an equal share of the device
	working float64 // their requests, running and waiting, each as pressing as it is
	left    float64 // seconds that one of those running still takes, the mean
	drain   float64 // seconds until the last of them is done
	wanting float64 // requests that wait for a model that is not in memory, likewise

	idle   float64 // bytes of models in memory that nobody uses
	idles  [maxIdle]*mesh.ModelLoad
	n      int     // of idles
	spare  float64 // bytes free
	known  bool    // spare is
	others bool    // something is in memory
}

// look reads the member's report; own is the line of the request's own model.
func (n *neighbours) look(m *mesh.Member, own *mesh.ModelLoad) {
	l := m.Load
	if l == nil {
		return
	}
	var running float64
	for i := range l.Models {
		x := &l.Models[i]
		if x == own {
			continue
		}
		switch {
		case x.Running > 0:
			n.active++
			n.others = true
			left := rest(x)
			n.working += float64(x.Running+x.Waiting) * backend.Pressing(x.Start+left/residual)
			n.left += float64(x.Running) * left
			running += float64(x.Running)
			n.drain = max(n.drain, left*(1+float64(x.Waiting)/float64(max(1, x.Slots))))
		case x.Resident:
			n.others = true
			n.idle += float64(x.Size)
			n.keep(x)
		case x.Waiting > 0:
			n.wanting += float64(x.Waiting) * backend.Pressing(x.Start+rest(x)/residual)
		}
	}
	if running > 0 {
		n.left /= running
	}
	if l.Foreign { // somebody else's request, of whatever model
		n.active++
		n.working++
	}
	n.spare, n.known = float64(l.FreeVRAM), l.FreeVRAM > 0
	if m.Card.Hardware.VRAM.N == 0 {
		n.spare, n.known = float64(l.FreeRAM), l.FreeRAM > 0
	}
}

// add counts in a request of another model that this router has sent since the
// report: a cold one will take memory, so that two requests from here do not
// both get the last 48 GB.
func (n *neighbours) add(m *mesh.Member, key string) {
	n.working++
	x := m.Load.Model(key)
	if x == nil || x.Running == 0 {
		n.active++
	}
	if x == nil || !x.Resident && !x.Loading {
		if model := m.Card.Catalog.Find(key); model != nil {
			n.spare = max(0, n.spare-fits.of(m, model).need)
			n.others = true
		}
	}
	if x != nil && x.Running == 0 {
		n.left = max(n.left, rest(x))
	}
}

// rest is what a running request of a model still takes on its device, seconds.
func rest(x *mesh.ModelLoad) float64 {
	if x.Decode <= 0 {
		return 0
	}
	output := x.Output
	if output <= 0 {
		output = guessOutput
	}
	return residual * output / x.Decode * (1 + x.Slope*float64(max(0, x.Running-1)))
}

// harm is the seconds that the request costs those who are there already,
// summed over them, each as pressing as it is (see [backend.Pressing]). reading and
// writing are what it takes on a device of its own.
//
// A request that must wait for its slot is charged like one that starts at
// once: it slows the batch it will be in just as much. (Charging only the
// latter makes waiting look better than it is: 4 % worse with 100 nodes.)
func (e *estimator) harm(p *site, start, reading, writing float64) float64 {
	var harm float64
	// Its batch stands still while its prompt is read, and writes slower while
	// it writes.
	if p.company > 0 {
		harm = p.stalled * (reading + residual*writing*p.slope) * backend.Pressing(start+writing*p.models)
	}

	// A model that computes already has its share of the device; only what the
	// request prolongs is taken from the others. One that wakes up takes it all.
	own := reading + writing*p.alone
	if p.models > 1 {
		harm += p.prolongs * min(own, max(p.near.left, own/5))
	}
	if p.blocks {
		harm += e.stay(p, start, own*p.models)
	}
	if p.reload {
		harm += p.cold * (1 + p.running + p.waiting) // loaded back for the others
	}
	if p.lack > 0 {
		harm += e.evict(p, p.cold+reading+writing)
	}
	return harm
}
