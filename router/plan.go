package router

import "github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/wire"

// Path is how a broken answer goes on.
type Path uint8

// The paths.
const (
	// Fresh is no continuation: the first run of a request.
	Fresh Path = iota
	// Exact gives the model its own text so far and lets it go on.
	Exact
	// Restart runs the request anew and leaves out what the client has, after
	// checking that it is the same.
	Restart
	// Finish ends the answer here: nothing of it is missing.
	Finish
	// Refuse ends it with an error: nobody could go on honestly.
	Refuse
)

func (p Path) String() string {
	return [...]string{"fresh", "exact", "restart", "finish", "refuse"}[p]
}

// plan decides how an answer goes on that broke off after s, and for Refuse
// says why, in words for the caller. It is a pure table; CONTINUATION.md gives
// the experiments behind it.
func plan(kind wire.Kind, p *wire.Peek, s *story) (Path, string) {
	switch {
	case s.over:
		return Refuse, "what came of it is too long to go on from"
	case s.finished && wire.Composes(kind):
		return Finish, ""
	case s.calls:
		// A second run may call another tool, or the same one twice.
		return Refuse, "a tool call was already sent"
	case s.empty():
		return Restart, "" // any run will do: there is nothing to be different from
	case p.NumPredict > 0 && s.tokens >= p.NumPredict && wire.Composes(kind):
		return Finish, ""
	}
	repeats := repeatable(p)
	reason := obstacle(kind, p)
	if reason == "" && kind == wire.V1Messages && len(s.thinking) > 0 {
		reason = "an answer with thinking, of this API,"
	}
	switch {
	case reason == "" && !seeded(p) && (len(s.thinking) == 0 || !repeats):
		return Exact, ""
	case repeats:
		return Restart, ""
	}
	return Refuse, reason + " cannot go on elsewhere, and at this temperature a second run would say something else"
}

// again is the path when no candidate could take the answer on exactly.
func again(p *wire.Peek, s *story) (Path, string) {
	if repeatable(p) || s.empty() {
		return Restart, ""
	}
	return Refuse, "no other node can take it up, and at this temperature a second run would say something else"
}

// repeatable reports whether a second run of the request says the same:
// greedy decoding, or a fixed seed.
func repeatable(p *wire.Peek) bool {
	return p.Temperature != nil && *p.Temperature == 0 || p.Seed != nil && *p.Seed >= 0
}

// seeded reports whether the request draws its tokens from a seed of its own.
// Begun in the middle, the draws would be others.
func seeded(p *wire.Peek) bool {
	return p.Seed != nil && *p.Seed >= 0 && (p.Temperature == nil || *p.Temperature != 0)
}

// obstacle names what keeps a request from going on exactly, "" nothing.
func obstacle(kind wire.Kind, p *wire.Peek) string {
	switch {
	case !wire.Composes(kind):
		return "this API"
	case p.HasFormat:
		return "an answer in a given format" // the grammar would begin again at its root
	case p.HasTools:
		return "an answer that may call tools" // held-back text is lost
	case p.HasSuffix:
		return "filling in the middle"
	case p.HasContext:
		return "an answer to a token context"
	case p.HasLogprobs:
		return "an answer with log probabilities"
	case p.HasImages:
		return "an answer about images"
	}
	return ""
}
