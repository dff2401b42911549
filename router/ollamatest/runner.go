package ollamatest

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"
)

var errRunnerGone = errors.New("model runner has unexpectedly stopped, this may be due to resource limitations or an internal error, check ollama server logs for details")

// runner is a loaded model: Ollama's runner process.
type runner struct {
	entry *entry // the name under which it was loaded first
	key   loadKey
	place memory
	born  time.Time
	gone  chan struct{} // closed when it is unloaded or has crashed

	// owned by scheduler.mu
	ready     bool
	owner     *ticket // whose load it is
	loadTimer *time.Timer
	refs      int           // requests that hold it
	keep      time.Duration // keep_alive
	expires   time.Time
	expiry    *time.Timer
	why       purpose // it is unloaded, or will be

	decoding atomic.Int32 // slots that produce tokens now

	mu    sync.Mutex // guards what follows
	free  []*slot    // the least recently used first
	queue []chan *slot
}

// slot is one of the sequences that a runner works on at a time.
type slot struct {
	text string // prompt and answer of its last request: the prompt cache
}

func newRunner(t *ticket, where memory, parallel int) *runner {
	r := &runner{
		entry: t.entry,
		key:   t.opts.loadKey(),
		place: where,
		born:  time.Now(),
		owner: t,
		gone:  make(chan struct{}),
	}
	for range parallel {
		r.free = append(r.free, &slot{})
	}
	return r
}

// remoteSlots is how many requests a cloud model serves at a time.
const remoteSlots = 64

// newRemoteRunner stands for a cloud model, which is always loaded.
func newRemoteRunner(e *entry) *runner {
	r := &runner{entry: e, ready: true, gone: make(chan struct{})}
	for range remoteSlots {
		r.free = append(r.free, &slot{})
	}
	return r
}

// slot waits in order for a free slot; any number may wait. err == nil ⇒ the
// caller must give it back.
func (r *runner) slot(ctx context.Context, prompt string, stats *recorder) (*slot, error) {
	r.mu.Lock()
	if len(r.free) > 0 {
		defer r.mu.Unlock()
		return r.pick(prompt), nil
	}
	mine := make(chan *slot, 1)
	r.queue = append(r.queue, mine)
	r.mu.Unlock()

	stats.waiting(+1)
	defer stats.waiting(-1)
	select {
	case s := <-mine:
		return s, nil
	case <-ctx.Done():
		r.abandon(mine)
		return nil, context.Cause(ctx)
	case <-r.gone:
		r.abandon(mine)
		return nil, errRunnerGone
	}
}

// similar is the part of a prompt that a slot must know to be chosen for it, as
// in llama-server.
const similar = 0.1

// pick takes the free slot that knows the most of the prompt, the least
// recently used if none knows enough.
func (r *runner) pick(prompt string) *slot {
	best, length := 0, int(similar*float64(len(prompt)))
	for i, s := range r.free {
		if n := commonPrefix(s.text, prompt); n > length {
			best, length = i, n
		}
	}
	s := r.free[best]
	r.free = append(r.free[:best], r.free[best+1:]...)
	return s
}

// abandon leaves the queue; a slot handed over in the same moment goes on.
func (r *runner) abandon(mine chan *slot) {
	r.mu.Lock()
	for i, c := range r.queue {
		if c == mine {
			r.queue = append(r.queue[:i], r.queue[i+1:]...)
			r.mu.Unlock()
			return
		}
	}
	r.mu.Unlock()
	r.giveBack(<-mine)
}

// giveBack hands a slot to whoever waits longest.
func (r *runner) giveBack(s *slot) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.queue) > 0 {
		next := r.queue[0]
		r.queue = r.queue[1:]
		next <- s
		return
	}
	r.free = append(r.free, s)
}

// cached returns how many tokens at the start of a prompt of total tokens need
// not be evaluated. The last one always is.
func (s *slot) cached(prompt string, total int) int {
	n := commonPrefix(s.text, prompt)
	tokens := countTokens(prompt[:n])
	if n < len(prompt) {
		tokens-- // the last token may be cut by the end of the common part
	}
	return max(0, min(tokens, total-1))
}

func commonPrefix(a, b string) int {
	n := min(len(a), len(b))
	for i := range n {
		if a[i] != b[i] {
			return i
		}
	}
	return n
}

// device is what the models of one server share: two models that decode at the
// same time each get half of it.
type device struct {
	active atomic.Int32 // runners that decode now
}

// start and stop bracket the decoding of one sequence. A model that is not
// paced takes no time of the device, a cloud model none of this one.
func (d *device) start(r *runner) {
	if r.decoding.Add(1) == 1 && r.entry.usesDevice() {
		d.active.Add(1)
	}
}

func (d *device) stop(r *runner) {
	if r.decoding.Add(-1) == 0 && r.entry.usesDevice() {
		d.active.Add(-1)
	}
}

func (m *Model) usesDevice() bool { return m.Decode > 0 && m.Remote == "" }

// step is the time of the next token of a sequence on r, 0 if it is not paced.
func (d *device) step(c *Config, r *runner) time.Duration {
	rate := r.entry.Decode * c.Speed
	if rate <= 0 {
		return 0
	}
	cost := 1 + c.Batching*float64(max(r.decoding.Load(), 1)-1)
	if r.entry.usesDevice() {
		cost *= float64(max(d.active.Load(), 1))
	}
	return time.Duration(float64(time.Second) * cost / rate)
}

// pacer spaces the tokens of one sequence. It keeps to the schedule on
// average, so a late wake-up does not slow the stream down, but it does not
// race to make up for a pause.
type pacer struct {
	next  time.Time
	timer *time.Timer
}

// wait returns after step since the last token, or at once when stop closes.
func (p *pacer) wait(stop <-chan struct{}, step time.Duration) {
	if step <= 0 {
		return
	}
	now := time.Now()
	if now.Sub(p.next) > max(3*step, 50*time.Millisecond) {
		p.next = now
	}
	p.next = p.next.Add(step)
	if p.timer == nil {
		p.timer = time.NewTimer(p.next.Sub(now))
	} else {
		p.timer.Reset(p.next.Sub(now))
	}
	select {
	case <-p.timer.C:
	case <-stop:
		p.timer.Stop()
	}
}
