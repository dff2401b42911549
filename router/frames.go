package router

import (
	"io"
	"time"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/lane"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/wire"
)

// frames relays one stream: what comes of it in one piece is looked at, frame by
// frame, where it lies, and goes out in one.
type frames struct {
	*relay
	a       *answer
	kind    wire.Kind
	through passage // nil: frames go as they come
	scanner *wire.Scanner
	tail    *wire.Tail
	ready   []byte        // whole frames for the client
	end     *AttemptError // when nothing more is taken; nil: the answer is complete, or the client has left
}

// copyFrames relays an answer that comes in frames.
func (o *relay) copyFrames(a *answer) *AttemptError {
	s := &frames{relay: o, a: a}
	s.through, s.kind = o.passage(a)
	s.scanner, s.tail = wire.NewScanner(s.kind.Framing(), 0), wire.NewTail(s.kind)
	defer func() { o.f.trip.used(s.tail.Usage(), s.tail.Chunks()) }()
	if a.meter != nil {
		a.meter.follow(s.tail)
	}
	lane.Flow(a.body, s.take)
	return s.end
}

// passage is how a's frames become the client's, nil as they are, and the kind
// that they are of.
func (o *relay) passage(a *answer) (passage, wire.Kind) {
	f := o.f
	switch f.path {
	case Exact:
		return newCarrier(&f.story, f.composer, f.continued, wire.Field(a.header, headerClosing), f.Arrived), wire.Generate
	case Restart:
		return newSkipper(f.route.Kind, &f.story, f.composer, f.continued), f.route.Kind
	}
	return nil, f.route.Kind
}

// take relays what has come, and what its end means. It reports whether more is
// wanted.
func (s *frames) take(p []byte, err error) (more bool) {
	s.scanner.Lend(p)
	s.ready = s.ready[:0]
	if over := s.whole(time.Now()); over {
		return false
	}
	if err == io.EOF && s.tail.Ended() && s.through == nil { //nolint:errorlint // io.Reader's contract is the bare value
		rest, _ := s.scanner.Rest()
		s.ready = append(s.ready, rest.Raw...)
	}
	if s.a.meter != nil {
		s.a.meter.followed(err)
	}
	if s.write(s.a, s.ready) != nil {
		return false
	}
	if s.through == nil {
		s.ready = nil // not ours
	}
	s.f.trip.pieces.Store(int64(s.f.story.tokens))
	switch {
	case err == nil && !s.movable(s.a):
		return true
	case err == nil:
		s.end = s.broken(s.a, PhaseStream, ErrDraining)
	case err != io.EOF: //nolint:errorlint // as above
		s.end = s.broken(s.a, s.phase(), err)
	case s.tail.Ended():
	case s.a.drained():
		s.end = s.broken(s.a, s.phase(), ErrDraining)
	case s.tail.Runaway():
	default:
		s.end = s.broken(s.a, s.phase(), ErrCut)
	}
	return false
}

// whole takes the frames that are whole; over: the answer ends here.
func (s *frames) whole(now time.Time) (over bool) {
	for {
		frame, ok := s.scanner.Next()
		if !ok {
			return false
		}
		chunk := frame.Inspect(s.kind)
		if chunk.Error != "" || chunk.Swallowed {
			if s.write(s.a, s.ready) == nil {
				s.end = s.errorFrame(s.a, frame.Raw)
			}
			return true
		}
		s.tail.Add(chunk)
		if s.through == nil {
			s.f.story.add(frame, &chunk, now)
			s.ready = behind(s.ready, frame.Raw)
			continue
		}
		var differs error
		odd := chunk // the one that is passed on lives on the heap, and most need not
		if s.ready, differs = s.through.pass(s.ready, frame, &odd); differs != nil {
			s.end = s.broken(s.a, s.phase(), differs)
			return true
		}
	}
}

// behind is ready with the frame that lies behind it in memory.
func behind(ready, frame []byte) []byte {
	if len(ready) == 0 {
		return frame
	}
	return ready[:len(ready)+len(frame)]
}
