package router

import (
	"time"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh"
)

// maxRepicks bounds how often a refusal with fresher load leads to a new
// choice; after that the request goes to the best node without a promise.
const maxRepicks = 3

// maxMoves bounds how often a waiting request leaves a queue for another.
const maxMoves = 5

// noPromise lets an owner queue a request for as long as it takes.
const noPromise time.Duration = -1

// moveMargin keeps a waiting request from moving for a gain that the move
// itself, or the error of the estimates, would eat.
const moveMargin = 500 * time.Millisecond

// Course is how one request finds its node beyond the first choice: what owners
// said of their queues, how often they refused it, how often it moved. It reads
// no clock and sends nothing, so that the simulator runs the same rules. The
// zero Course is a request that nobody has seen yet.
type Course struct {
	repicks int // refusals that led to a new choice
	moves   int // times that it left a queue for another node
	starts  map[mesh.NodeID]word
}

// word is an owner's own word on when it could start this very request.
type word struct {
	start time.Duration
	at    time.Time
}

// Tell notes that node, as of now, could start the request after start. It is
// newer than any report so far, and speaks of this request's own place.
func (c *Course) Tell(node mesh.NodeID, start time.Duration, now time.Time) {
	if c.starts == nil {
		c.starts = make(map[mesh.NodeID]word)
	}
	c.starts[node] = word{start, now}
}

// Best is the first choice among candidates in order, corrected by what owners
// told of their queues; those that skip names are left out. A full queue is no
// reason for another version of the model.
func (c *Course) Best(cs []Candidate, skip func(*mesh.Member) bool) (best Candidate, ok bool) {
	for _, x := range cs {
		if skip(x.Member) {
			continue
		}
		if ok && x.version != best.version {
			break
		}
		said := c.correct(&x)
		if !ok || x.Estimate.Total() < best.Estimate.Total() {
			best, ok = x, true
		}
		if !said {
			break // candidates come in order: none further is better
		}
	}
	return best, ok
}

// correct puts what the owner said in place of what its report makes of the
// wait, unless the report is newer.
func (c *Course) correct(x *Candidate) (said bool) {
	w, said := c.starts[x.ID]
	if !said || x.Heard.After(w.at.Add(wordHolds)) {
		return false
	}
	x.Estimate.Wait = max(x.Estimate.Wait, w.start)
	return true
}

// wordHolds is how long an owner's word on one request is believed before later
// reports, which speak of a newcomer.
const wordHolds = time.Second

// Promise is the start that the request may expect at a candidate: later than
// that, the owner refuses it, because another node may do better. Negative
// after some refusals: it waits where it is.
func (c *Course) Promise(at Candidate) time.Duration {
	if c.repicks >= maxRepicks {
		return noPromise
	}
	return at.Estimate.Wait
}

// Refused notes a refusal by a node that could start the request after start (0
// unknown). again is false when that node need not be asked any more.
func (c *Course) Refused(node mesh.NodeID, start time.Duration, now time.Time) (again bool) {
	c.repicks++
	if start > 0 {
		c.Tell(node, start, now)
	}
	return c.repicks <= 2*maxRepicks
}

// Moved notes that the request left a queue.
func (c *Course) Moved() { c.moves++ }

// MayMove reports whether the request may leave another queue.
func (c *Course) MayMove() bool { return c.moves < maxMoves }

// Sooner reports whether a request that waits at here for another start would be
// answered sooner at best, by a margin worth the move.
func (c *Course) Sooner(here Candidate, start time.Duration, best Candidate) bool {
	now := here.Estimate
	now.Wait, now.Age = start, best.Estimate.Age
	return best.ID != here.ID && best.Estimate.Total()+moveMargin < now.Total()
}
