package relay

import (
	"context"
	"errors"
	"net"
	"sync"
	"time"
)

// Bounds on what a flood can make the relay hold.
const (
	maxSessions = 1024
	maxInFlight = 4096
)

// session is the relay's own socket for one client, so that answers find their
// way back. It lives until Run ends.
type session struct {
	conn   net.Conn
	client net.Addr
}

// airspace bounds and paces the datagrams of one direction.
type airspace struct {
	slots chan struct{}
	mu    sync.Mutex
	free  time.Time
}

func newAirspace() *airspace { return &airspace{slots: make(chan struct{}, maxInFlight)} }

// book reserves the line for n bytes and says from when.
func (a *airspace) book(l Line, n int) time.Time {
	a.mu.Lock()
	defer a.mu.Unlock()
	from := a.free
	if now := time.Now(); from.Before(now) {
		from = now
	}
	a.free = from.Add(l.busy(n))
	return from
}

func (r *Relay) serveDatagrams(ctx context.Context, running *sync.WaitGroup) error {
	up, down := newAirspace(), newAirspace()
	defer r.closeSessions()
	buf := make([]byte, 1<<16)
	for {
		n, client, err := r.udp.ReadFrom(buf)
		if err != nil {
			return err
		}
		s := r.session(ctx, client)
		if s == nil {
			r.count(func(s *Stats) { s.Lost++ })
			continue
		}
		if s.client == nil { // new: this loop is the only one that adds sessions
			s.client = client
			running.Go(func() { r.answers(ctx, running, s, down) })
		}
		r.pass(ctx, running, up, true, buf[:n], func(b []byte) { _, _ = s.conn.Write(b) })
	}
}

// session finds or makes the client's session; nil when there are too many or
// the target cannot be resolved. A new one has no client yet.
func (r *Relay) session(ctx context.Context, client net.Addr) *session {
	key := client.String()
	r.mu.Lock()
	s, n := r.sessions[key], len(r.sessions)
	r.mu.Unlock()
	if s != nil || n >= maxSessions {
		return s
	}
	conn, err := r.in.DialContext(ctx, "udp", r.target)
	if err != nil {
		return nil
	}
	s = &session{conn: conn}
	r.mu.Lock()
	r.sessions[key] = s
	r.mu.Unlock()
	return s
}

func (r *Relay) closeSessions() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, s := range r.sessions {
		_ = s.conn.Close()
	}
}

func (r *Relay) answers(ctx context.Context, running *sync.WaitGroup, s *session, down *airspace) {
	buf := make([]byte, 1<<16)
	for ctx.Err() == nil {
		n, err := s.conn.Read(buf)
		if err != nil {
			if isClosed(err) {
				return
			}
			continue // port unreachable: the target may yet come
		}
		r.pass(ctx, running, down, false, buf[:n], func(b []byte) { _, _ = r.udp.WriteTo(b, s.client) })
	}
}

// pass sends a copy of b when its time has come, or loses it.
func (r *Relay) pass(ctx context.Context, running *sync.WaitGroup, air *airspace, up bool, b []byte, send func([]byte)) {
	line, _ := r.line(up)
	if line.lost(r.draw()) {
		r.count(func(s *Stats) { s.Lost++ })
		return
	}
	if line.Delay == 0 && line.Jitter == 0 && line.Rate == 0 {
		r.count(func(s *Stats) { s.Datagrams++ })
		send(b)
		return
	}
	select {
	case air.slots <- struct{}{}:
	default:
		r.count(func(s *Stats) { s.Lost++ })
		return
	}
	arrived, draw, free := time.Now(), 2*r.draw()-1, air.book(line, len(b))
	held := append([]byte(nil), b...)
	running.Go(func() {
		defer func() { <-air.slots }()
		select {
		case <-time.After(time.Until(line.due(arrived, draw, free))):
			r.count(func(s *Stats) { s.Datagrams++ })
			send(held)
		case <-ctx.Done():
		}
	})
}

func isClosed(err error) bool { return errors.Is(err, net.ErrClosed) }
