package mesh

import (
	"encoding/binary"
	"fmt"
	"math"
)

// reader takes numbers off a byte slice; after the first error it gives zeros.
type reader struct {
	b   []byte
	err error
}

func (r *reader) fail(what string) {
	if r.err == nil {
		r.err = fmt.Errorf("%w: %s", ErrLoad, what)
	}
}

func (r *reader) bytes(n int) []byte {
	if r.err != nil || n > len(r.b) {
		r.fail("cut short")
		return nil
	}
	out := r.b[:n]
	r.b = r.b[n:]
	return out
}

func (r *reader) byte() byte {
	if b := r.bytes(1); r.err == nil {
		return b[0]
	}
	return 0
}

func (r *reader) uvarint() uint64 {
	if r.err != nil {
		return 0
	}
	v, n := binary.Uvarint(r.b)
	if n <= 0 {
		r.fail("bad number")
		return 0
	}
	r.b = r.b[n:]
	return v
}

// count is a number that must fit into an int on every system.
func (r *reader) count() int {
	v := r.uvarint()
	if v > maxCount {
		r.fail("number too large")
		return 0
	}
	return int(v)
}

func (r *reader) seconds() int64 {
	if r.err != nil {
		return 0
	}
	v, n := binary.Varint(r.b)
	if n <= 0 {
		r.fail("bad time")
		return 0
	}
	r.b = r.b[n:]
	return min(max(v, -maxExpiry), maxExpiry)
}

func (r *reader) rate() float64 {
	b := r.bytes(4)
	if r.err != nil {
		return 0
	}
	v := float64(math.Float32frombits(binary.BigEndian.Uint32(b)))
	if math.IsNaN(v) || math.IsInf(v, 0) || v < 0 {
		r.fail("impossible rate")
		return 0
	}
	return v
}
