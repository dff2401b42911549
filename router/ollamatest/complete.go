package ollamatest

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"time"
)

// errCrash is the injected death of a runner.
var errCrash = errors.New("ollamatest: fault: runner died")

const (
	prefillBatch = 512 // prompt tokens evaluated between two looks at the client, Ollama's num_batch
	imageTokens  = 256 // what an image adds to the prompt
	maxRepeats   = 30  // equal chunks after the first before Ollama gives an answer up
)

// job is one completion.
type job struct {
	wish
	images  int
	context bool // report the context array
	loaded  time.Time
}

// complete runs a job in a slot of the runner and sends the answer.
func (c *call) complete(r *runner, j job, a *answer) error {
	slot, err := r.slot(c.ctx, j.prompt, c.s.stats)
	if err != nil {
		return err
	}
	defer func() { r.giveBack(slot) }()
	model := r.entry.Name
	c.s.stats.begin(c.id, model)
	defer c.s.stats.end(model)

	f := &final{load: max(j.loaded.Sub(c.started), 1)}
	if err := c.prefill(r, slot, j, f); err != nil {
		return err
	}
	said, err := c.speak(r, j, a, f)
	slot.text = j.prompt + said
	if err != nil {
		return err
	}
	f.total = max(time.Since(c.started), 1)
	if j.context {
		f.context = encodeTokens(encodeTokens(nil, j.prompt), said)
	}
	return a.end(f)
}

// prefill evaluates the part of the prompt that is not in the slot's cache.
func (c *call) prefill(r *runner, slot *slot, j job, f *final) error {
	total := min(countTokens(j.prompt)+j.images*imageTokens, j.opts.numCtx)
	fresh := total - slot.cached(j.prompt, total)
	f.promptN = total
	if c.s.cfg.UncachedPromptCount {
		f.promptN = fresh
	}
	start := time.Now()
	if rate := r.entry.Prefill * c.s.cfg.Speed; rate > 0 {
		var p pacer
		for left := fresh; left > 0; left -= prefillBatch {
			p.wait(c.life.ctx.Done(), time.Duration(float64(time.Second)*float64(min(left, prefillBatch))/rate))
			if err := c.ended(r); err != nil {
				return err
			}
		}
	}
	f.prompt = max(time.Since(start), 1)
	return nil
}

// ended tells why work for this request must stop, nil if it need not.
func (c *call) ended(r *runner) error {
	if c.killed() { // the context follows, but in a goroutine of its own
		return errGone
	}
	select {
	case <-c.ctx.Done():
		return errGone
	case <-r.gone:
		return errors.New(brokenText)
	default:
		return nil
	}
}

// speak generates. It returns the text produced, including what is not
// shown.
func (c *call) speak(r *runner, j job, a *answer, f *final) (string, error) {
	d := &c.s.device
	d.start(r)
	defer d.stop(r)
	gen := c.s.generator(j.wish)
	limit := j.opts.numPredict
	if most := 10 * j.opts.numCtx; limit < 0 || limit > most {
		limit = most // Ollama's bound; 0 has none
	}
	var (
		said   strings.Builder
		pace   pacer
		guard  repeats
		stop   = stopper{stops: j.opts.stop}
		start  = time.Now()
		reason = ""
	)
	pace.next = start
	for reason == "" {
		pace.wait(c.life.ctx.Done(), d.step(&c.s.cfg, r))
		if err := c.ended(r); err != nil {
			return said.String(), err
		}
		p, more := gen.next()
		f.evalN += max(p.tokens, 1) // the end of the turn is a token too
		c.s.stats.generated(max(p.tokens, 1))
		switch {
		case !more:
			reason = "stop"
			continue
		case limit > 0 && f.evalN > limit: // its last character would be incomplete
			f.evalN = limit
			reason = "length"
			continue
		}
		said.Write(p.text)
		if err := c.emit(a, &p, &stop); err != nil {
			if errors.Is(err, errCrash) {
				c.s.sched.crash(r)
				err = errors.New(brokenText)
			}
			return said.String(), err
		}
		switch {
		case stop.hit:
			reason = "stop"
		case limit > 0 && f.evalN >= limit:
			reason = "length"
		case guard.tooMany(p):
			f.truncated = true
			reason = "repeats"
		}
	}
	f.eval = max(time.Since(start), 1)
	f.reason = reason
	if rest := stop.rest(); len(rest) > 0 && !f.truncated {
		return said.String(), a.token(content, rest)
	}
	return said.String(), nil
}

// emit sends a piece, as far as it may be shown.
func (c *call) emit(a *answer, p *piece, stop *stopper) error {
	switch {
	case p.calls != nil:
		return a.tools(p.calls)
	case p.hidden:
		return nil
	case p.kind == content:
		if p.text = stop.filter(p.text); len(p.text) == 0 {
			return nil
		}
	}
	return a.token(p.kind, p.text)
}

// stopper cuts the answer at a stop sequence. Text that may be the beginning
// of one is held back.
type stopper struct {
	stops []string
	held  []byte
	hit   bool
}

// filter returns the text that may be shown now.
func (s *stopper) filter(text []byte) []byte {
	if !s.concerns(text) {
		return text
	}
	s.held = append(s.held, text...)
	cut := len(s.held)
	for _, stop := range s.stops {
		if i := bytes.Index(s.held, []byte(stop)); stop != "" && i >= 0 && i < cut {
			cut, s.hit = i, true
		}
	}
	if s.hit {
		out := s.held[:cut]
		s.held = nil
		return out
	}
	keep := 0
	for _, stop := range s.stops {
		for n := min(len(stop)-1, len(s.held)); n > keep; n-- {
			if bytes.HasSuffix(s.held, []byte(stop[:n])) {
				keep = n
			}
		}
	}
	out := bytes.Clone(s.held[:len(s.held)-keep])
	s.held = append(s.held[:0], s.held[len(s.held)-keep:]...)
	return out
}

// concerns is a cheap test that lets most text pass untouched.
func (s *stopper) concerns(text []byte) bool {
	if len(s.held) > 0 {
		return true
	}
	for _, stop := range s.stops {
		if stop != "" && bytes.IndexByte(text, stop[0]) >= 0 {
			return true
		}
	}
	return false
}

// rest is what was held back for a stop that did not come.
func (s *stopper) rest() []byte {
	if s.hit {
		return nil
	}
	return s.held
}

// repeats is Ollama's runaway guard: it counts equal chunks.
type repeats struct {
	last  []byte
	count int
}

// tooMany reports whether p is one too many: the 31st equal chunk is still
// sent, then the answer just ends.
func (g *repeats) tooMany(p piece) bool {
	if p.hidden || len(p.text) == 0 {
		return false
	}
	text := bytes.TrimSpace(p.text)
	if !bytes.Equal(text, g.last) {
		g.last, g.count = append(g.last[:0], text...), 0
		return false
	}
	g.count++
	return g.count >= maxRepeats
}

// checkFormat refuses a format that is neither "json" nor an object, and
// returns nil for one that is not set.
func checkFormat(format []byte) ([]byte, error) {
	switch string(format) {
	case "", "null", `""`:
		return nil, nil
	}
	if string(format) != `"json"` && format[0] != '{' {
		return nil, fmt.Errorf("invalid format: %q; expected \"json\" or a valid JSON Schema object", format)
	}
	return format, nil
}
