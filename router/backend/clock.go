package backend

import "time"

// clock is how fast a runner writes by this node's own clock, brought to a lone
// request, as [Rates] does with Ollama's own figures.
type clock struct {
	decode  float64 // tok/s
	answers int
}

// agrees is how far speed and clock may differ and still agree: pieces come in
// groups, and an answer's company is known as a mean only.
const agrees = 0.15

// Answers that the clock can judge: long enough, and not held back (a tool call
// comes as a whole when it is complete).
const (
	minClocked  = 32  // tokens
	minClocking = 0.5 // seconds; less says more about this machine's scheduler
	piecesShare = 0.8 // of the tokens, that must have come as pieces of their own
	piecesStep  = 8   // pieces that nobody may have told of yet, see router's meter
)

// time books what the clock says of an answer that ended now.
func (a *Admission) time(now time.Time, e *Entry, together, others float64) {
	if e.first.IsZero() || e.chunks < minClocked || float64(e.pieces+piecesStep) < piecesShare*float64(e.chunks) {
		return
	}
	took := now.Sub(e.first)
	f := perSecond(e.chunks-1, took) * (1 + a.runners[e.runner].speed.Slope*(together-1)) * (1 + others)
	if took.Seconds() < minClocking || !between(f, maxDecode) {
		return
	}
	c := a.clocks[e.runner]
	mean(&c.decode, &c.answers, f)
	a.clocks[e.runner] = c
}

// checked is s, corrected where the clock contradicts it.
//
// Figures may be wrong for good: servers that speak Ollama's language make some
// of theirs up, and OpenAI's has none. What is wrong there keeps the wrong models
// on a machine, and nothing that follows would ever show it. The prompt's part
// of an answer cannot be told from its load by a clock, and so is taken to be as
// wrong as the rest.
func (s Speed) checked(c clock) Speed {
	if c.answers == 0 || s.Decode <= 0 {
		return s
	}
	off := c.decode/s.Decode - 1
	if off > -agrees && off < agrees {
		return s
	}
	by := 1 + off*min(float64(c.answers)/TrustedSamples, 1)
	s.Decode, s.Prefill = s.Decode*by, s.Prefill*by
	return s
}
