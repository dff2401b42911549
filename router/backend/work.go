package backend

import (
	"errors"
	"fmt"
	"time"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/wire"
)

// Work is one request as the gate sees it: whose it is and how large, no text.
type Work struct {
	ID   string // for Progress and people; unique among running requests, or ""
	Key  string // canonical model name
	Blob string // digest of the weights; "": as the catalog says

	PromptTokens int
	OutputTokens int // the caller's upper bound; 0 when it set none
	Context      int // num_ctx asked for; 0: the model's default

	Client string // whom fairness counts it for
	Batch  bool   // after all interactive requests

	// Promise is the wait that the ingress assumed when it chose this node. A
	// start later than that by LateMargin is refused with ErrLate, because
	// another node may do better. Negative: no promise, wait as long as it
	// takes.
	Promise time.Duration
	// Slow is how much longer than alone the ingress assumed that it will take,
	// for what else runs here; 0: it did not say. Where more has begun since, so
	// that the answer would end later by LateMargin, it is refused with ErrLate,
	// unless it has no promise.
	Slow float64
	// NoWait refuses with ErrSaturated instead of waiting for a slot.
	NoWait bool

	// Notify, if set, is told the place in the queue (1 is next) and the
	// expected time until the start, when the queue changes, up to four times a
	// second, and at least once a second while the request waits. It is called from Enter's own
	// goroutine, one call at a time, holding no lock, and never after Enter has
	// returned; it may cancel Enter's context.
	Notify func(position int, start time.Duration)
}

// LateMargin is how much later than promised a start, or an end, may be before
// the request is refused: half a second or a quarter of the promise, whichever is more. A
// refusal costs a round trip and a new choice, some milliseconds, and the
// ingress estimated with a load that was up to a second old; below the margin
// the difference is noise.
func LateMargin(promise time.Duration) time.Duration {
	return max(500*time.Millisecond, promise/4)
}

// Usage is what a request has used, as Ollama counted it; the zero Usage when
// it brought no answer.
type Usage struct {
	wire.Usage
	Took time.Duration // from admission to the end, as the caller saw it
}

// The reasons of a [Refused], for errors.Is.
var (
	ErrSaturated = errors.New("backend: queue is full")
	ErrDraining  = errors.New("backend: node is draining")
	ErrLate      = errors.New("backend: start is later than promised")
	ErrDown      = errors.New("backend: ollama is down")
	ErrNoModel   = errors.New("backend: model is not on this node")
)

// Refused is the gate's no: nothing has been done for the request and nothing
// is held for it.
type Refused struct {
	Reason error // one of the reasons above
	// RetryAfter is when the same request could start here, as far as the gate
	// can tell; 0 unknown or never.
	RetryAfter time.Duration
	// Load is this node's load as of the refusal, so that the next choice is
	// made from newer truth; nil when the gate does not know it.
	Load *mesh.Load
}

func (r *Refused) Error() string {
	if r.RetryAfter > 0 {
		return fmt.Sprintf("%v (start in about %v)", r.Reason, r.RetryAfter.Round(100*time.Millisecond))
	}
	return r.Reason.Error()
}

// Unwrap returns the reason.
func (r *Refused) Unwrap() error { return r.Reason }

// Ticket is one waiting request, for people and for the router's own look.
type Ticket struct {
	ID       string        `json:"id"`
	Key      string        `json:"key"`
	Client   string        `json:"client"`
	Batch    bool          `json:"batch,omitzero"`
	Since    time.Time     `json:"since"`
	Position int           `json:"position"` // 1 is next
	Start    time.Duration `json:"start"`    // ns until it is expected to start
}
