package metrics

import (
	"strconv"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router"
)

// Observe counts a request that has ended.
func (m *Metrics) Observe(r router.Record) {
	whole := r.Outcome == router.OutcomeOK // how long a part takes says nothing about the whole
	counted := r.Inference && r.Owner != "" && r.Status != 0 && r.Status < 400
	s := m.lines.of(line{
		route: r.Route, model: m.model(r), owner: m.owners.bounded(r.Owner), status: r.Status, outcome: r.Outcome,
		answered: len(r.Attempts) > 0 && answered(&r, len(r.Attempts)-1), counted: counted, timed: counted && whole,
		first: counted && whole && r.First > 0 && r.Stream, // one in a piece has no first token to be seen
		rated: counted && whole && r.Rate > 0,
	}, m.series)
	s.requests.Inc()
	s.outcomes.Inc()
	for i, a := range r.Attempts {
		if i == len(r.Attempts)-1 && answered(&r, i) {
			s.answered.Inc()
			break
		}
		result := a.Result
		if result == "" {
			result = "broken" // the handler ended without a word of it
		}
		m.attempts.WithLabelValues(m.owners.bounded(a.Node), result).Inc()
		if a.Phase == router.PhaseStream.String() && result != router.ResultOK && i+1 < len(r.Attempts) {
			m.continuations.WithLabelValues(result).Inc()
		}
	}
	if s.read != nil {
		s.read.Add(float64(r.PromptTokens))
		s.written.Add(float64(r.OutputTokens))
	}
	if s.duration != nil {
		s.duration.Observe(r.Took)
	}
	if s.first != nil {
		s.first.Observe(r.First)
	}
	if s.perToken != nil {
		s.perToken.Observe(1 / r.Rate)
	}
}

// answered reports whether the i-th try is the owner's, and went well.
func answered(r *router.Record, i int) bool {
	return r.Attempts[i].Result == router.ResultOK && r.Attempts[i].Node == r.Owner
}

// line is a kind of requests: those that count in the same series.
type line struct {
	route, model, owner             string
	status                          int
	outcome                         router.Outcome
	answered, counted, timed, first bool
	rated                           bool
}

// series are what a kind of requests counts in; nil: not in that.
type series struct {
	requests, outcomes, answered, read, written prometheus.Counter
	duration, first, perToken                   prometheus.Observer
}

func (m *Metrics) series(l line) *series {
	s := &series{
		requests: m.requests.WithLabelValues(l.route, l.model, l.owner, strconv.Itoa(l.status)),
		outcomes: m.outcomes.WithLabelValues(l.route, string(l.outcome)),
	}
	if l.answered {
		s.answered = m.attempts.WithLabelValues(l.owner, router.ResultOK)
	}
	if l.counted {
		s.read, s.written = m.tokens.WithLabelValues(l.model, "prompt"), m.tokens.WithLabelValues(l.model, "output")
	}
	if l.timed {
		s.duration = m.duration.WithLabelValues(l.model, l.owner)
	}
	if l.first {
		s.first = m.first.WithLabelValues(l.model, l.owner)
	}
	if l.rated {
		s.perToken = m.perToken.WithLabelValues(l.model, l.owner)
	}
	return s
}

// lines remember the series of kinds of requests: to find them by their labels
// costs more than to count.
type lines struct {
	mu    sync.RWMutex
	known map[line]*series
}

// maxLines bounds them; beyond it series are looked up anew.
const maxLines = 4096

func (x *lines) of(l line, find func(line) *series) *series {
	x.mu.RLock()
	s := x.known[l]
	x.mu.RUnlock()
	if s != nil {
		return s
	}
	s = find(l)
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.known == nil || len(x.known) >= maxLines {
		x.known = make(map[line]*series)
	}
	x.known[l] = s
	return s
}
