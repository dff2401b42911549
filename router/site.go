package router

import (
	"time"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh/hardware"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/backend"
)

// site is one member with regard to one model: what its last report says, with
// what this router has sent there since, in the terms of the rule. Rates are
// those of a lone request, times are seconds.
//
// All but what has been sent is the same for every request between two reports,
// so that the site is worked out once for them and noted beside the member (see
// [mesh.Holder]). What is noted never changes.
type site struct {
	// What a choice reads of everybody comes first, so that it is together.
	member   *mesh.Member
	outputs  float64 // tokens of the answers that its mean speaks for
	answers  float64 // how many they are
	model    *mesh.Model
	hash     uint64 // of its id
	decode   float64
	prefill  float64
	open     bool // it is a candidate
	self     bool
	prompt   bool // nothing puts a start off but what the owner said
	harmless bool // to all who are there: nothing there is delayed
	crowded  bool // busy models are among what is to be evicted
	blocks   bool // somebody wants another model that this one is in the way of
	stated   bool // the owner has given its word
	reload   bool // loaded with another context

	mark    uint64  // one bit, see estimator.marked
	said    float64 // the owner's word on when a new one could start, as of its report
	class   hardware.Class
	network time.Duration
	load    time.Duration // cold load that the request has to wait for
	sharing float64       // models on the device while the request runs there
	slow    float64       // how much longer than alone a token takes
	company float64       // others in the batch

	stalled  float64 // company, as slowed as it is
	alone    float64 // slow without the sharing
	slope    float64
	models   float64 // on the device now, the request's own among them
	prolongs float64 // what it takes away from others who compute, of its own time
	lack     float64 // bytes to be evicted

	reason           Reason  // why it is no candidate
	batch            float64 // how much longer than alone a token takes in a full batch
	over             float64 // requests sent since the report that found no free slot
	slots            float64
	cold             float64
	need             float64 // bytes that the model takes when loaded
	running, waiting float64 // requests of the model, by the report
	unreported       float64 // ours since then
	resident         bool    // loaded, and with the context that the request needs
	loading          bool    // on its way
	context          int     // that it is loaded with, 0 unknown

	near neighbours
}

// siteOf is h as it is to any request: none of ours is on its way there, its
// cache holds nothing of the prompt, and the context may be any.
func siteOf(h *mesh.Holder) *site {
	if p, ok := h.Note.Load().(*site); ok && p.member == h.Member {
		return p
	}
	p := new(site)
	p.learn(h, 0, false, nil)
	h.Note.Store(p)
	return p
}

// learn works out the site for a request with a context (0: any), of whose
// prompt the member's cache has a part, and when some have been sent there that
// the report does not count.
func (p *site) learn(h *mesh.Holder, context int, cached bool, sent []Sent) {
	m := h.Member
	p.member, p.model, p.reason = m, h.Model, unfit(h)
	l := m.Load.Model(h.Model.Key)
	if l != nil && l.Output > 0 {
		p.answers = float64(max(1, l.Samples))
		p.outputs = p.answers * l.Output
	}
	if p.reason != "" {
		return
	}
	f := fits.of(m, h.Model)
	p.class, p.need, p.decode, p.prefill = f.class, f.need, f.decode, f.prefill
	p.slope, p.cold = backend.GuessSlope, guessInit+float64(h.Model.Size)/guessDisk
	p.hash, p.mark, p.slots = idHash(m.ID), mark(m.ID), float64(m.Parallel())
	if p.self = m.Self; !p.self {
		p.network = m.RTT
	}
	want := wanted(context, h.Model)
	if l != nil {
		p.measured(l)
		p.said, p.stated = l.Start, true
		p.resident, p.loading, p.context = l.Resident, l.Loading, l.Context
		p.reload = want > 0 && l.Context > 0 && want != l.Context && (l.Resident || l.Loading)
		if p.reload {
			p.resident, p.loading = false, false
		}
	}
	if cached && !p.reload {
		p.resident, p.loading = true, false // it has answered since the report
	}
	if context > 0 && !p.resident {
		g := fitOf(m, h.Model, context)
		p.class, p.need = g.class, g.need
	}
	if p.resident && l != nil && l.Size > 0 {
		p.class = seen(l, p.class)
	}
	if p.class == hardware.None {
		p.reason = ReasonTooBig
		return
	}
	p.near.look(m, l)
	p.send(sent)
	p.derive()
}

// send counts in what is on its way there.
func (p *site) send(sent []Sent) {
	for i := range sent {
		w := &sent[i]
		if w.Key == p.model.Key {
			p.unreported += float64(w.N)
			continue
		}
		for range w.N {
			p.near.add(p.member, w.Key)
		}
	}
}

// suits reports whether the site is the same for a request with this context as
// for one that leaves it open.
func (p *site) suits(context int) bool {
	if context == 0 {
		return true
	}
	want := wanted(context, p.model)
	return p.resident && (want == 0 || p.context == 0 || want == p.context)
}

// unfit is why h can be no candidate, whatever the model needs.
func unfit(h *mesh.Holder) Reason {
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
	return ""
}

// measured takes over what the node has measured.
func (p *site) measured(l *mesh.ModelLoad) {
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

// derive works out the parts of the rule that take no more than the site.
func (p *site) derive() {
	n := &p.near
	p.open, p.models = true, 1+n.active
	p.lack = n.lack(p)
	p.crowded = p.lack > n.idle
	if p.sharing = p.models; p.crowded {
		p.sharing = 1 // the busy ones will be gone
	}
	p.company = min(p.running+p.unreported, p.slots-1)
	p.batch = 1 + p.slope*(p.slots-1)
	p.alone = 1 + p.slope*p.company
	p.slow = p.alone * p.sharing
	p.load = seconds(p.coldLoad())
	// Ours since the report fill the free slots first; after that, each puts a
	// start off by a slot's share of one request's time.
	p.over = p.unreported
	if free := p.slots - p.running - p.waiting; free > 0 {
		p.over = max(0, p.unreported-free+1)
	}
	p.prompt = p.over == 0 && !(p.reload && p.running > 0) && (p.stated || !p.crowded)
	p.stalled = p.company * p.models
	p.prolongs = 1 / (1 + p.running + p.waiting + p.unreported) * n.working
	p.blocks = p.resident && p.keepsAnyOut()
	p.harmless = p.company == 0 && n.active == 0 && !p.blocks && !p.reload && p.lack <= 0
}

// coldLoad is the cold load that a request has to wait for.
func (p *site) coldLoad() float64 {
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

// start is what of the time that the owner said is left now.
func (p *site) start(now time.Time) float64 {
	if p.member.Heard.IsZero() {
		return p.said
	}
	return max(0, p.said-max(0, now.Sub(p.member.Heard).Seconds()))
}

// wanted is the context that Ollama would load the model with for a request
// that asks for ctx, 0 whatever it has.
func wanted(ctx int, m *mesh.Model) int {
	if ctx == 0 {
		ctx = m.NumCtx
	}
	if m.ContextLength > 0 {
		ctx = min(ctx, m.ContextLength)
	}
	return ctx
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
