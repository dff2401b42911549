package lane

import (
	"encoding/binary"
	"io"
	"net"
	"os"
	"sync"
	"time"
)

// strand is one conversation's connection over a trunk. As of any connection,
// one goroutine reads and one writes at a time, and any may close it.
type strand struct {
	t  *trunk
	id uint32

	come, may chan struct{} // 1 deep: wakes the reader, the writer

	mu      sync.Mutex
	in      []byte // what has come, from
	from    int
	owed    int   // bytes taken that the other side may not send anew yet
	credit  int   // bytes that may be sent
	end     bool  // no more comes
	err     error // it is gone
	closed  bool
	readBy  moment
	writeBy moment

	ready bool // inside whenReady: reads do not wait; of the reader
}

// moment is a deadline.
type moment struct {
	at    time.Time
	timer *time.Timer
}

func (m *moment) past() bool { return !m.at.IsZero() && !time.Now().Before(m.at) }

// set moves it; wake is told when it comes.
func (m *moment) set(at time.Time, wake chan struct{}) {
	m.at = at
	if m.timer != nil {
		m.timer.Stop()
		m.timer = nil
	}
	switch left := time.Until(at); {
	case at.IsZero():
	case left <= 0:
		poke(wake)
	default:
		m.timer = time.AfterFunc(left, func() { poke(wake) })
	}
}

// poke wakes who waits for c, or will.
func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// push adds what has come.
func (s *strand) push(p []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	if len(s.in)-s.from+len(p) > strandWindow || s.end {
		return errTrunk
	}
	if s.from > 0 && len(s.in)+len(p) > cap(s.in) {
		s.in = s.in[:copy(s.in, s.in[s.from:])]
		s.from = 0
	}
	s.in = append(s.in, p...)
	poke(s.come)
	return nil
}

func (s *strand) ended() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.end = true
	poke(s.come)
}

// broken says that the strand, or its trunk, is gone.
func (s *strand) broken(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil {
		s.err = err
	}
	s.readBy.set(time.Time{}, s.come)
	s.writeBy.set(time.Time{}, s.may)
	poke(s.come)
	poke(s.may)
}

func (s *strand) grant(n uint32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.credit = min(s.credit+int(min(n, strandWindow)), strandWindow)
	poke(s.may)
}

// Read implements net.Conn.
func (s *strand) Read(p []byte) (int, error) {
	for {
		n, owed, err := s.there(p)
		if owed > 0 {
			var credit [4]byte
			binary.BigEndian.PutUint32(credit[:], uint32(owed)) //nolint:gosec // at most strandWindow
			_, _ = s.t.send(frameCredit, s.id, credit[:])       // the next read tells
		}
		if n > 0 || err != nil || len(p) == 0 {
			return n, err
		}
		if s.ready {
			return 0, errDry
		}
		<-s.come
	}
}

// there takes what is there. owed is what the other side is to be told that it
// may send.
func (s *strand) there(p []byte) (n, owed int, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n = copy(p, s.in[s.from:])
	s.from += n
	s.owed += n
	if s.from == len(s.in) {
		s.in, s.from = s.in[:0], 0
		if cap(s.in) > 4<<10 {
			s.in = nil
		}
	}
	switch {
	case n > 0:
		if s.owed >= strandWindow/4 && s.err == nil && !s.end {
			owed, s.owed = s.owed, 0
		}
	case s.err != nil:
		err = s.err
	case s.end:
		err = io.EOF
	case s.readBy.past():
		err = os.ErrDeadlineExceeded
	}
	return n, owed, err
}

// whenReady is [socket.whenReady] for strands.
func (s *strand) whenReady(read func() (over bool)) error {
	s.ready = true
	defer func() { s.ready = false }()
	for !read() {
		<-s.come
	}
	return nil
}

// stands reports whether a strand can carry another request.
func (s *strand) stands() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err == nil && !s.end && len(s.in) == s.from
}

// Write implements net.Conn.
func (s *strand) Write(p []byte) (n int, err error) {
	for n < len(p) {
		m, err := s.allowed(len(p) - n)
		if err != nil {
			return n, err
		}
		if m == 0 {
			<-s.may
			continue
		}
		taken, err := s.t.send(frameData, s.id, p[n:n+m])
		if taken {
			n += m
		}
		if err != nil {
			return n, err
		}
	}
	return n, nil
}

// allowed takes credit for up to n bytes; 0: there is none yet.
func (s *strand) allowed(n int) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.err != nil:
		return 0, s.err
	case s.writeBy.past():
		return 0, os.ErrDeadlineExceeded
	}
	n = min(n, s.credit, mostFrame)
	s.credit -= n
	return n, nil
}

// CloseWrite ends what is sent, as *net.TCPConn has it.
func (s *strand) CloseWrite() error {
	_, err := s.t.send(frameEnd, s.id, nil)
	return err
}

// Close implements net.Conn. The other side is told so.
func (s *strand) Close() error {
	s.mu.Lock()
	closed, gone := s.closed, s.err != nil
	s.closed = true
	s.mu.Unlock()
	if closed {
		return net.ErrClosed
	}
	s.broken(net.ErrClosed)
	if gone {
		return nil
	}
	_, err := s.t.send(frameReset, s.id, nil)
	s.t.forget(s.id)
	return err
}

// LocalAddr implements net.Conn.
func (s *strand) LocalAddr() net.Addr { return s.t.conn.LocalAddr() }

// RemoteAddr implements net.Conn.
func (s *strand) RemoteAddr() net.Addr { return s.t.conn.RemoteAddr() }

// SetDeadline implements net.Conn.
func (s *strand) SetDeadline(at time.Time) error {
	_ = s.SetReadDeadline(at)
	return s.SetWriteDeadline(at)
}

// SetReadDeadline implements net.Conn.
func (s *strand) SetReadDeadline(at time.Time) error { return s.deadline(&s.readBy, at, s.come) }

// SetWriteDeadline implements net.Conn.
func (s *strand) SetWriteDeadline(at time.Time) error { return s.deadline(&s.writeBy, at, s.may) }

func (s *strand) deadline(m *moment, at time.Time, wake chan struct{}) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return s.err
	}
	m.set(at, wake)
	return nil
}
