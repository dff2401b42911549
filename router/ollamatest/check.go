package ollamatest

import (
	"errors"
	"fmt"
	"strconv"
)

// Answer is what [Parse] finds in a text.
type Answer struct {
	Tokens int      // tokens, numbered 0 to Tokens-1 without gap, doubling or disorder
	Chains []string // the chains in order: one, unless a sampled answer was continued
}

// ErrSequence is matched by every error of [Parse], [Check] and [Verify].
var ErrSequence = errors.New("ollamatest: not one whole answer")

// Parse reads the text of an answer and tells whether every token is there,
// once and in order. The chain may change on the way, which is how a sampled
// answer looks after a continuation. The first blank may be missing: thinking
// parsers trim it.
func Parse(text string) (Answer, error) {
	var a Answer
	bad := func(at int, format string, args ...any) (Answer, error) {
		return a, fmt.Errorf("%w: %s at byte %d", ErrSequence, fmt.Sprintf(format, args...), at)
	}
	rest, at := text, 0
	if rest != "" && rest[0] != ' ' {
		rest, at = " "+rest, -1
	}
	for rest != "" {
		size := answerLen(rest)
		if size == 0 {
			return bad(max(at, 0), "%q instead of token %d", clip(rest), a.Tokens)
		}
		chain := rest[1:5]
		n, _ := strconv.Atoi(rest[6:size])
		switch {
		case n < a.Tokens:
			return bad(at, "token %d again, where %d was due", n, a.Tokens)
		case n > a.Tokens:
			return bad(at, "token %d, where %d was due (%d lost)", n, a.Tokens, n-a.Tokens)
		}
		if len(a.Chains) == 0 || a.Chains[len(a.Chains)-1] != chain {
			a.Chains = append(a.Chains, chain)
		}
		a.Tokens++
		rest, at = rest[size:], at+size
	}
	if a.Tokens == 0 {
		return bad(0, "no token")
	}
	return a, nil
}

// Check reports whether text is one unbroken answer: all its tokens in order
// and of one chain. It cannot know whether more should have come; see [Verify].
func Check(text string) error {
	a, err := Parse(text)
	if err == nil && len(a.Chains) > 1 {
		err = fmt.Errorf("%w: chain changes from %s to %s", ErrSequence, a.Chains[0], a.Chains[1])
	}
	return err
}

// Verify is [Check] for an answer that must have n tokens.
func Verify(text string, n int) error {
	if err := Check(text); err != nil {
		return err
	}
	if a, _ := Parse(text); a.Tokens != n {
		return fmt.Errorf("%w: %d tokens, want %d", ErrSequence, a.Tokens, n)
	}
	return nil
}

// Expect returns the first n tokens that the named model answers to a prompt
// in rendered form at temperature 0, with no sampling option set by the
// request. [Server.Render] renders messages.
func (s *Server) Expect(model, rendered string, n int) (string, error) {
	e, err := s.catalog.find(model)
	if err != nil {
		return "", err
	}
	o, err := s.options(e, map[string]any{"temperature": 0.0})
	if err != nil {
		return "", err
	}
	end := endingOf(rendered)
	_, chain := end.chains(e.Weights, rendered, s.sampling(o))
	var b []byte
	for i := range n {
		b = appendAnswer(b, chain, end.content.next+i)
	}
	return string(b), nil
}

// clip shortens a text for an error message.
func clip(s string) string {
	if len(s) > 24 {
		return s[:24] + "..."
	}
	return s
}
