// Package render makes, from a request and what /api/show says of its model,
// the very prompt that Ollama would give to the model. A continuation needs it:
// the answer so far is appended to that prompt and generation goes on from
// there.
//
// It is for Ollamas that do not tell the prompt themselves (before 0.11.5; see
// [Asks]). It covers Go templates only, and says [ErrCannot] for everything
// that it does not know to be the same: a wrong prompt would continue another
// answer.
//
// Everything here is pure: no network, no goroutine.
//
//	q, err := render.Read(wire.Chat, body)       // the caller's request
//	model, err := render.ParseModel(showAnswer)  // the owner's model
//	prompt, err := model.Prompt(q)
//	text, closing, err := model.Resume(prompt, soFar, thoughtSoFar)
package render
