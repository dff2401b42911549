package router

import (
	"net/http"
	"time"
)

// Record is what became of one client request at this node: numbers and names,
// never a word of the prompt or the answer. A Record that was handed out is
// the caller's own.
type Record struct {
	ID       string    `json:"id"`
	Route    string    `json:"route"` // of Ollama, as a word
	Model    string    `json:"model"` // canonical name; "" when the request named none
	Known    bool      `json:"known"` // some node had the model when the request came
	Stream   bool      `json:"stream"`
	Start    time.Time `json:"start"`
	Owner    string    `json:"owner"` // name of the node that answered, or is asked now
	Attempts []Attempt `json:"attempts"`
	// Continued counts the times that a broken answer was taken on elsewhere.
	Continued    int     `json:"continued"`
	Status       int     `json:"status"`        // of HTTP; 0 when the client left before there was one
	Outcome      Outcome `json:"outcome"`       // "" while it runs
	PromptTokens int     `json:"prompt_tokens"` // as Ollama counted them, else as estimated
	OutputTokens int     `json:"output_tokens"`
	First        float64 `json:"ttft_seconds"` // until the first byte of the answer; 0: none yet
	Took         float64 `json:"took_seconds"`
	Rate         float64 `json:"tokens_per_second"` // while it wrote; 0 unknown

	// Inference reports that the request ran a model, or wanted to.
	Inference bool `json:"inference"`

	eval time.Duration // that Ollama says it wrote for
}

// Attempt is one try at one node.
type Attempt struct {
	Node   string  `json:"node"`
	Phase  string  `json:"phase"`  // how far it got: dial, header, stream
	Result string  `json:"result"` // ResultOK, or what [AttemptError.Result] says; "" while it runs
	Took   float64 `json:"took_seconds"`
}

// Outcome is what a client got, as a word of a small set.
type Outcome string

// The outcomes of a request.
const (
	OutcomeOK         Outcome = "ok"
	OutcomeClientGone Outcome = "client-gone" // left before it had all of its answer
	OutcomeCut        Outcome = "cut"         // the answer ended in an error
	OutcomeRejected   Outcome = "rejected"    // the request itself was wrong
	OutcomeNotFound   Outcome = "not-found"   // no node has the model, or there is no such route
	OutcomeBusy       Outcome = "busy"        // nobody could serve it now
	OutcomeError      Outcome = "error"
)

// outcomeOf is the outcome of an answer that ended with the given status; 0
// when none was written, because nobody was there to read it.
func outcomeOf(status int) Outcome {
	switch {
	case status == 0:
		return OutcomeClientGone
	case status < 400:
		return OutcomeOK
	case status == http.StatusNotFound, status == http.StatusMethodNotAllowed:
		return OutcomeNotFound
	case status == http.StatusTooManyRequests, status == http.StatusServiceUnavailable:
		return OutcomeBusy
	case status < 500:
		return OutcomeRejected
	}
	return OutcomeError
}
