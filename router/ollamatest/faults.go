package ollamatest

import (
	"cmp"
	"math/rand/v2"
	"slices"
	"sync"
	"time"
)

// Kind names what a [Fault] does. The comment says to whom it happens: a
// request before its answer starts, an answer after some tokens, or a load.
type Kind string

const (
	Status Kind = "status" // request: answered with Fault.Status and Fault.Text
	Busy   Kind = "busy"   // request: 503 as from a full queue
	Reset  Kind = "reset"  // request: connection reset before any header
	Hang   Kind = "hang"   // request: no answer until the client leaves, or Fault.Delay is over

	Die       Kind = "die"       // answer: connection reset, as when the server is killed
	CleanEOF  Kind = "eof"       // answer: ends like a whole one, but without its last record
	Stall     Kind = "stall"     // answer: pauses for Fault.Delay, or until the client leaves
	Drip      Kind = "drip"      // answer: every further frame takes Fault.Delay, in pieces of Fault.Size bytes
	Malformed Kind = "malformed" // answer: one frame that is no JSON, then goes on
	HugeLine  Kind = "huge"      // answer: one frame of Fault.Size bytes of text, then goes on
	ErrorLine Kind = "error"     // answer: ends in Ollama's error record, as when generation fails
	Crash     Kind = "crash"     // answer: the model's runner dies; all its requests end as with ErrorLine
	Freeze    Kind = "freeze"    // answer: [Server.Freeze], with Thaw after Fault.Delay if that is not 0
	Kill      Kind = "kill"      // answer: [Server.Kill]

	SlowLoad Kind = "slow load" // load: takes Fault.Delay
	FailLoad Kind = "fail load" // load: ends in 500 with Fault.Text
)

// Always is a value of [Fault.Times].
const Always = -1

// Fault is something that goes wrong, for the requests that it matches.
type Fault struct {
	Kind Kind

	Path  string // exact path; "" = every inference route, "*" = every route
	Model string // any spelling; "" = every model

	// Times is how many matching requests are hit, one after the other: 0
	// means one, Always all. With a Probability each request is hit or not by
	// chance, and 0 means all.
	Times       int
	Probability float64

	After  int           // tokens that are sent first; for answers
	Half   bool          // half of the next frame is sent too; for Die and CleanEOF
	Status int           // default 500
	Text   string        // error text or body
	Delay  time.Duration // for Hang, Stall, Drip, Freeze, SlowLoad
	Size   int           // bytes; default 1 MiB for HugeLine, whole frames for Drip
}

// text is the fault's text or a default.
func (f *Fault) text(or string) string { return cmp.Or(f.Text, or) }

// stage is when a fault strikes.
type stage int

const (
	atRequest stage = iota
	atAnswer
	atLoad
)

func (k Kind) stage() stage {
	switch k {
	case Status, Busy, Reset, Hang:
		return atRequest
	case SlowLoad, FailLoad:
		return atLoad
	}
	return atAnswer
}

// faults is the script of a server.
type faults struct {
	stats *recorder

	mu     sync.Mutex
	rand   *rand.Rand
	active []*scripted
}

type scripted struct {
	Fault
	model string // key of its name, "" = any
	left  int    // hits left, Always = no limit
}

func newFaults(seed uint64, stats *recorder) *faults {
	return &faults{stats: stats, rand: rand.New(rand.NewPCG(seed, 0xfa))}
}

// Fault adds a fault to the script. Of several that match a request at the
// same stage, the one added first strikes. The returned function takes it back.
func (s *Server) Fault(f Fault) (remove func()) { return s.faults.add(f) }

// ClearFaults empties the script. Faults that have struck stay so.
func (s *Server) ClearFaults() { s.faults.clear() }

func (fs *faults) add(f Fault) (remove func()) {
	entry := &scripted{Fault: f, left: f.Times}
	if f.Model != "" {
		entry.model = parseName(f.Model).key()
	}
	if f.Times == 0 {
		entry.left = 1
		if f.Probability > 0 {
			entry.left = Always
		}
	}
	fs.mu.Lock()
	fs.active = append(fs.active, entry)
	fs.mu.Unlock()
	return func() {
		fs.mu.Lock()
		defer fs.mu.Unlock()
		fs.active = slices.DeleteFunc(fs.active, func(e *scripted) bool { return e == entry })
	}
}

func (fs *faults) clear() {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	fs.active = nil
}

// any reports whether there is a script at all.
func (fs *faults) any() bool {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	return len(fs.active) > 0
}

// pick returns the fault that strikes now, or nil.
func (fs *faults) pick(at stage, path, model string) *Fault {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	key := ""
	if model != "" {
		key = parseName(model).key()
	}
	for i, e := range fs.active {
		if e.Kind.stage() != at || e.model != "" && e.model != key || at != atLoad && !matches(e.Path, path) {
			continue
		}
		if e.Probability > 0 && fs.rand.Float64() >= e.Probability {
			continue
		}
		if e.left--; e.left == 0 {
			fs.active = slices.Delete(fs.active, i, i+1)
		} else if e.left < 0 {
			e.left = Always
		}
		if at != atAnswer { // an answer may end before its fault strikes
			fs.stats.fault()
		}
		hit := e.Fault
		return &hit
	}
	return nil
}

func matches(pattern, path string) bool {
	switch pattern {
	case "":
		return inferenceRoutes[path]
	case "*":
		return true
	}
	return pattern == path
}
