package relay

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"time"
)

// depth is how many reads a slow direction holds before it stops reading and
// TCP's own flow control reaches the sender.
const depth = 16

// pair is one carried connection.
type pair struct {
	client, target net.Conn
	cancel         context.CancelFunc
}

// abort makes both ends see a reset.
func (p *pair) abort() {
	reset(p.client)
	reset(p.target)
	p.cancel()
}

// reset closes with unsent data thrown away, which TCP tells the peer by RST.
func reset(c net.Conn) {
	if tcp, ok := c.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = c.Close()
}

func (r *Relay) serveStreams(ctx context.Context, running *sync.WaitGroup) error {
	for {
		client, err := r.tcp.Accept()
		if err != nil {
			return err
		}
		running.Go(func() { r.carry(ctx, client) })
	}
}

// carry owns client until both directions have ended.
func (r *Relay) carry(ctx context.Context, client net.Conn) {
	r.mu.Lock()
	refuse := r.faults.Refuse
	r.mu.Unlock()
	if refuse {
		r.count(func(s *Stats) { s.Refused++ })
		reset(client)
		return
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	target, err := r.in.DialContext(ctx, "tcp", r.target)
	if err != nil { // as near to "connection refused" as an accepted connection gets
		r.count(func(s *Stats) { s.Refused++ })
		reset(client)
		return
	}
	p := &pair{client, target, cancel}
	r.mu.Lock()
	r.pairs[p] = struct{}{}
	r.stats.Streams++
	r.mu.Unlock()
	defer func() {
		r.mu.Lock()
		delete(r.pairs, p)
		r.mu.Unlock()
		_ = client.Close()
		_ = target.Close()
	}()
	stop := context.AfterFunc(ctx, func() { p.abort() })
	defer stop()

	var directions sync.WaitGroup
	directions.Go(func() { r.copy(ctx, p, target, client, true) })
	directions.Go(func() { r.copy(ctx, p, client, target, false) })
	directions.Wait()
}

// read is what one Read brought.
type read struct {
	at    time.Time
	draw  float64
	bytes []byte
}

// copy carries one direction. A clean end is passed on as a half-close; any
// other end resets both sides.
func (r *Relay) copy(ctx context.Context, p *pair, to, from net.Conn, up bool) {
	queue := make(chan read, depth)
	var end error // of the reader; read only after queue is closed
	var reader sync.WaitGroup
	reader.Go(func() {
		defer close(queue)
		for {
			buf := make([]byte, maxChunk)
			n, err := from.Read(buf)
			if n > 0 {
				select {
				case queue <- read{time.Now(), 2*r.draw() - 1, buf[:n]}:
				case <-ctx.Done():
					return
				}
			}
			if err != nil {
				end = err
				return
			}
		}
	})
	defer reader.Wait()

	var free time.Time
	for item := range queue {
		for b := item.bytes; len(b) > 0; {
			line, ok := r.wait(ctx, up, item.at, item.draw, free)
			if !ok {
				return
			}
			n := min(len(b), line.chunk())
			if _, err := to.Write(b[:n]); err != nil {
				p.abort()
				return
			}
			free = time.Now().Add(line.busy(n))
			b = b[n:]
		}
	}
	if !errors.Is(end, io.EOF) {
		p.abort()
		return
	}
	// The end travels like the bytes before it.
	if _, ok := r.wait(ctx, up, time.Now(), 0, free); !ok {
		return
	}
	if half, ok := to.(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite()
	}
}
