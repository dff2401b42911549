package router

import (
	"bytes"
	"errors"
	"time"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/wire"
)

// ErrDiffers says that a second run of a request said something else than the
// first, so that the rest of it is no continuation.
var ErrDiffers = errors.New("router: a second run says something else")

// passage turns the frames of an owner's answer into what the client gets, where
// that is something else.
type passage interface {
	// pass appends to dst what goes to the client for one frame.
	pass(dst []byte, f wire.Frame, c *wire.Chunk) ([]byte, error)
}

// skipper passes the frames of a second run, but for what the client has of
// the first.
type skipper struct {
	story    *story
	composer *wire.Composer
	nth      int // which continuation this is

	text, thinking []byte // what is still to be skipped
	marks          int
	marked         bool // marks are counted: their order is part of the dialect
	quiet          bool // nothing was said yet: the note goes first
}

func newSkipper(kind wire.Kind, s *story, composer *wire.Composer, nth int) *skipper {
	k := &skipper{
		story: s, composer: composer, nth: nth, quiet: true,
		text: bytes.Clone(s.text), thinking: bytes.Clone(s.thinking),
	}
	if wire.Ordered(kind) {
		k.marked, k.marks = true, s.marks
	}
	return k
}

// done reports whether all that the client has was seen again.
func (k *skipper) done() bool { return len(k.text)+len(k.thinking)+k.marks == 0 }

func (k *skipper) pass(dst []byte, f wire.Frame, c *wire.Chunk) ([]byte, error) {
	if k.done() {
		k.story.add(f, c, time.Now())
		return k.composer.Rewrite(k.note(dst), f, c.Done, k.nth, Restart.String()), nil
	}
	switch {
	case c.Empty:
		return dst, nil
	case c.Malformed:
		return dst, ErrDiffers
	case !c.HasText():
		return dst, k.mark(c)
	}
	text, thinking := c.AppendText(nil), c.AppendThinking(nil)
	ok := skip(&k.thinking, &thinking) && (len(text) == 0 || len(k.thinking) == 0) && skip(&k.text, &text)
	switch {
	case !ok:
		return dst, ErrDiffers
	case len(text)+len(thinking) == 0:
		return dst, nil
	}
	// This piece began before the cut and ends after it.
	k.story.wrote(text, thinking, time.Now())
	dst = k.note(dst)
	if k.marked {
		return f.Shorten(dst, c, append(thinking, text...)), nil
	}
	if len(thinking) > 0 {
		dst = k.composer.Thinking(dst, thinking)
	}
	if len(text) > 0 {
		dst = k.composer.Text(dst, text)
	}
	return dst, nil
}

// mark skips a frame without text.
func (k *skipper) mark(c *wire.Chunk) error {
	switch {
	case k.marked && k.marks > 0:
		k.marks--
		return nil
	case k.marked, c.Done, c.ToolCalls, c.DoneReason != "":
		return ErrDiffers // it ends, or calls, before the text is through
	}
	return nil
}

func (k *skipper) note(dst []byte) []byte {
	if k.quiet {
		k.quiet = false
		return k.composer.Note(dst, noteText(k.nth, Restart))
	}
	return dst
}

// skip takes what text and rest have in common at their beginning off both;
// false when they differ.
func skip(rest, text *[]byte) bool {
	n := min(len(*rest), len(*text))
	if !bytes.Equal((*rest)[:n], (*text)[:n]) {
		return false
	}
	*rest, *text = (*rest)[n:], (*text)[n:]
	return true
}
