package router

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"sync/atomic"
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
	answerer Candidate // who gives the answer
	failed   bool      // the last try failed by no refusal: the next one is a retry
	log      *slog.Logger
	trip     *trip // what is told of it

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

// trial is a try that speaks against asking its node again.
type trial struct {
	node    mesh.NodeID
	at      time.Time
	refused bool // nothing was done there: it may be asked again after refusedFor
}

// refusedFor is how long a refusal counts. A node that has just come back may
// refuse, before its first look at its Ollama, what its members' views already
// say it has.
const refusedFor = time.Second

// wasTried reports whether m has failed this request. A member that died and
// came back is another one.
func (f *flight) wasTried(m *mesh.Member) bool {
	return slices.ContainsFunc(f.tried, func(t trial) bool {
		return t.node == m.ID && !m.Since.After(t.at) && !(t.refused && time.Since(t.at) > refusedFor)
	}) ||
		slices.Contains(f.full, m.ID) || f.path == Exact && slices.Contains(f.unable, m.ID)
}

func (f *flight) exclude(id mesh.NodeID, refused bool) {
	f.tried = append(f.tried, trial{node: id, at: time.Now(), refused: refused})
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
	// close ends the attempt and releases what it holds.
	close func()
	// load reads the owner's load from the trailers, after the body's end.
	load func() *mesh.Load
	// drained tells, after the body's end, that the owner has handed the
	// answer over; nil: it never does.
	drained func() bool
}

// watchdog cancels a context with a cause when nothing fed it for a while. It
// may be used from several goroutines. Feeding it is a clock reading; the timer
// looks when it is due, and again later when there was food meanwhile.
type watchdog struct {
	cancel  context.CancelCauseFunc
	cause   error
	doubt   func() // called in a goroutine after quietFor without food; nil: nobody asks
	timer   *time.Timer
	limit   atomic.Int64 // a time.Duration
	fed     atomic.Int64 // since started
	stopped atomic.Bool
	started time.Time
}

func newWatchdog(cancel context.CancelCauseFunc, cause error, limit time.Duration) *watchdog {
	w := &watchdog{cancel: cancel, cause: cause, started: time.Now()}
	w.limit.Store(int64(limit))
	w.timer = time.AfterFunc(limit, w.look)
	return w
}

// ask makes it call doubt, and look that often, from now on. It is called
// before the watchdog is shared.
func (w *watchdog) ask(doubt func()) { w.doubt = doubt }

// allow changes the limit and starts it anew.
func (w *watchdog) allow(limit time.Duration) {
	w.limit.Store(int64(limit))
	w.feed()
	if !w.stopped.Load() {
		w.timer.Reset(w.next(0))
	}
}

// next is when to look again after so long without food.
func (w *watchdog) next(hungry time.Duration) time.Duration {
	left := time.Duration(w.limit.Load()) - hungry
	if w.doubt != nil {
		left = min(left, quietFor)
	}
	return max(left, 0)
}

func (w *watchdog) look() {
	if w.stopped.Load() {
		return
	}
	hungry := time.Since(w.started) - time.Duration(w.fed.Load())
	if hungry >= time.Duration(w.limit.Load()) {
		w.cancel(w.cause)
		return
	}
	switch {
	case w.doubt == nil:
		w.timer.Reset(w.next(hungry))
	case hungry >= quietFor:
		w.doubt() // in the timer's goroutine
		if !w.stopped.Load() {
			w.timer.Reset(w.next(hungry))
		}
	default:
		w.timer.Reset(min(w.next(hungry), quietFor-hungry))
	}
}

func (w *watchdog) feed() { w.fed.Store(int64(time.Since(w.started))) }

func (w *watchdog) stop() {
	w.stopped.Store(true)
	w.timer.Stop()
}

// watchedReader feeds its watchdog with every byte that comes.
type watchedReader struct {
	io.Reader
	dog *watchdog
}

func (r watchedReader) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	if err != nil {
		r.dog.stop()
	} else {
		r.dog.feed()
	}
	return n, err
}
