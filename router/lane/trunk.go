package lane

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"runtime"
	"sync"
	"time"
)

// Trunk is the protocol by which a TLS client asks for a connection that carries
// many conversations of the lane, each over a strand: a connection of its own to
// both sides.
//
// Side by side, two nodes with a connection for each stream pay each of its
// tokens two system calls, a TLS record and a wake-up of their own. Over a trunk
// tokens that are there together share all of these. HTTP/2 does so, too, but
// hands every frame to three goroutines at one end and two at the other.
const Trunk = "kage-trunk/1"

// A frame is a kind, the strand's number and the length of what follows.
const (
	frameHead = 8       // 1, 4 and 3 bytes
	mostFrame = 1 << 16 // of data in a frame
)

// The kinds of frames. A client opens a strand by its first data.
const (
	frameData   = iota
	frameEnd    // no more data comes over the strand
	frameReset  // the strand is gone
	frameCredit // so many bytes more may be sent: 4 bytes
)

// strandWindow is how much of a strand may be on its way, or wait for its
// reader: what a slow client makes its ingress hold.
const strandWindow = 256 << 10

// mostStrands bounds the strands of a trunk.
const mostStrands = 4096

// mostWaiting is how much may wait to be written to a trunk, in all.
const mostWaiting = 1 << 20

// trunkWrite is how long a write may take: after it the other side is gone.
const trunkWrite = 10 * time.Second

var (
	errTrunk  = errors.New("lane: a trunk that does not keep to its protocol")
	errStrand = errors.New("lane: the other side has given the strand up")
)

// trunk is one end of such a connection.
type trunk struct {
	conn   net.Conn
	accept func(*strand) // of a server: what to do with a new strand

	mu      sync.Mutex
	room    sync.Cond // for what wants to be written
	strands map[uint32]*strand
	last    uint32 // the newest strand
	closing bool   // no new ones
	err     error  // it is gone
	out     []byte // frames to be written
	spare   []byte
	writing bool
	armed   time.Time // the deadline of writes
}

func newTrunk(c net.Conn, accept func(*strand)) *trunk {
	t := &trunk{conn: c, accept: accept, strands: make(map[uint32]*strand)}
	t.room.L = &t.mu
	return t
}

// open makes a new strand; nil: the trunk takes no more.
func (t *trunk) open() *strand {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.err != nil || t.closing || len(t.strands) >= mostStrands || t.last == 1<<32-1 {
		return nil
	}
	t.last++
	t.out = appendFrame(t.out, frameData, t.last, nil) // in the order of numbers; it goes out with what is sent next
	return t.add(t.last)
}

func (t *trunk) add(id uint32) *strand {
	s := &strand{t: t, id: id, credit: strandWindow, come: make(chan struct{}, 1), may: make(chan struct{}, 1)}
	t.strands[id] = s
	return s
}

// forget takes a strand out; a trunk that is to end ends with the last.
func (t *trunk) forget(id uint32) {
	t.mu.Lock()
	delete(t.strands, id)
	over := t.closing && len(t.strands) == 0
	t.mu.Unlock()
	if over {
		_ = bare(t.conn).Close()
	}
}

// drain lets the strands that are there end, and then the trunk.
func (t *trunk) drain() {
	t.mu.Lock()
	t.closing = true
	over := len(t.strands) == 0
	t.mu.Unlock()
	if over {
		_ = bare(t.conn).Close()
	}
}

// fail ends the trunk with all its strands.
func (t *trunk) fail(err error) {
	_ = bare(t.conn).Close()
	t.mu.Lock()
	if t.err == nil {
		t.err = err
	}
	all := t.strands
	t.strands = make(map[uint32]*strand)
	t.room.Broadcast()
	t.mu.Unlock()
	for _, s := range all {
		s.broken(err)
	}
}

// send puts a frame among those to be written. Who finds nobody writing writes,
// for all; and before it begins, it lets those run that are ready to, because
// tokens come in flocks. taken says that the other side may get the frame.
func (t *trunk) send(kind byte, id uint32, p []byte) (taken bool, err error) {
	t.mu.Lock()
	for len(t.out) > mostWaiting && t.err == nil && kind == frameData {
		t.room.Wait()
	}
	if err := t.err; err != nil {
		t.mu.Unlock()
		return false, err
	}
	t.out = appendFrame(t.out, kind, id, p)
	if t.writing {
		t.mu.Unlock()
		return true, nil
	}
	t.writing = true
	t.mu.Unlock()
	runtime.Gosched()
	more, err := t.flush()
	if more {
		go func() { // the sender has a conversation of its own to go on with
			for more {
				more, _ = t.flush()
			}
		}()
	}
	return true, err
}

func appendFrame(b []byte, kind byte, id uint32, p []byte) []byte {
	b = append(b, kind)
	b = binary.BigEndian.AppendUint32(b, id)
	b = append(b, byte(len(p)>>16), byte(len(p)>>8), byte(len(p))) //nolint:gosec // at most mostFrame
	return append(b, p...)
}

// flush writes what is to be written; more says that there is more by then, and
// that it is still the caller's to write.
func (t *trunk) flush() (more bool, err error) {
	t.mu.Lock()
	b := t.out
	t.out, t.spare = t.spare[:0], nil
	t.room.Broadcast()
	t.mu.Unlock()
	if err = t.write(b); err != nil {
		t.fail(err)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if cap(b) <= 2*mostFrame {
		t.spare = b[:0]
	}
	t.writing = len(t.out) > 0 && t.err == nil
	return t.writing, err
}

// write is called by one goroutine at a time.
func (t *trunk) write(b []byte) error {
	if now := time.Now(); now.Sub(t.armed) > slack {
		t.armed = now
		if err := t.conn.SetWriteDeadline(now.Add(trunkWrite + slack)); err != nil {
			return err
		}
	}
	_, err := t.conn.Write(b)
	return err
}

// run reads frames until the trunk ends.
func (t *trunk) run() {
	err := t.read()
	if err == io.EOF { //nolint:errorlint // io.Reader's contract is the bare value
		err = io.ErrUnexpectedEOF
	}
	t.fail(err)
}

func (t *trunk) read() error {
	buf := make([]byte, 0, 16<<10)
	for {
		used := 0
		for {
			f, n, ok := cutFrame(buf[used:])
			if !ok {
				return errTrunk
			}
			if n == 0 {
				break
			}
			if err := t.take(f); err != nil {
				return err
			}
			used += n
		}
		buf = buf[:copy(buf[:cap(buf)], buf[used:])]
		if len(buf) == cap(buf) { // the frame is larger
			buf = append(make([]byte, 0, frameHead+mostFrame), buf...)
		}
		n, err := t.conn.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		if err != nil && n == 0 {
			return err
		}
	}
}

// frame is one that has come. Its data is valid until the next read.
type frame struct {
	kind byte
	id   uint32
	data []byte
}

// cutFrame takes the first frame of b, which is n bytes long; n is 0 when it is
// not there yet. !ok: it is none.
func cutFrame(b []byte) (f frame, n int, ok bool) {
	if len(b) < frameHead {
		return f, 0, true
	}
	f.kind, f.id = b[0], binary.BigEndian.Uint32(b[1:])
	n = int(b[5])<<16 | int(b[6])<<8 | int(b[7])
	switch {
	case f.kind > frameCredit, n > mostFrame, f.kind == frameCredit && n != 4, f.kind != frameData && f.kind != frameCredit && n != 0:
		return f, 0, false
	case len(b) < frameHead+n:
		return f, 0, true
	}
	f.data = b[frameHead : frameHead+n]
	return f, frameHead + n, true
}

// take hands a frame to its strand. Frames for one that is gone are on their way
// when it goes, and mean nothing.
func (t *trunk) take(f frame) error {
	t.mu.Lock()
	s := t.strands[f.id]
	if s == nil && f.kind == frameData && t.accept != nil && f.id > t.last {
		t.last = f.id
		if t.closing || len(t.strands) >= mostStrands {
			t.mu.Unlock()
			go func() { _, _ = t.send(frameReset, f.id, nil) }() // who reads must not wait to write
			return nil
		}
		s = t.add(f.id)
		t.mu.Unlock()
		t.accept(s)
	} else {
		t.mu.Unlock()
	}
	if s == nil {
		return nil
	}
	switch f.kind {
	case frameData:
		return s.push(f.data)
	case frameEnd:
		s.ended()
	case frameReset:
		t.forget(f.id)
		s.broken(errStrand)
	case frameCredit:
		s.grant(binary.BigEndian.Uint32(f.data))
	}
	return nil
}
