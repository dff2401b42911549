package router

import (
	"time"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh/hardware"
)

// residual is how much of an average answer a running request still has to
// write, on average, whenever one looks: answer lengths are about log-normal,
// where what is left hardly shrinks while it is written.
const residual = 0.8

// keepAlive is what Ollama keeps an idle model by default.
const keepAlive = 5 * time.Minute

// besideOthers is the part of the free memory that Ollama lets a model take up
// while others are loaded (server/sched.go of v0.33).
const besideOthers = 0.8

// neighbours are the other models of a member: what shares the device with the
// request, and what would have to make room for it.
type neighbours struct {
	active  float64 // models that compute: each gets an equal share of the device
	working float64 // their requests, running and waiting
	left    float64 // seconds that one of those running still takes, the mean
	drain   float64 // seconds until the last of them is done
	wanting float64 // requests that wait for a model that is not in memory

	idle   float64 // bytes of models in memory that nobody uses
	idles  [maxIdle]idle
	n      int     // of idles
	busy   float64 // seconds that evicting the busy ones would cost
	spare  float64 // bytes free
	known  bool    // spare is
	others bool    // something is in memory
}

// look reads the member's report; own is the line of the request's own model,
// and stay the seconds that it would be in memory for the request, if it is not
// there already.
func (n *neighbours) look(e *estimator, m *mesh.Member, own *mesh.ModelLoad, stay float64) {
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
			n.working += float64(x.Running + x.Waiting)
			left := rest(x)
			n.left += float64(x.Running) * left
			running += float64(x.Running)
			n.drain = max(n.drain, left*(1+float64(x.Waiting)/float64(max(1, x.Slots))))
			n.busy += x.Cold*float64(1+x.Waiting) + missed(stay, x.Rate)
		case x.Resident:
			n.others = true
			n.idle += float64(x.Size)
			n.keep(idle{float64(x.Size), x.Cold*fresh(x.Expires.Sub(e.s.Now)) + missed(stay, x.Rate), x.Expires})
		case x.Waiting > 0:
			n.wanting += float64(x.Waiting)
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

// fresh is how likely an idle model is to be wanted again before Ollama unloads
// it: as much as is left of its keep-alive, since it was used when that began.
func fresh(left time.Duration) float64 {
	return min(1, max(0, float64(left)/float64(keepAlive)))
}

// missed is how long those wait in all who want an evicted model while the one
// that took its place stays: stay*rate of them are to come, at any moment of it.
//
// Without it, a 72B that does three tokens a second on a gaming PC pushes out
// the 32B that everybody else is using, whenever that is idle for a second: in
// simulation of the seed's machines the mean completion time is then 1.7
// times as long.
func missed(stay, rate float64) float64 { return stay * rate * stay / 2 }

// lack is how many bytes must be evicted for the model; above idle, busy models
// are among them.
func (n *neighbours) lack(p *site) float64 {
	if !n.others || !n.known || p.resident || p.loading {
		return 0
	}
	if p.class == hardware.Partial {
		return n.idle + n.active // all that is there, and a busy one counts as more
	}
	return max(0, p.need/besideOthers-n.spare)
}

// harm is the seconds that the request costs those who are there already,
// summed over them. reading and writing are what it takes on a device of its
// own.
//
// A request that must wait for its slot is charged like one that starts at
// once: it slows the batch it will be in just as much. (Charging only the
// latter makes waiting look better than it is: 4 % worse with 100 nodes.)
func (e *estimator) harm(p *site, reading, writing float64) float64 {
	n := &p.near
	sharing := 1 + n.active
	// Its batch stands still while its prompt is read, and writes slower while
	// it writes.
	company := p.company()
	harm := company * sharing * (reading + residual*writing*p.slope)

	// A model that computes already has its share of the device; only what the
	// request prolongs is taken from the others. One that wakes up takes it all.
	own := reading + writing*(1+p.slope*company)
	prolongs := 1 / (1 + p.running + p.waiting + p.unreported)
	if n.active > 0 {
		harm += prolongs * n.working * min(own, max(n.left, own/5))
	}
	// Somebody waits for this model to make room for another.
	if p.resident {
		harm += n.wanting * own * sharing * prolongs
	}
	if p.reload {
		harm += p.cold * (1 + p.running + p.waiting) // loaded back for the others
	}
	return harm + n.evict(p)
}

// idle is a model in memory that nobody uses: bytes, and the seconds that its
// eviction costs those who want it back, on expectation.
type idle struct {
	size, worth float64
	expires     time.Time
}

// maxIdle is how many idle models of one node are told apart.
const maxIdle = 6

// keep notes an idle model; those beyond maxIdle are taken as one.
func (n *neighbours) keep(x idle) {
	if n.n == maxIdle {
		last := &n.idles[maxIdle-1]
		last.size, last.worth = last.size+x.size, last.worth+x.worth
		return
	}
	n.idles[n.n] = x
	n.n++
}

// evict is what those will pay who want back what must go: whole models, the
// longest unused first, as Ollama does it.
func (n *neighbours) evict(p *site) (harm float64) {
	lack := n.lack(p)
	if lack > n.idle {
		harm = n.busy
	}
	idles := n.idles
	for lack > 0 {
		var oldest *idle
		for i := range idles {
			if x := &idles[i]; x.size > 0 && (oldest == nil || x.expires.Before(oldest.expires)) {
				oldest = x
			}
		}
		if oldest == nil {
			break
		}
		harm += oldest.worth
		lack -= oldest.size
		oldest.size = 0
	}
	return harm
}
