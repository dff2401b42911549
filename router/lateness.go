package router

import (
	"time"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/backend"
)

// Lateness is what the request's own stay weighs beyond its length: the growth
// of C^2/(2*patience) from now to its end, for a stay of C seconds (see
// [backend.Patience]).
func (e Estimate) Lateness() time.Duration { return e.lateness(e.Age.Seconds()) }

func (e *Estimate) lateness(age float64) time.Duration {
	c := e.Completion().Seconds()
	return seconds(c * (c + 2*age) / (2 * backend.Patience.Seconds()))
}
