package router

import (
	"bytes"
	"time"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/wire"
)

// maxStory bounds the text of one answer that is kept for a continuation,
// bytes: more than any model writes in a day at 10 tokens a second.
const maxStory = 4 << 20

// maxFirst bounds the kept first frame; it is read for the answer's id.
const maxFirst = 4 << 10

// story is what a client has of its answer so far, over all nodes that have
// written it.
type story struct {
	first    []byte // the first frame
	text     []byte
	thinking []byte
	tokens   int  // pieces of text: at most the number of tokens
	marks    int  // frames without text
	calls    bool // a tool call, or a part of one
	finished bool // the reason why generation ended
	blocks   wire.Blocks
	over     bool // longer than maxStory, or not readable

	began  time.Time // when the first piece came
	latest time.Time // and the last one
}

// add notes a frame that is about to go to the client.
func (s *story) add(f wire.Frame, c *wire.Chunk, now time.Time) {
	if s.first == nil && !c.Empty && len(f.Raw) <= maxFirst {
		s.first = bytes.Clone(f.Raw)
	}
	switch {
	case c.Empty:
		return
	case c.Malformed:
		s.over = true // what it said is not known
		return
	}
	s.blocks.Add(c)
	s.calls = s.calls || c.ToolCalls
	s.finished = s.finished || c.DoneReason != ""
	if !c.HasText() {
		s.marks++
		return
	}
	if !s.room() {
		return
	}
	s.text = c.AppendText(s.text)
	s.thinking = c.AppendThinking(s.thinking)
	s.piece(now)
}

// wrote notes text that this node itself has put into a frame.
func (s *story) wrote(text, thinking []byte, now time.Time) {
	if len(text)+len(thinking) == 0 || !s.room() {
		return
	}
	s.text = append(s.text, text...)
	s.thinking = append(s.thinking, thinking...)
	s.piece(now)
}

func (s *story) room() bool {
	if len(s.text)+len(s.thinking) > maxStory {
		s.over, s.text, s.thinking = true, nil, nil
	}
	return !s.over
}

func (s *story) piece(now time.Time) {
	s.tokens++
	if s.began.IsZero() {
		s.began = now
	}
	s.latest = now
}

// empty reports whether the client has nothing of the answer but marks.
func (s *story) empty() bool { return s.tokens == 0 && !s.over }
