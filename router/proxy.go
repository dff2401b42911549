package router

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/wire"
)

// maxSpent is the most tries per request that may have cost a GPU work: the
// first and two more (Google SRE, ch. 21: at most 3 attempts). Refusals and
// failed dials cost nothing and do not count.
const maxSpent = 3

// dispatch carries f to the best candidate, and on to the next when one fails,
// until the client has its answer or an error.
func (r *Router) dispatch(w *trip, req *http.Request, f *flight) {
	r.budget.enter()
	defer r.budget.leave()
	lease := r.guests.take(req.Context())
	defer lease.drop()
	ctx := lease.Context
	out := &relay{w: w, f: f, r: r}
	var last *AttemptError
	for {
		c, ok := r.pick(f)
		if !ok {
			if out.committed && r.stillHope(ctx, f, last) || r.askAgain(ctx, f, out.committed) {
				continue
			}
			r.giveUp(out, f, last)
			return
		}
		e := r.try(ctx, out, f, c)
		if e == nil {
			r.ended(f, true)
			return
		}
		r.note(f, e)
		f.failed = !e.amicable()
		f.restarted = f.restarted || e.lostWork()
		if out.committed {
			last = worse(last, e)
			if !r.resume(out, f, e) {
				return
			}
			continue
		}
		switch action := e.Next(f.route.Class.Repeatable()); {
		case action == Repick && e.Refusal == RefusedMoved:
			f.course.Moved()
			continue
		case action == Repick:
			if !f.course.Refused(e.Node, e.RetryAfter, time.Now()) {
				f.exclude(e, errors.Is(e.Err, ErrRefused))
			}
			continue
		case action == TryNext && f.spent < maxSpent,
			action == TryOnce && f.spent < 2:
			f.exclude(e, e.free())
			last = worse(last, e)
			continue
		case action == GiveUp && errors.Is(e.Err, ErrClientGone):
			return
		default:
			r.giveUp(out, f, e)
			return
		}
	}
}

// pick chooses the best member that has not failed this request yet, from the
// newest picture there is, and from what owners said of their queues when they
// refused it.
func (r *Router) pick(f *flight) (Candidate, bool) { return r.best(f, f.wasTried) }

// best is pick with another say on who is left out.
func (r *Router) best(f *flight, skip func(*mesh.Member) bool) (Candidate, bool) {
	s := f.trip.saw(r.Snapshot(f.Request))
	room := candidateLists.Get().(*[]Candidate)
	defer candidateLists.Put(room)
	if n := len(s.Holders(f.Key)); n > cap(*room) {
		*room = make([]Candidate, n)
	}
	s.Room = *room
	cs := r.config.Policy(f.Request, s)
	if f.path == Restart {
		// Another version has other defaults and says other things.
		alike := slices.DeleteFunc(slices.Clone(cs), func(c Candidate) bool { return c.Info.Ollama != f.first })
		if best, ok := f.course.Best(alike, skip); ok {
			return best, true
		}
	}
	return f.course.Best(cs, skip)
}

// candidateLists holds the lists that choices were made from: with hundreds of
// members one is 50 KiB.
var candidateLists = sync.Pool{New: func() any { return new([]Candidate) }}

// soonerElsewhere reports whether a request that waits at c for another start
// would be answered sooner by another node, by a margin worth the move.
func (r *Router) soonerElsewhere(f *flight, c Candidate, start time.Duration) bool {
	if !f.course.MayMove() {
		return false
	}
	// The report speaks of a newcomer, whom fairness may let in before the
	// others of this client; the place in the queue is this request's own.
	f.course.Tell(c.ID, start, time.Now())
	best, ok := r.pick(f)
	return ok && f.course.Sooner(c, start, best)
}

// try makes one attempt and relays its answer. nil: the client has its answer.
func (r *Router) try(ctx context.Context, out *relay, f *flight, c Candidate) *AttemptError {
	f.attempts++
	f.trip.tries(c)
	promise := f.course.Promise(c)
	done := r.ledger.Dispatch(c.ID, Work{
		Key: f.Key, PromptTokens: f.PromptTokens, OutputTokens: f.OutputTokens, Sent: time.Now(),
	})
	defer done()
	proceed := func() {}
	if f.failed {
		var err error
		if proceed, err = r.budget.retry(ctx); err != nil {
			return &AttemptError{Node: c.ID, Name: c.Name, Phase: PhaseDial, Err: cause(ctx, ctx, err)}
		}
	}
	a, e := r.attempt(ctx, f, c, promise)
	proceed()
	if e != nil {
		if e.costly() {
			f.spent++
		}
		return e
	}
	defer a.Close()
	f.spent++
	f.answerer, f.alone = c, time.Time{}
	believed := 0
	if f.path == Fresh {
		believed = r.warm.answers(&f.Request, c.Member, r.mesh.View())
	}
	if e := out.copy(a); e != nil {
		if e.amicable() {
			f.spent--
		}
		return e
	}
	f.trip.tried(nil)
	if a.resp != nil { // the trailers have come with the body's end
		r.mesh.Observe(c.ID, r.heard.news(c.ID, a.resp.Trailer))
	}
	r.ledger.Worked(c.ID)
	if f.path == Fresh {
		r.warm.answered(&f.Request, c.Member, believed, f.trip.usage)
	}
	return nil
}

// note books a failure and says it in one line.
func (r *Router) note(f *flight, e *AttemptError) {
	f.trip.tried(e)
	if e.Sick() {
		r.ledger.Failed(e.Node, time.Now())
	}
	if errors.Is(e.Err, ErrClientGone) {
		f.logger().Debug("client left", "node", e.Name, "phase", e.Phase.String())
		return
	}
	level := slog.LevelDebug // a refusal is everyday
	if e.Sick() {
		level = slog.LevelInfo
	}
	log := f.logger()
	log.Log(context.Background(), level, "attempt failed", "node", e.Name, "phase", e.Phase.String(), "err", e.Err,
		"status", e.Status, "refusal", e.Refusal, "attempt", f.attempts)
}

// worse keeps the more telling of two failures: what a node has said, an answer
// of Ollama's own or something else than the first, says more to a client than
// a connection that broke.
func worse(a, b *AttemptError) *AttemptError {
	if a != nil && a.said() && !b.said() {
		return a
	}
	return b
}

func (e *AttemptError) said() bool {
	return errors.Is(e.Err, ErrStatus) || errors.Is(e.Err, ErrDiffers)
}

// giveUp answers a request that nobody could serve.
func (r *Router) giveUp(out *relay, f *flight, last *AttemptError) {
	if out.committed {
		r.lose(out, f, last, "no other node can take it up")
		return
	}
	switch {
	case last == nil:
		out.fail(r.nobody(f))
	case errors.Is(last.Err, ErrClientGone):
	case errors.Is(last.Err, ErrStatus) && len(last.Body) > 0:
		out.whole(last)
	case errors.Is(last.Err, ErrRefused):
		out.fail(wire.ErrBusy(max(last.RetryAfter, time.Second), "every node that could serve it is busy ("+last.Refusal+")"))
	default:
		out.fail(wire.ErrNoNode(f.peek.Model, people(last), retrySoon))
	}
}

// people words a failure for a client, without addresses or internals.
func people(e *AttemptError) string {
	name := e.Name
	switch {
	case errors.Is(e.Err, mesh.ErrMemberFailed):
		return name + " has died"
	case errors.Is(e.Err, mesh.ErrMemberLeft):
		return name + " has left"
	case errors.Is(e.Err, ErrStopping):
		return "the node that was asked is being stopped"
	case errors.Is(e.Err, ErrDraining):
		return name + " takes no more work"
	case errors.Is(e.Err, ErrSilent):
		return name + " gives no sign of life"
	case errors.Is(e.Err, ErrStatus):
		return name + " answered " + strconv.Itoa(e.Status)
	case errors.Is(e.Err, ErrCut):
		return name + " broke off"
	case errors.Is(e.Err, ErrDiffers):
		return name + " went on with something else"
	case e.Phase == PhaseDial:
		return name + " cannot be reached"
	}
	return name + " broke off"
}

// retrySoon is when to try again after nodes failed: by then those that are to
// come back have, or membership knows that they will not.
const retrySoon = 2 * time.Second

// nobody explains why no member may serve f.
func (r *Router) nobody(f *flight) *wire.Error {
	_, refusals := Explain(f.Request, r.Snapshot(f.Request))
	return explainNobody(f, r.mesh.View(), refusals)
}
