package router

import (
	"bytes"
	"cmp"
	"fmt"
	"strings"
	"time"
	"unicode"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/wire"
)

// carrier turns the lines of /api/generate, by which an owner goes on with an
// answer, into frames of the caller's dialect.
type carrier struct {
	story    *story
	composer *wire.Composer
	nth      int // which continuation this is
	before   int // tokens that other nodes have written
	asked    time.Time

	closing string // the tag that ends the thinking which the text goes on inside of; "" none
	held    []byte // text that may be the beginning of closing, or blanks before or after it
	trim    bool   // thinking has ended, nothing came since
	quiet   bool
}

func newCarrier(s *story, composer *wire.Composer, nth int, closing string, asked time.Time) *carrier {
	return &carrier{
		story: s, composer: composer, nth: nth, before: s.tokens, asked: asked, closing: closing, quiet: true,
	}
}

func (k *carrier) pass(dst []byte, _ wire.Frame, c *wire.Chunk) ([]byte, error) {
	if c.Empty || c.Malformed {
		return dst, nil
	}
	thinking, text := k.split(c.AppendThinking(nil), c.AppendText(nil), c.Done)
	now := time.Now()
	k.story.wrote(text, thinking, now)
	if len(thinking) > 0 {
		dst = k.composer.Thinking(k.note(dst), thinking)
	}
	if len(text) > 0 {
		dst = k.composer.Text(k.note(dst), text)
	}
	if c.Done {
		k.story.finished = true
		dst = k.composer.End(k.note(dst), k.final(c, now))
	}
	return dst, nil
}

// final is the end of the whole answer, with what all nodes did for it.
func (k *carrier) final(c *wire.Chunk, now time.Time) wire.Final {
	u := c.Usage
	f := wire.Final{
		Reason: cmp.Or(c.DoneReason, "stop"), Output: k.before + u.OutputTokens,
		// This part's prompt was the first one's and the text so far.
		Prompt: max(u.PromptTokens-k.before, 0),
		Total:  now.Sub(k.asked), Load: u.LoadDuration, PromptEval: u.PromptDuration, Eval: u.EvalDuration,
		Continued: k.nth, Path: Exact.String(),
	}
	if !k.story.began.IsZero() {
		f.Eval = max(f.Eval, now.Sub(k.story.began))
	}
	return f
}

func (k *carrier) note(dst []byte) []byte {
	if k.quiet {
		k.quiet = false
		return k.composer.Note(dst, noteText(k.nth, Exact))
	}
	return dst
}

// split tells thinking from text where the owner's Ollama does not, because to
// it all of this is raw text. last says that nothing more comes.
func (k *carrier) split(thinking, text []byte, last bool) (thought, said []byte) {
	switch {
	case k.trim:
		text = bytes.TrimLeftFunc(text, unicode.IsSpace)
		k.trim = len(text) == 0
		return thinking, text
	case k.closing == "":
		return thinking, text
	}
	k.held = append(append(k.held, thinking...), text...)
	if inside, after, closed := bytes.Cut(k.held, []byte(k.closing)); closed {
		k.held, k.closing, k.trim = nil, "", true
		_, said = k.split(nil, after, last)
		return inside, said
	}
	keep := 0
	if !last {
		keep = overlap(k.held, k.closing)
	}
	thought = bytes.Clone(k.held[:len(k.held)-keep])
	k.held = append(k.held[:0], k.held[len(k.held)-keep:]...)
	return thought, nil
}

// overlap is the length of the longest end of b that tag begins with.
func overlap(b []byte, tag string) int {
	for n := min(len(b), len(tag)-1); n > 0; n-- {
		if strings.HasPrefix(tag, string(b[len(b)-n:])) {
			return n
		}
	}
	return 0
}

// noteText is the comment in a stream that was continued.
func noteText(nth int, p Path) string { return fmt.Sprintf("kage-mesh: continued %d %s", nth, p) }
