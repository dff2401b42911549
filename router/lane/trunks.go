package lane

import (
	"context"
	"errors"
	"net"
	"sync"
)

// Trunks are the connections of a client that carry many conversations each: one
// to a host.
type Trunks struct {
	// Dial connects to a host, for [Trunk].
	Dial func(ctx context.Context, host string) (net.Conn, error)

	mu     sync.Mutex
	all    map[string]*dialed
	closed bool
}

// dialed is a trunk that is there, or will be.
type dialed struct {
	done chan struct{}
	t    *trunk // after done; nil: err says why
	err  error
}

// Conn is for [Transport.Dial]: a connection to host over its trunk, which is
// made if there is none.
func (p *Trunks) Conn(ctx context.Context, host string) (net.Conn, error) {
	for range 2 {
		d := p.to(ctx, host)
		select {
		case <-d.done:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
		if d.err != nil {
			return nil, d.err
		}
		if s := d.t.open(); s != nil {
			return s, nil
		}
		p.forget(host, d) // it has just ended
	}
	return nil, errors.New("lane: a trunk that takes nothing")
}

// to is the trunk to host. It is dialed for all who want it, and so not under
// the context of the first.
func (p *Trunks) to(ctx context.Context, host string) *dialed {
	p.mu.Lock()
	defer p.mu.Unlock()
	if d := p.all[host]; d != nil {
		return d
	}
	d := &dialed{done: make(chan struct{})}
	if p.closed {
		d.err = net.ErrClosed
		close(d.done)
		return d
	}
	if p.all == nil {
		p.all = make(map[string]*dialed)
	}
	p.all[host] = d
	go func() {
		c, err := p.Dial(context.WithoutCancel(ctx), host)
		if err != nil {
			d.err = err
			p.forget(host, d)
			close(d.done)
			return
		}
		d.t = newTrunk(c, nil)
		close(d.done)
		if p.isClosed() {
			d.t.drain()
		}
		d.t.run()
		p.forget(host, d)
	}()
	return d
}

func (p *Trunks) isClosed() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.closed
}

func (p *Trunks) forget(host string, d *dialed) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.all[host] == d {
		delete(p.all, host)
	}
}

// Close makes no new connections and ends each trunk with what it carries.
func (p *Trunks) Close() {
	p.mu.Lock()
	p.closed = true
	all := make([]*dialed, 0, len(p.all))
	for _, d := range p.all {
		all = append(all, d)
	}
	p.mu.Unlock()
	for _, d := range all {
		select {
		case <-d.done:
			if d.t != nil {
				d.t.drain()
			}
		default: // whoever dials sees it
		}
	}
}
