package router

import (
	"errors"
	"net/http"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh"
)

// ResultOK is the result of an attempt that answered.
const ResultOK = "ok"

// Result names how an attempt failed, in a word of a small set that is fit for
// metrics and logs: it never holds an error's text.
func (e *AttemptError) Result() string {
	switch {
	case errors.Is(e.Err, ErrClientGone):
		return "client-gone"
	case errors.Is(e.Err, ErrDraining):
		return "drained"
	case errors.Is(e.Err, ErrStopping):
		return "stopped"
	case errors.Is(e.Err, ErrRefused):
		switch e.Refusal {
		case RefusedMoved:
			return "moved"
		case RefusedSaturated, RefusedLate, RefusedDraining, RefusedDown, RefusedNoModel:
			return "refused-" + e.Refusal
		}
		return "refused"
	case errors.Is(e.Err, mesh.ErrMemberFailed):
		return "died"
	case errors.Is(e.Err, mesh.ErrMemberLeft):
		return "left"
	case errors.Is(e.Err, ErrSilent):
		return "silent"
	case errors.Is(e.Err, ErrCut):
		return "cut"
	case errors.Is(e.Err, ErrStatus):
		return resultOfStatus(e.Status)
	case e.Phase == PhaseDial:
		return "unreachable"
	}
	return "broken"
}

func resultOfStatus(status int) string {
	switch {
	case status == http.StatusTooManyRequests, status == http.StatusServiceUnavailable:
		return "busy"
	case status == http.StatusNotFound:
		return "missing"
	case status >= 400 && status < 500:
		return "rejected"
	}
	return "error"
}
