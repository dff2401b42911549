package router

import (
	"time"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh"
)

// Guesses for what nobody has measured.
const (
	guessOutput = 256   // tokens, a chat answer
	guessDisk   = 1.5e9 // bytes/s that a model is loaded with: an SSD
	guessInit   = 0.5   // seconds of a load that do not depend on size
)

// estimator estimates one request on the members that hold its model.
type estimator struct {
	q       *Request
	s       *Snapshot
	output  float64 // tokens that the answer is expected to have
	age     time.Duration
	seconds float64 // age, seconds
	marked  uint64  // marks of the members of which the Snapshot says something

	// What others would find if one of their nodes were taken; see elsewhere.
	others   [maxIdle]alternative
	supposed bool // this is such a question itself, and asks no further
	selfish  bool // harm does not count
}

// learn learns from all holders how long answers of the model are: a single
// node's mean is over its last few answers, and nodes that were merely unlucky
// with theirs would look slow.
func (e *estimator) learn(holders []mesh.Holder) {
	e.begin()
	if e.q.Embedding {
		return
	}
	var sum, weight float64
	for i := range holders {
		p := siteOf(&holders[i])
		sum, weight = sum+p.outputs, weight+p.answers
	}
	e.output = guessOutput
	if weight > 0 {
		e.output = sum / weight
	}
	if e.q.OutputTokens > 0 {
		e.output = min(e.output, float64(e.q.OutputTokens))
	}
}

// begin reads the request and the Snapshot.
func (e *estimator) begin() {
	q, s := e.q, e.s
	if !q.Arrived.IsZero() {
		e.age = max(0, s.Now.Sub(q.Arrived))
		e.seconds = e.age.Seconds()
	}
	for i := range s.Outstanding {
		e.marked |= mark(s.Outstanding[i].Node)
	}
	for i := range s.Cached {
		e.marked |= mark(s.Cached[i].Node)
	}
	for id := range s.Trouble {
		e.marked |= mark(id)
	}
}

// mark is one of 64 bits for an id, by its last letters. As few members have one
// that is set in marked, the others need not be looked for in the Snapshot.
func mark(id mesh.NodeID) uint64 {
	var h uint64
	for i := max(0, len(id)-8); i < len(id); i++ {
		h = h<<8 | uint64(id[i])
	}
	return 1 << (h * 0x9e3779b97f4a7c15 >> 58)
}

// candidate estimates the request on the holder, or says why the holder is no
// candidate. share is what spread draws.
func (e *estimator) candidate(h *mesh.Holder, est *Estimate) (share float64, reason Reason) {
	p := siteOf(h)
	if e.q.Context > 0 || e.marked&p.mark != 0 {
		return e.candidateNow(h, p, est)
	}
	return e.fill(p, est)
}

// candidateNow is candidate where the request, or others of this router's, may
// make the site p another one.
func (e *estimator) candidateNow(h *mesh.Holder, p *site, est *Estimate) (share float64, reason Reason) {
	if !p.open && p.reason != ReasonTooBig {
		return 0, p.reason
	}
	var sent []Sent
	cached := false
	if e.marked&p.mark != 0 {
		sent, cached = e.s.sent(p.member.ID), e.s.cached(p.member.ID) > 0
	}
	var now site
	switch {
	case !p.suits(e.q.Context) || cached && !p.resident && !p.reload:
		now.learn(h, e.q.Context, cached, sent)
	case len(sent) > 0 && p.open:
		now = *p
		now.send(sent)
		now.derive()
	default:
		return e.fill(p, est)
	}
	return e.fill(&now, est)
}

func (e *estimator) fill(p *site, est *Estimate) (share float64, reason Reason) {
	if !p.open {
		return 0, p.reason
	}
	e.estimate(p, est)
	if p.self && e.q.Conversation == 0 {
		return 0, ""
	}
	return draw(e.s.Seed, p.hash), ""
}

// estimate is the rule: what the request itself will take, from now to its last
// token, and what it costs others.
func (e *estimator) estimate(p *site, est *Estimate) {
	prompt := float64(e.q.PromptTokens)
	if e.marked&p.mark != 0 {
		prompt = max(0, prompt-float64(e.s.cached(p.member.ID)))
		est.Trouble = e.s.Trouble[p.member.ID]
	}
	reading, writing := prompt/p.prefill, e.output/p.decode // of a lone request
	start := 0.0
	if p.said > 0 {
		start = p.start(e.s.Now)
	}

	est.Class, est.Age, est.Network = p.class, e.age, p.network
	if est.Wait = seconds(start); !p.prompt {
		est.Wait = seconds(p.wait(start, reading, writing))
	}
	est.Load = p.load
	est.Prefill = seconds(reading * p.sharing)
	est.Slow = p.slow
	est.Decode = seconds(writing * p.slow)
	if !p.harmless && !e.selfish {
		est.Harm = seconds(e.harm(p, start, reading, writing))
	}
}

// wait is when a slot is free: the owner's word, and what this router has sent
// since.
func (p *site) wait(start, reading, writing float64) float64 {
	wait := start
	if !p.stated && p.crowded {
		wait = p.near.drain // a busy model is in the way, and the owner has not said for how long
	}
	whole := (reading + writing*p.batch) * p.sharing // one request in a full batch
	if p.reload && p.running > 0 {
		wait = max(wait, whole) // its other requests end first
	}
	return wait + p.over*whole/p.slots
}

func seconds(s float64) time.Duration {
	if s > 1e9 {
		s = 1e9
	}
	return time.Duration(s * float64(time.Second))
}
