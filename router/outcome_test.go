package router

import (
	"errors"
	"io"
	"net/http"
	"testing"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh"
)

func TestNext(t *testing.T) {
	status := func(code int) AttemptError {
		return AttemptError{Phase: PhaseHeader, Err: ErrStatus, Status: code}
	}
	refused := func(reason string) AttemptError {
		return AttemptError{Phase: PhaseHeader, Err: ErrRefused, Refusal: reason}
	}
	reset := io.ErrUnexpectedEOF
	tests := []struct {
		name      string
		e         AttemptError
		inference Action
		pull      Action // what may not run twice
		sick      bool
	}{
		{"dial refused", AttemptError{Phase: PhaseDial, Err: errors.New("refused")}, TryNext, TryNext, true},
		{"dial, client gone", AttemptError{Phase: PhaseDial, Err: ErrClientGone}, GiveUp, GiveUp, false},
		{"header reset", AttemptError{Phase: PhaseHeader, Err: reset}, TryNext, GiveUp, true},
		{"header silent", AttemptError{Phase: PhaseHeader, Err: ErrSilent}, TryNext, GiveUp, true},
		{"header, member failed", AttemptError{Phase: PhaseHeader, Err: mesh.ErrMemberFailed}, TryNext, GiveUp, true},
		{"header, client gone", AttemptError{Phase: PhaseHeader, Err: ErrClientGone}, GiveUp, GiveUp, false},
		{"refused late", refused(RefusedLate), Repick, Repick, false},
		{"refused full", refused(RefusedSaturated), TryNext, TryNext, false},
		{"refused draining", refused(RefusedDraining), TryNext, TryNext, false},
		{"refused, ollama down", refused(RefusedDown), TryNext, TryNext, false},
		{"waits for another node", AttemptError{Phase: PhaseHeader, Err: ErrRefused, Refusal: RefusedMoved}, Repick, Repick, false},
		{"400 is the caller's", status(http.StatusBadRequest), Relay, Relay, false},
		{"422 is the caller's", status(http.StatusUnprocessableEntity), Relay, Relay, false},
		{"404 may be an old view", status(http.StatusNotFound), TryOnce, Relay, false},
		{"429", status(http.StatusTooManyRequests), TryNext, Relay, false},
		{"500", status(http.StatusInternalServerError), TryNext, Relay, true},
		{"503 busy", status(http.StatusServiceUnavailable), TryNext, Relay, false},
		{"error under a 200", status(http.StatusOK), TryOnce, Relay, false},
		{"stream reset", AttemptError{Phase: PhaseStream, Err: reset}, Resume, Resume, true},
		{"stream cut", AttemptError{Phase: PhaseStream, Err: ErrCut}, Resume, Resume, true},
		{"handed over, no byte yet", AttemptError{Phase: PhaseHeader, Err: ErrDraining}, TryNext, TryNext, false},
		{"stream handed over", AttemptError{Phase: PhaseStream, Err: ErrDraining}, Resume, Resume, false},
		{"this node stops", AttemptError{Phase: PhaseHeader, Err: ErrStopping}, GiveUp, GiveUp, false},
		{"stream, client gone", AttemptError{Phase: PhaseStream, Err: ErrClientGone}, GiveUp, GiveUp, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := tt.e.Next(true); got != tt.inference {
				t.Errorf("repeatable: %v, want %v", got, tt.inference)
			}
			if got := tt.e.Next(false); got != tt.pull {
				t.Errorf("not repeatable: %v, want %v", got, tt.pull)
			}
			if got := tt.e.Sick(); got != tt.sick {
				t.Errorf("speaks against the node: %v, want %v", got, tt.sick)
			}
		})
	}
}
