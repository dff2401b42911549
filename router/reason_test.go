package router

import (
	"errors"
	"io"
	"testing"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh"
)

func TestResult(t *testing.T) {
	tests := []struct {
		e    AttemptError
		want string
	}{
		{AttemptError{Phase: PhaseDial, Err: errors.New("connection refused by 10.0.0.1")}, "unreachable"},
		{AttemptError{Phase: PhaseHeader, Err: io.ErrUnexpectedEOF}, "broken"},
		{AttemptError{Phase: PhaseStream, Err: io.ErrUnexpectedEOF}, "broken"},
		{AttemptError{Phase: PhaseHeader, Err: ErrSilent}, "silent"},
		{AttemptError{Phase: PhaseHeader, Err: mesh.ErrMemberFailed}, "died"},
		{AttemptError{Phase: PhaseHeader, Err: mesh.ErrMemberLeft}, "left"},
		{AttemptError{Phase: PhaseStream, Err: ErrCut}, "cut"},
		{AttemptError{Phase: PhaseHeader, Err: ErrRefused, Refusal: RefusedMoved}, "moved"},
		{AttemptError{Phase: PhaseDial, Err: ErrClientGone}, "client-gone"},
		{AttemptError{Phase: PhaseHeader, Err: ErrRefused, Refusal: RefusedLate}, "refused-late"},
		{AttemptError{Phase: PhaseHeader, Err: ErrRefused, Refusal: "a word of its own"}, "refused"},
		{AttemptError{Phase: PhaseHeader, Err: ErrStatus, Status: 503}, "busy"},
		{AttemptError{Phase: PhaseHeader, Err: ErrStatus, Status: 404}, "missing"},
		{AttemptError{Phase: PhaseHeader, Err: ErrStatus, Status: 400}, "rejected"},
		{AttemptError{Phase: PhaseHeader, Err: ErrStatus, Status: 500}, "error"},
		{AttemptError{Phase: PhaseStream, Err: ErrStatus, Status: 200}, "error"},
	}
	for _, tt := range tests {
		if got := tt.e.Result(); got != tt.want {
			t.Errorf("%v (status %d): %q, want %q", &tt.e, tt.e.Status, got, tt.want)
		}
	}
}
