package router

import (
	"math"
	"time"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh/hardware"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/backend"
)

// keepAlive is what Ollama keeps an idle model by default.
const keepAlive = 5 * time.Minute

// besideOthers is the part of the free memory that Ollama lets a model take up
// while others are loaded (server/sched.go of v0.33).
const besideOthers = 0.8

// maxIdle is how many idle models of one node are told apart.
const maxIdle = 6

// keep notes an idle model.
func (n *neighbours) keep(x *mesh.ModelLoad) {
	if n.n < maxIdle {
		n.idles[n.n] = x
		n.n++
	}
}

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

// fresh is how likely an idle model is to be wanted again before Ollama unloads
// it: as much as is left of its keep-alive, since it was used when that began.
func fresh(left time.Duration) float64 {
	return min(1, max(0, float64(left)/float64(keepAlive)))
}

// evict is what those will pay who want back what must go: whole models, the
// longest unused first, as Ollama does it. The newcomer is in memory for stay
// seconds.
func (e *estimator) evict(p *site, stay float64) (harm float64) {
	n := &p.near
	if p.crowded { // busy ones go, too, once they are done
		l := p.member.Load
		for i := range l.Models {
			if x := &l.Models[i]; x.Running > 0 && x.Key != e.q.Key {
				harm += x.Cold*float64(1+x.Waiting) + e.missed(x, p.member, stay)
			}
		}
	}
	idles := n.idles
	for lack := p.lack; lack > 0; {
		oldest := -1
		for i := range n.n {
			if idles[i] != nil && (oldest < 0 || idles[i].Expires.Before(idles[oldest].Expires)) {
				oldest = i
			}
		}
		if oldest < 0 {
			break
		}
		x := idles[oldest]
		harm += x.Cold*fresh(x.Expires.Sub(e.s.Now)) + e.missed(x, p.member, stay)
		lack -= float64(x.Size)
		idles[oldest] = nil
	}
	return harm
}

// missed is what those lose in all who want x on m while another model is in
// its place for stay seconds: rate*stay of them come, at any moment of it, and
// each waits for its end or takes the next best node, whichever costs less.
//
// Without it, a 72B that does three tokens a second on a gaming PC pushes out
// the 32B that everybody else is using, whenever that is idle for a second.
// With the wait alone, as if there were no other node, it never goes there at
// all and its queue at the one other machine is the tail of all answers.
func (e *estimator) missed(x *mesh.ModelLoad, m *mesh.Member, stay float64) float64 {
	if x.Rate <= 0 || e.supposed {
		return 0
	}
	most := min(stay, e.elsewhere(x, m))
	return x.Rate * most * (stay - most/2) * backend.Pressing(most/2)
}

// stay is what it costs those who want another model on the same device that
// this one, which is in their way, stays for one request more: own seconds of
// work. Who waits for it to go waits longer, and so do those who are to come
// until then.
func (e *estimator) stay(p *site, start, own float64) (harm float64) {
	n := &p.near
	longer := own / (1 + p.running)
	if p.running+p.waiting+p.unreported >= p.slots {
		longer = own / p.slots // it only lengthens the line
	}
	harm = n.wanting * longer
	l := p.member.Load
	if l == nil || e.supposed {
		return harm
	}
	for i := range l.Models {
		x := &l.Models[i]
		if !p.keepsOut(x) {
			continue
		}
		most := min(start+own, e.elsewhere(x, p.member))
		harm += x.Rate * longer * most * backend.Pressing(most)
	}
	return harm
}

// keepsOut reports whether another model is wanted on the device and finds no
// room there.
func (p *site) keepsOut(x *mesh.ModelLoad) bool {
	if x.Resident || x.Loading || x.Rate < seldom || x.Key == p.model.Key || !p.near.known {
		return false
	}
	m := p.member.Card.Catalog.Find(x.Key)
	return m != nil && fits.of(p.member, m).need/besideOthers > p.near.spare+p.near.idle
}

// keepsAnyOut reports whether somebody is kept out of memory by the model.
func (p *site) keepsAnyOut() bool {
	if p.near.wanting > 0 {
		return true
	}
	l := p.member.Load
	for i := 0; l != nil && i < len(l.Models); i++ {
		if p.keepsOut(&l.Models[i]) {
			return true
		}
	}
	return false
}

// seldom is a rate below which nobody is thought to want a model, per second.
const seldom = 1.0 / 600

// alternative is what the best two nodes would cost an average request of a
// model, seconds with the harm to others; +Inf: there is none.
type alternative struct {
	key          string
	best, second float64
	at           *mesh.Member // the best
}

// askedElsewhere bounds how many holders are looked at for an alternative.
const askedElsewhere = 16

// elsewhere is how much more an average request of x costs on the best node but
// m than on m.
func (e *estimator) elsewhere(x *mesh.ModelLoad, m *mesh.Member) float64 {
	if x.Decode <= 0 || x.Prefill <= 0 {
		return math.Inf(1) // nobody knows what it would cost here
	}
	here := float64(e.q.PromptTokens)/x.Prefill + x.Output/x.Decode
	for i := range e.others {
		a := &e.others[i]
		if a.key == "" {
			e.suppose(a, x)
		}
		switch {
		case a.key != x.Key:
		case a.at == m:
			return max(0, a.second-here)
		default:
			return max(0, a.best-here)
		}
	}
	return math.Inf(1)
}

// suppose finds the alternatives of x.
func (e *estimator) suppose(a *alternative, x *mesh.ModelLoad) {
	*a = alternative{key: x.Key, best: math.Inf(1), second: math.Inf(1)}
	q := Request{Key: x.Key, PromptTokens: e.q.PromptTokens}
	other := estimator{q: &q, s: e.s, output: x.Output, marked: e.marked, supposed: true}
	holders := e.s.Holders(x.Key)
	first := int(e.s.Seed % uint64(max(1, len(holders)))) //nolint:gosec // less than a length
	for i := range min(len(holders), askedElsewhere) {
		var est Estimate
		h := &holders[(first+i)%len(holders)]
		if _, reason := other.candidate(h, &est); reason != "" {
			continue
		}
		switch t := (est.Completion() + est.Harm).Seconds(); {
		case t < a.best:
			a.best, a.second, a.at = t, a.best, h.Member
		case t < a.second:
			a.second = t
		}
	}
}
