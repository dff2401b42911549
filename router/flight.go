package router

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"time"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/wire"
)

// flight is one client request on its way, owned by the goroutine that serves
// it.
type flight struct {
	Request
	route  wire.Route
	peek   wire.Peek
	body   []byte
	header http.Header
	only   string // the node that the caller named, "" any

	attempts int // tries so far, the running one included
	spent    int // of these, tries that may have cost a GPU work
	course   Course
	tried    []trial
	alone    time.Time     // when nobody was left for the first time, zero: not yet
	pause    time.Duration // before the next round, see again.go
	answerer Candidate     // who gives the answer
	failed   bool          // the last try failed by no refusal: the next one is a retry
	log      *slog.Logger  // the router's
	trip     *trip         // what is told of it

	// An answer that broke off; see resume.go.
	story     story
	path      Path // how the present try goes on
	composer  *wire.Composer
	takeup    *takeup       // of an Exact path
	takeBody  []byte        // the same as JSON
	continued int           // breaks so far
	unable    []mesh.NodeID // cannot take it up exactly
	full      []mesh.NodeID // had no place in their queue
	waits     int           // for a place
	first     string        // version of the Ollama that began, "" unknown
	restarted bool          // an owner was lost at work, and the client had nothing yet
	same      bool          // the node that failed has got its second chance
	off       bool          // the client, or this node, wants no continuation
}

// logger is for what is told of this request. Most have nothing to tell.
func (f *flight) logger() *slog.Logger { return f.log.With("request", f.ID) }

// trial is a try that speaks against asking its node again.
type trial struct {
	node    mesh.NodeID
	at      time.Time
	refused bool // nothing was done there: it may be asked again after refusedFor
	lost    bool // the node said nothing against it: see again.go
	absent  bool // its machine said that no process listens
}

// refusedFor is how long a refusal counts. A node that has just come back may
// refuse, before its first look at its Ollama, what its members' views already
// say it has.
const refusedFor = time.Second

// wasTried reports whether m has failed this request. A member that died and
// came back is another one.
func (f *flight) wasTried(m *mesh.Member) bool { return f.failedAt(m, f.tried) }

func (f *flight) failedAt(m *mesh.Member, tried []trial) bool {
	return slices.ContainsFunc(tried, func(t trial) bool {
		return t.node == m.ID && !m.Since.After(t.at) && !(t.refused && time.Since(t.at) > refusedFor)
	}) ||
		slices.Contains(f.full, m.ID) || f.path == Exact && slices.Contains(f.unable, m.ID)
}

func (f *flight) exclude(e *AttemptError, refused bool) {
	f.tried = append(f.tried, trial{node: e.Node, at: time.Now(), refused: refused, lost: e.lost(), absent: e.absent()})
}

// ask is the path and the body by which another node is asked.
func (f *flight) ask() (path string, body []byte) {
	if f.path == Exact {
		return ContinuePath, f.takeBody
	}
	return ForwardPath + f.route.Path, f.body
}

// answer is what an attempt brought: an owner's response whose body still
// flows. Close it once; closing it early stops the owner's work.
type answer struct {
	member *mesh.Member
	status int
	header http.Header
	body   io.Reader
	meter  *meter // of this node's own answer, nil for others'

	// Of another node's answer: its response, whose trailers come with the
	// body's end.
	resp *http.Response

	dog     *watchdog               // over the body; nil: nobody watches
	believe func() bool             // ends the doubt about the member; nil: there is none
	cancel  context.CancelCauseFunc // of the attempt
}

// Close ends the attempt and releases what it holds.
func (a *answer) Close() {
	if a.believe != nil {
		a.believe()
	}
	if a.dog != nil {
		a.dog.stop()
	}
	if a.cancel != nil {
		a.cancel(nil)
	}
	if a.meter != nil {
		a.meter.Close()
	} else {
		_ = a.resp.Body.Close()
	}
}

// drained tells, after the body's end, that the owner has handed the answer
// over.
func (a *answer) drained() bool {
	return a.resp != nil && a.resp.Trailer.Get(headerRefused) == RefusedDraining
}
