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

	attempts int                           // tries so far, the running one included
	spent    int                           // of these, tries that may have cost a GPU work
	repicks  int                           // refusals that led to a new choice
	tried    []mesh.NodeID                 // never asked again
	starts   map[mesh.NodeID]time.Duration // when owners that refused could start
	log      *slog.Logger
}

func (f *flight) wasTried(id mesh.NodeID) bool { return slices.Contains(f.tried, id) }

// told keeps when an owner that refused could start the request: its own word,
// and newer than any report.
func (f *flight) told(e *AttemptError) {
	if e.RetryAfter <= 0 {
		return
	}
	if f.starts == nil {
		f.starts = make(map[mesh.NodeID]time.Duration)
	}
	f.starts[e.Node] = e.RetryAfter
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
}

// watchdog cancels a context with a cause when nothing fed it for a while. It
// may be used from several goroutines.
type watchdog struct {
	timer *time.Timer
	limit atomic.Int64 // a time.Duration
}

func newWatchdog(cancel context.CancelCauseFunc, cause error, limit time.Duration) *watchdog {
	w := &watchdog{timer: time.AfterFunc(limit, func() { cancel(cause) })}
	w.limit.Store(int64(limit))
	return w
}

// allow changes the limit and starts it anew.
func (w *watchdog) allow(limit time.Duration) {
	w.limit.Store(int64(limit))
	w.feed()
}

func (w *watchdog) feed() { w.timer.Reset(time.Duration(w.limit.Load())) }
func (w *watchdog) stop() { w.timer.Stop() }

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
