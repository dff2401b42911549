package compare

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// Load is what came of one slice of load.
type Load struct {
	Took     time.Duration
	Requests int            // that were answered whole
	Tokens   int            // streamed ones
	Errors   map[string]int // by what happened
	Latency  *hdrhistogram.Histogram
	First    *hdrhistogram.Histogram // to the first token
	Transit  *hdrhistogram.Histogram // of a token, from the backend's write to the client
	Gaps     *hdrhistogram.Histogram // between tokens
}

func newLoad() *Load {
	return &Load{
		Errors: map[string]int{}, Latency: newHistogram(), First: newHistogram(),
		Transit: newHistogram(), Gaps: newHistogram(),
	}
}

func (l *Load) failed(err error) { l.Errors[kindOf(err)]++ }

// Failed is how many requests failed.
func (l *Load) Failed() (n int) {
	for _, k := range l.Errors {
		n += k
	}
	return n
}

// kindOf names an error by a word of a small set.
func kindOf(err error) string {
	if status, ok := errors.AsType[statusError](err); ok {
		return status.Error()
	}
	for _, kind := range []error{errRefused, errNoHeader, errMidBody, errTimeout, errCleanCut, errDisorder, errSaidError} {
		if errors.Is(err, kind) {
			return kind.Error()
		}
	}
	return "other"
}

func (l *Load) merge(o *Load) {
	l.Requests += o.Requests
	l.Tokens += o.Tokens
	for k, n := range o.Errors {
		l.Errors[k] += n
	}
	l.Latency.Merge(o.Latency)
	l.First.Merge(o.First)
	l.Transit.Merge(o.Transit)
	l.Gaps.Merge(o.Gaps)
}

// client keeps one connection to one endpoint.
type client struct {
	addr string
	conn *conn
}

// do asks over the kept connection, or a new one. A connection that its
// server closed while it was idle is no failure of the request.
func (c *client) do(request []byte, limit time.Duration, take func([]byte)) error {
	fresh := c.conn == nil
	for {
		if c.conn == nil {
			var err error
			if c.conn, err = dial(c.addr); err != nil {
				return err
			}
		}
		_ = c.conn.SetDeadline(time.Now().Add(limit))
		keep, err := c.conn.do(request, take)
		if !keep {
			c.close()
		}
		if !fresh && errors.Is(err, errNoHeader) {
			fresh = true
			continue
		}
		return err
	}
}

func (c *client) close() {
	if c.conn != nil {
		_ = c.conn.Close()
		c.conn = nil
	}
}

// requestLimit bounds every request of a load.
const requestLimit = 60 * time.Second

// Closed sends request over workers connections, each the next one as soon as
// the last is answered, for d. It is the load for throughput; latency under it
// leaves out the requests that were not sent because the last was slow.
func Closed(ctx context.Context, endpoints []string, request []byte, workers int, d time.Duration) *Load {
	total := newLoad()
	var mu sync.Mutex
	var wait sync.WaitGroup
	start := time.Now()
	until := start.Add(d)
	for i := range workers {
		wait.Go(func() {
			c := &client{addr: endpoints[i%len(endpoints)]}
			defer c.close()
			l := newLoad()
			for now := start; now.Before(until) && ctx.Err() == nil; {
				err := c.do(request, requestLimit, nil)
				next := time.Now()
				if err != nil {
					l.failed(err)
					if l.Failed() > 1000 {
						break // a dead target: enough seen
					}
				} else {
					l.Requests++
					record(l.Latency, int64(next.Sub(now)))
				}
				now = next
			}
			mu.Lock()
			total.merge(l)
			mu.Unlock()
		})
	}
	wait.Wait()
	total.Took = time.Since(start)
	return total
}

// Open sends request at rate per second, as a Poisson process, whatever becomes
// of earlier ones, over at most conns connections. A latency counts from when
// its request was due, so that a target that stalls shows it in all the
// requests that it held up (no coordinated omission).
func Open(ctx context.Context, endpoints []string, request []byte, rate float64, conns int, d time.Duration, seed uint64) *Load {
	due := make(chan time.Time, int(rate*d.Seconds()*2)+64)
	total := newLoad()
	var mu sync.Mutex
	var wait sync.WaitGroup
	start := time.Now()
	for i := range conns {
		wait.Go(func() {
			c := &client{addr: endpoints[i%len(endpoints)]}
			defer c.close()
			l := newLoad()
			for at := range due {
				if err := c.do(request, requestLimit, nil); err != nil {
					l.failed(err)
					continue
				}
				l.Requests++
				record(l.Latency, int64(time.Since(at)))
			}
			mu.Lock()
			total.merge(l)
			mu.Unlock()
		})
	}
	random := rand.New(rand.NewPCG(seed, 1))
	timer := time.NewTimer(0)
	defer timer.Stop()
	for at := start; at.Before(start.Add(d)) && ctx.Err() == nil; {
		at = at.Add(time.Duration(random.ExpFloat64() / rate * float64(time.Second)))
		if left := time.Until(at); left > 0 {
			timer.Reset(left)
			<-timer.C
		}
		due <- at
	}
	close(due)
	wait.Wait()
	total.Took = time.Since(start)
	return total
}

// Streams opens n streams of tokens tokens, spread over one second so that
// their tokens do not come in step, and reads them to their end. middle is
// called once when all have begun, from another goroutine.
func Streams(ctx context.Context, endpoints []string, model string, n, tokens int, middle func()) *Load {
	total := newLoad()
	request := post(model, tokens, true)
	var mu sync.Mutex
	var wait sync.WaitGroup
	var begun atomic.Int32
	start := time.Now()
	spread := time.Second
	if n == 1 {
		spread = 0
	}
	for i := range n {
		wait.Go(func() {
			timer := time.NewTimer(spread * time.Duration(i) / time.Duration(n))
			defer timer.Stop()
			select {
			case <-timer.C:
			case <-ctx.Done():
				return
			}
			c := &client{addr: endpoints[i%len(endpoints)]}
			defer c.close()
			l := newLoad()
			a := &answer{want: tokens, sent: time.Now(), transit: l.Transit, gaps: l.Gaps}
			if begun.Add(1) == int32(n) && middle != nil {
				wait.Go(middle)
			}
			err := a.end(c.do(request, 2*requestLimit, a.take))
			l.Tokens = a.next
			if err != nil {
				l.failed(err)
			} else {
				l.Requests++
				record(l.First, int64(a.first))
				record(l.Latency, int64(time.Since(a.sent)))
			}
			mu.Lock()
			total.merge(l)
			mu.Unlock()
		})
	}
	wait.Wait()
	total.Took = time.Since(start)
	return total
}
