package sim

import (
	"math"
	"math/rand/v2"
	"time"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/backend"
)

// request is one client's request on its way.
type request struct {
	number         int
	id, key        string
	client         string
	model          int
	conversation   int
	turns          int // of its conversation, this one included
	prompt, output float64
	entry          int
	random         *rand.Rand
	arrived        float64
	first, end     float64

	// In a mesh.
	in      *entry
	course  router.Course
	tried   []*node
	at      *node
	chosen  router.Candidate
	settled func() // takes it out of the ledger
	ticket  *ticket
	signs   int // version of the planned sign of life
	got     float64
	said    float64 // of the prompt, known from turns before

	// In front of bare Ollamas.
	where, flying int
}

// job is what a machine's Ollama is asked: the rest of the answer.
func (r *request) job() *job {
	return &job{
		model: r.model, conversation: r.conversation, prompt: r.prompt + r.got, output: max(r.output-r.got, 1), owner: r,
	}
}

func (r *request) began(t float64) {
	if r.first == 0 {
		r.first = t
	}
	r.signs++
}

// facts are what placement may know of it.
func (r *request) facts() router.Request {
	return router.Request{ID: r.id, Key: r.key, PromptTokens: int(r.prompt + r.got), Client: r.client, Arrived: moment(r.arrived)}
}

// arrive is a request at its ingress.
func (r *request) arrive(e *entry) {
	r.in, r.arrived = e, e.s.now
	r.dispatch()
}

// pick is the router's: the first choice, corrected by what owners told.
func (r *request) pick() (router.Candidate, bool) {
	cs := r.in.s.Rule.Policy(r.facts(), r.in.snapshot(r))
	return r.course.Best(cs, func(m *mesh.Member) bool {
		for _, n := range r.tried {
			if n.id == m.ID {
				return true
			}
		}
		return false
	})
}

// dispatch sends the request to the best node, and on when that refuses it.
func (r *request) dispatch() {
	s := r.in.s
	for {
		c, ok := r.pick()
		if !ok { // nobody is known that could: try again, as a client would
			r.tried = nil
			s.out.nobody++
			s.after(1, r.dispatch)
			return
		}
		n := s.byID(c.ID)
		if !n.up {
			r.in.ledger.Failed(n.id, moment(s.now))
			r.tried = append(r.tried, n)
			continue
		}
		r.at, r.chosen = n, c
		r.settled = r.in.ledger.Dispatch(n.id, router.Work{Key: r.key, PromptTokens: int(r.prompt), Sent: moment(s.now)})
		refused := n.enter(r, r.course.Promise(c), c.Estimate.Slow)
		if refused == nil {
			r.watch()
			return
		}
		s.out.refused++
		r.settled()
		r.in.observe(n, n.load())
		if !r.course.Refused(n.id, refused.RetryAfter, moment(s.now)) {
			r.tried = append(r.tried, n)
		}
	}
}

// watch is the signs of life: each second until the first token the owner's
// load comes along, and a request that waits may find a better node. All that
// wait at one node are told in the same moment, so that one forecast does for
// all.
func (r *request) watch() {
	s := r.in.s
	r.signs++
	version, t := r.signs, r.ticket
	s.at(r.at.tick(), func() {
		if r.signs != version || r.ticket != t || !r.at.up {
			return
		}
		r.at.catchUp()
		r.in.observe(r.at, r.at.load())
		if r.signs != version || r.ticket != t {
			return // it began, or ended, in this moment
		}
		if start, waits := r.at.standing(t.entry); waits && r.course.MayMove() {
			r.course.Tell(r.at.id, start, moment(s.now))
			if best, ok := r.pick(); ok && r.course.Sooner(r.chosen, start, best) {
				r.move()
				return
			}
		}
		r.watch()
	})
}

// tick is the next moment at which the node tells who waits.
func (n *node) tick() float64 {
	phase := unit(hash(uint64(n.index)))
	t := phase + math.Floor(n.s.now-phase) + 1
	if t <= n.s.now { // rounding
		t++
	}
	return t
}

// standing is when a waiting request may expect to start.
func (n *node) standing(e *backend.Entry) (start time.Duration, waits bool) {
	if e.Running() {
		return 0, false
	}
	if n.tickets == nil || n.ticketsAt != n.s.now {
		n.tickets, n.ticketsAt = n.gate.Waiting(moment(n.s.now)), n.s.now
	}
	for i := range n.tickets {
		if n.tickets[i].ID == e.ID {
			return n.tickets[i].Start, true
		}
	}
	return 0, false
}

// move takes the request out of its queue and sends it anew.
func (r *request) move() {
	r.in.s.out.moved++
	r.drop()
	r.course.Moved()
	r.dispatch()
}

// drop ends its part at its node.
func (r *request) drop() {
	t := r.ticket
	r.ticket = nil
	r.signs++
	r.settled()
	r.at.leave(t)
}

// answered is the end of its answer; the load comes along.
func (r *request) answered(t float64) {
	r.signs++
	r.ticket = nil
	r.settled()
	s, n, e := r.in.s, r.at, r.in
	e.ledger.Worked(n.id)
	s.at(t, func() {
		if n.up {
			e.observe(n, n.load())
		}
	})
	s.finish(r, t)
}
