package router

import (
	"time"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh/hardware"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/backend"
)

// Guesses for what nobody has measured.
const (
	guessOutput = 256   // tokens, a chat answer
	guessDisk   = 1.5e9 // bytes/s that a model is loaded with: an SSD
	guessInit   = 0.5   // seconds of a load that do not depend on size
)

// estimator estimates one request on the members that hold its model.
type estimator struct {
	q      *Request
	s      *Snapshot
	output float64 // tokens that the answer is expected to have

	// What others would find if one of their nodes were taken; see elsewhere.
	others   [maxIdle]alternative
	supposed bool // this is such a question itself, and asks no further
}

// newEstimator learns from all holders how long answers of the model are: a
// single node's mean is over its last few answers, and nodes that were merely
// unlucky with theirs would look slow.
func newEstimator(q *Request, s *Snapshot, holders []mesh.Holder) estimator {
	e := estimator{q: q, s: s}
	if q.Embedding {
		return e
	}
	var sum, weight float64
	for i := range holders {
		if m := holders[i].Member.Load.Model(q.Key); m != nil && m.Output > 0 {
			w := float64(max(1, m.Samples))
			sum, weight = sum+w*m.Output, weight+w
		}
	}
	e.output = guessOutput
	if weight > 0 {
		e.output = sum / weight
	}
	if q.OutputTokens > 0 {
		e.output = min(e.output, float64(q.OutputTokens))
	}
	return e
}

// candidate fills c with the holder and its estimate, or says why the holder
// is none.
func (e *estimator) candidate(h *mesh.Holder, c *Candidate) Reason {
	m := h.Member
	switch {
	case m.Status != mesh.Alive:
		return ReasonGone
	case h.Model.Remote != "":
		return ReasonRemote
	case m.Draining():
		return ReasonDraining
	case !m.Serving():
		return ReasonNoOllama
	}
	var p site
	e.site(h, &p)
	if p.class == hardware.None {
		return ReasonTooBig
	}
	c.Member, c.Model, c.hash = m, h.Model, p.hash
	e.estimate(&p, &c.Estimate)
	return ""
}

// site is one member with regard to the request's model: what its report says,
// brought up to now by what this router has sent there since. Rates are those
// of a lone request, times are seconds.
type site struct {
	member *mesh.Member
	hash   uint64 // of its id
	class  hardware.Class
	need   float64 // bytes that the model takes when loaded

	decode, prefill, slope, cold float64

	slots            float64
	running, waiting float64 // requests of the model, by the report
	unreported       float64 // ours since then
	start            float64 // the owner's word on when a new one could start, as of now
	stated           bool    // it has given its word
	resident         bool    // loaded, and with the context that the request needs
	loading          bool    // on its way
	reload           bool    // loaded with another context

	near neighbours
}

func (e *estimator) site(h *mesh.Holder, p *site) {
	m := h.Member
	f := fits.of(m, h.Model)
	p.member, p.class, p.need, p.decode, p.prefill = m, f.class, f.need, f.decode, f.prefill
	p.slope, p.cold = backend.GuessSlope, guessInit+float64(h.Model.Size)/guessDisk
	p.slots, p.hash = float64(m.Parallel()), f.hashOf(m)
	want := wanted(e.q, h.Model)
	l := m.Load.Model(e.q.Key)
	if l != nil {
		p.learn(l)
		p.start, p.stated = max(0, l.Start-age(m, e.s.Now)), true
		p.resident, p.loading = l.Resident, l.Loading
		p.reload = want > 0 && l.Context > 0 && want != l.Context && (l.Resident || l.Loading)
		if p.reload {
			p.resident, p.loading = false, false
		}
	}
	if e.s.Cached[m.ID] > 0 && !p.reload {
		p.resident, p.loading = true, false // it has answered since the report
	}
	if e.q.Context > 0 && !p.resident {
		g := fitOf(m, h.Model, e.q.Context)
		p.class, p.need = g.class, g.need
	}
	if p.resident && l != nil && l.Size > 0 {
		p.class = seen(l, p.class)
	}
	p.near.look(m, l)
	for _, w := range e.s.Outstanding[m.ID] {
		if w.Key == e.q.Key {
			p.unreported += float64(w.N)
			continue
		}
		for range w.N {
			p.near.add(m, w.Key)
		}
	}
}

// learn takes over what the node has measured.
func (p *site) learn(l *mesh.ModelLoad) {
	p.running, p.waiting = float64(l.Running), float64(l.Waiting)
	if l.Slots > 0 {
		p.slots = float64(l.Slots)
	}
	if l.Cold > 0 {
		p.cold = l.Cold
	}
	if l.Decode <= 0 && l.Prefill <= 0 {
		return
	}
	p.slope = l.Slope
	trust := min(1, float64(l.Samples)/backend.TrustedSamples)
	blend := func(guess *float64, measured float64) {
		if measured > 0 {
			*guess = trust*measured + (1-trust)**guess
		}
	}
	blend(&p.decode, l.Decode)
	blend(&p.prefill, l.Prefill)
}

// wanted is the context that Ollama would load the model with for the request,
// 0 whatever it has.
func wanted(q *Request, m *mesh.Model) int {
	want := q.Context
	if want == 0 {
		want = m.NumCtx
	}
	if m.ContextLength > 0 {
		want = min(want, m.ContextLength)
	}
	return want
}

// seen is the class of a model in memory: what is there beats what was
// predicted.
func seen(l *mesh.ModelLoad, predicted hardware.Class) hardware.Class {
	switch {
	case l.SizeVRAM == 0:
		return hardware.CPU
	case l.SizeVRAM < l.Size:
		return hardware.Partial
	}
	return max(predicted, hardware.Tight)
}

// age is how many seconds ago the member's report arrived.
func age(m *mesh.Member, now time.Time) float64 {
	if m.Heard.IsZero() {
		return 0
	}
	return max(0, now.Sub(m.Heard).Seconds())
}

// estimate is the rule: what the request itself will take, from now to its last
// token, and what it costs others.
func (e *estimator) estimate(p *site, est *Estimate) {
	prompt := float64(e.q.PromptTokens)
	if len(e.s.Cached) > 0 {
		prompt = max(0, prompt-float64(e.s.Cached[p.member.ID]))
	}
	reading, writing := prompt/p.prefill, e.output/p.decode // of a lone request
	company := p.company()
	sharing := 1 + p.near.active // models on the device
	if p.near.lack(p) > p.near.idle {
		sharing = 1 // the busy ones will be gone
	}
	whole := (reading + writing*(1+p.slope*(p.slots-1))) * sharing

	est.Class = p.class
	if !e.q.Arrived.IsZero() {
		est.Age = max(0, e.s.Now.Sub(e.q.Arrived))
	}
	est.Wait = seconds(e.wait(p, whole))
	est.Load = seconds(p.load())
	est.Prefill = seconds(reading * sharing)
	est.Slow = (1 + p.slope*company) * sharing
	est.Decode = seconds(writing * est.Slow)
	if !p.member.Self {
		est.Network = p.member.RTT
	}
	est.Harm = seconds(e.harm(p, reading, writing))
	if len(e.s.Trouble) > 0 {
		est.Trouble = e.s.Trouble[p.member.ID]
	}
}

// wait is when a slot is free: the owner's word, and what this router has sent
// since. whole is what one request takes in a full batch.
func (e *estimator) wait(p *site, whole float64) float64 {
	wait := p.start
	if !p.stated && p.near.lack(p) > p.near.idle {
		wait = p.near.drain // a busy model is in the way, and the owner has not said for how long
	}
	if p.reload && p.running > 0 {
		wait = max(wait, whole) // its other requests end first
	}
	// Ours since the report fill the free slots first; after that, each puts a
	// start off by a slot's share of one request's time.
	over := p.unreported
	if free := p.slots - p.running - p.waiting; free > 0 {
		over = max(0, p.unreported-free+1)
	}
	return wait + over*whole/p.slots
}

// company is how many others there will be in the batch.
func (p *site) company() float64 { return min(p.running+p.unreported, p.slots-1) }

// load is the cold load that the request has to wait for.
func (p *site) load() float64 {
	switch {
	case p.resident:
		return 0
	case p.loading && p.running >= p.slots:
		return 0 // in the owner's word for when a slot is free
	case p.loading:
		return p.cold / 2 // it began some time ago
	}
	return p.cold
}

func seconds(s float64) time.Duration {
	return time.Duration(min(s, 1e9) * float64(time.Second))
}
