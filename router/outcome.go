package router

import (
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh"
)

// Phase is how far an attempt got.
type Phase uint8

// The phases of an attempt.
const (
	PhaseDial   Phase = iota // no connection: nothing was sent
	PhaseHeader              // sent, no answer yet
	PhaseStream              // the client has a part of the answer
)

func (p Phase) String() string {
	return [...]string{"dial", "header", "stream"}[p]
}

// Causes of a failed attempt, for [errors.Is]; they are also the causes that an
// attempt's context ends with.
var (
	ErrClientGone = errors.New("router: client gone")
	ErrSilent     = errors.New("router: owner gives no sign of life")
	ErrRefused    = errors.New("router: owner refused")
	ErrStatus     = errors.New("router: owner answered with an error")
	ErrCut        = errors.New("router: answer ended too early")
)

// AttemptError says how one try at one candidate failed.
type AttemptError struct {
	Node  mesh.NodeID
	Name  string
	Phase Phase
	Err   error // one of the causes above, a member's cause, or a transport error

	// Set with ErrStatus and ErrRefused.
	Status     int
	Header     http.Header
	Body       []byte
	Refusal    string // the owner's word for it, "" when the answer is its Ollama's
	RetryAfter time.Duration

	queued bool // it waited in the owner's queue: no work was done
}

func (e *AttemptError) Error() string {
	return fmt.Sprintf("attempt on %s in phase %s: %v", e.Name, e.Phase, e.Err)
}

func (e *AttemptError) Unwrap() error { return e.Err }

// Action is what follows a failed attempt.
type Action uint8

// The actions that can follow a failed attempt.
const (
	GiveUp  Action = iota // stop, say so
	TryNext               // the next candidate
	TryOnce               // the next candidate, once; then relay this answer
	Repick                // choose again with the fresher load that the refusal brought
	Relay                 // this is the answer: relay it
	Resume                // continue the stream on the next candidate
)

func (a Action) String() string {
	return [...]string{"give up", "try next", "try once", "repick", "relay", "resume"}[a]
}

// Next decides what follows the failure: a pure table over the phase reached
// and the cause, never over error text. repeatable says whether the request
// may run twice (inference and reads may, a pull may not).
func (e *AttemptError) Next(repeatable bool) Action {
	if errors.Is(e.Err, ErrClientGone) || errors.Is(e.Err, ErrStopping) {
		return GiveUp
	}
	switch e.Phase {
	case PhaseDial:
		return TryNext
	case PhaseStream:
		return Resume
	}
	switch {
	case errors.Is(e.Err, ErrRefused) && (e.Refusal == RefusedLate || e.Refusal == RefusedMoved):
		return Repick
	case errors.Is(e.Err, ErrRefused), errors.Is(e.Err, ErrDraining):
		return TryNext // refused before any work was done
	case errors.Is(e.Err, ErrStatus):
		return nextByStatus(e.Status, repeatable)
	case repeatable:
		return TryNext
	}
	return GiveUp
}

func nextByStatus(status int, repeatable bool) Action {
	switch {
	case !repeatable:
		return Relay
	case status == http.StatusNotFound, status < 400:
		// The view may be older than a delete; an error under a 200 may be
		// this node's or the request's own.
		return TryOnce
	case status == http.StatusRequestTimeout, status == http.StatusTooManyRequests, status >= 500:
		return TryNext
	}
	return Relay
}

// Sick reports whether the failure speaks against the node: a client that
// leaves, a full queue or a bad request does not.
func (e *AttemptError) Sick() bool {
	switch {
	case e.amicable(), errors.Is(e.Err, ErrClientGone), errors.Is(e.Err, ErrDiffers), errors.Is(e.Err, ErrStopping):
		return false // a refusal brings the load that says what is wrong
	case errors.Is(e.Err, ErrStatus):
		return e.Status >= 500 && e.Status != http.StatusServiceUnavailable
	}
	return true
}

// free reports whether the attempt cost no GPU any work: the owner refused it,
// gave it back, or was lost while the request waited in its queue. It does not
// count against the tries of a request, and its node may be asked again.
func (e *AttemptError) free() bool { return e.amicable() || e.queued }

// costly reports whether the attempt may have cost a GPU work in vain, so that
// it counts against the tries of a request. An Ollama whose queue is full says
// so before any, and has said it: it is not asked again.
func (e *AttemptError) costly() bool {
	return e.Phase != PhaseDial && !e.free() && !(errors.Is(e.Err, ErrStatus) && e.Status == http.StatusServiceUnavailable)
}

// amicable reports whether the attempt ended in agreement with its owner: it is
// no retry, and no try that counts.
func (e *AttemptError) amicable() bool {
	return errors.Is(e.Err, ErrRefused) || errors.Is(e.Err, ErrDraining)
}

// lostWork reports whether the owner, or its Ollama, was lost at work before a
// byte of it. An owner whose Ollama broke off says 502 and no more.
func (e *AttemptError) lostWork() bool {
	if errors.Is(e.Err, ErrStatus) {
		return e.Status == http.StatusBadGateway && len(e.Body) == 0
	}
	return e.Phase == PhaseHeader && e.Sick()
}
