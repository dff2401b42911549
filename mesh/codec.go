package mesh

import (
	"cmp"
	"encoding/base32"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"
)

// The binary form of a [Load], for datagrams and for a header of a response.
//
//	version  1 byte
//	flags    1 byte: up, draining, foreign
//	node     16 bytes
//	start    8 bytes, the incarnation
//	numbers  uvarints: seq, running, waiting, free VRAM, RAM, disk, dropped, count
//	models   count times: uvarint length, record
//	written  uvarint
//	trouble  uvarint
//	...      whatever a later version adds; readers skip it
//
// A record is the key (uvarint length, bytes), a uvarint mask of the fields
// that are not zero, and those fields in the order of their bits; what follows
// in a record is of a later version and skipped as well. Times are seconds from
// now, so that clocks need not agree; rates are float32.
const (
	loadVersion = 1

	// LoadDatagram is the limit for a Load in a datagram: with keys, signature
	// and headers it stays below 1232 bytes, what an IPv6 packet holds at the
	// 1280-byte MTU of a tailnet.
	LoadDatagram = 1080
	// LoadHeader is the limit for a Load in a response header, in bytes before
	// base64.
	LoadHeader = 4 << 10
	// LoadWhole is the limit for a Load that is asked for over the peer link.
	LoadWhole = 256 << 10
)

const (
	maxLoadModels = 4096 // a reader's bound
	maxKey        = 512  // bytes of a model name
	maxCount      = 1 << 30
	maxExpiry     = 100 * 365 * 24 * 3600 // seconds; Ollama writes year 2318 for "never"
)

// ErrLoad means that bytes are no [Load].
var ErrLoad = errors.New("mesh: not a load report")

const (
	flagUp = 1 << iota
	flagDraining
	flagForeign
)

// Bits of a record's mask. New fields go at the end.
const (
	hasResident = 1 << iota
	hasLoading
	hasPartial
	hasSize
	hasSizeVRAM
	hasContext
	hasExpires
	hasSlots
	hasRunning
	hasWaiting
	hasSamples
	hasStart
	hasDecode
	hasPrefill
	hasSlope
	hasCold
	hasOutput
	hasAlias
	hasRate
)

// EncodeLoad writes l in at most limit bytes (see [LoadDatagram]); now is the
// sender's clock. Models that do not fit are left out and counted in Dropped:
// resident and busy models go first, the rest takes turns by Seq, so that over
// several reports all are heard of. It fails only when l has no valid Node or
// limit is below 128.
func EncodeLoad(l *Load, now time.Time, limit int) ([]byte, error) {
	node, err := idBytes(l.Node)
	if err != nil {
		return nil, err
	}
	b := make([]byte, 0, min(limit, 4096))
	b = append(b, loadVersion, flags(l))
	b = append(b, node[:]...)
	b = binary.BigEndian.AppendUint64(b, l.Incarnation)
	for _, v := range []uint64{l.Seq, count(l.Running), count(l.Waiting), l.FreeVRAM, l.FreeRAM, l.FreeDisk} {
		b = binary.AppendUvarint(b, v)
	}
	room := limit - len(b) - 2*binary.MaxVarintLen16 - 1 - uvarintLen(l.Written) - uvarintLen(count(l.Trouble))
	if room < 0 {
		return nil, fmt.Errorf("mesh: a load report does not fit into %d bytes", limit)
	}
	var records []byte
	sent := 0
	for _, i := range ranked(l) {
		rec := encodeModel(&l.Models[i], now)
		need := uvarintLen(uint64(len(rec))) + len(rec)
		if len(l.Models[i].Key) > maxKey || need > room || sent == maxLoadModels {
			continue // a shorter one may still fit
		}
		room -= need
		records = binary.AppendUvarint(records, uint64(len(rec)))
		records = append(records, rec...)
		sent++
	}
	b = binary.AppendUvarint(b, min(count(l.Dropped)+uint64(len(l.Models)-sent), math.MaxUint16))
	b = binary.AppendUvarint(b, uint64(sent))
	b = binary.AppendUvarint(append(b, records...), l.Written)
	return binary.AppendUvarint(b, count(l.Trouble)), nil
}

// ranked is the order in which models are written: indexes into l.Models.
func ranked(l *Load) []int {
	var hot, rest []int
	for i := range l.Models {
		if m := &l.Models[i]; m.Resident || m.Loading || m.Running > 0 || m.Waiting > 0 {
			hot = append(hot, i)
		} else {
			rest = append(rest, i)
		}
	}
	slices.SortStableFunc(hot, func(a, b int) int {
		x, y := &l.Models[a], &l.Models[b]
		return cmp.Compare(y.Running+y.Waiting, x.Running+x.Waiting)
	})
	if n := len(rest); n > 0 {
		turn := int(l.Seq * 7 % uint64(n)) //nolint:gosec // below n; seven or so fit beside the hot ones
		rest = slices.Concat(rest[turn:], rest[:turn])
	}
	return append(hot, rest...)
}

func flags(l *Load) byte {
	var f byte
	if l.Up {
		f |= flagUp
	}
	if l.Draining {
		f |= flagDraining
	}
	if l.Foreign {
		f |= flagForeign
	}
	return f
}

func encodeModel(m *ModelLoad, now time.Time) []byte {
	b := binary.AppendUvarint(nil, uint64(len(m.Key)))
	b = append(b, m.Key...)
	var mask uint64
	var fields []byte
	mark := func(bit uint64, set bool) {
		if set {
			mask |= bit
		}
	}
	number := func(bit, v uint64) {
		if v != 0 {
			mask |= bit
			fields = binary.AppendUvarint(fields, v)
		}
	}
	rate := func(bit uint64, v float64) {
		if f := float32(v); f > 0 && !math.IsInf(float64(f), 0) {
			mask |= bit
			fields = binary.BigEndian.AppendUint32(fields, math.Float32bits(f))
		}
	}
	mark(hasResident, m.Resident)
	mark(hasLoading, m.Loading)
	mark(hasPartial, m.Partial)
	mark(hasAlias, m.Alias)
	number(hasSize, m.Size)
	number(hasSizeVRAM, m.SizeVRAM)
	number(hasContext, count(m.Context))
	if !m.Expires.IsZero() {
		mask |= hasExpires
		fields = binary.AppendVarint(fields, secondsUntil(now, m.Expires))
	}
	number(hasSlots, count(m.Slots))
	number(hasRunning, count(m.Running))
	number(hasWaiting, count(m.Waiting))
	number(hasSamples, count(m.Samples))
	rate(hasStart, m.Start)
	rate(hasDecode, m.Decode)
	rate(hasPrefill, m.Prefill)
	rate(hasSlope, m.Slope)
	rate(hasCold, m.Cold)
	rate(hasOutput, m.Output)
	rate(hasRate, m.Rate)
	return append(binary.AppendUvarint(b, mask), fields...)
}

// DecodeLoad reads what [EncodeLoad] wrote; now is the reader's clock. Errors
// wrap [ErrLoad]. The result shares no memory with b.
func DecodeLoad(b []byte, now time.Time) (*Load, error) {
	r := reader{b: b}
	version, f := r.byte(), r.byte()
	if r.err == nil && version != loadVersion {
		return nil, fmt.Errorf("%w: version %d", ErrLoad, version)
	}
	l := &Load{Up: f&flagUp != 0, Draining: f&flagDraining != 0, Foreign: f&flagForeign != 0}
	if node := r.bytes(16); r.err == nil {
		l.Node = NodeID(strings.ToLower(idEncoding.EncodeToString(node)))
	}
	if start := r.bytes(8); r.err == nil {
		l.Incarnation = binary.BigEndian.Uint64(start)
	}
	l.Seq = r.uvarint()
	l.Running, l.Waiting = r.count(), r.count()
	l.FreeVRAM, l.FreeRAM, l.FreeDisk = r.uvarint(), r.uvarint(), r.uvarint()
	l.Dropped = r.count()
	n := r.count()
	if r.err == nil && n > maxLoadModels {
		return nil, fmt.Errorf("%w: %d models", ErrLoad, n)
	}
	for range n {
		rec := r.bytes(r.count())
		if r.err != nil {
			break
		}
		m, err := decodeModel(rec, now)
		if err != nil {
			return nil, err
		}
		l.Models = append(l.Models, m)
	}
	l.Written = r.uvarint()
	l.Trouble = r.count()
	if r.err != nil {
		return nil, r.err
	}
	return l, nil
}

func decodeModel(rec []byte, now time.Time) (ModelLoad, error) {
	r := reader{b: rec}
	key := r.bytes(r.count())
	if r.err == nil && (len(key) == 0 || len(key) > maxKey) {
		return ModelLoad{}, fmt.Errorf("%w: model name of %d bytes", ErrLoad, len(key))
	}
	mask := r.uvarint()
	m := ModelLoad{
		Key:      string(key),
		Resident: mask&hasResident != 0, Loading: mask&hasLoading != 0, Partial: mask&hasPartial != 0,
		Alias: mask&hasAlias != 0,
	}
	number := func(bit uint64, v *uint64) {
		if mask&bit != 0 {
			*v = r.uvarint()
		}
	}
	small := func(bit uint64, v *int) {
		if mask&bit != 0 {
			*v = r.count()
		}
	}
	rate := func(bit uint64, v *float64) {
		if mask&bit != 0 {
			*v = r.rate()
		}
	}
	number(hasSize, &m.Size)
	number(hasSizeVRAM, &m.SizeVRAM)
	small(hasContext, &m.Context)
	if mask&hasExpires != 0 {
		m.Expires = now.Add(time.Duration(r.seconds()) * time.Second)
	}
	small(hasSlots, &m.Slots)
	small(hasRunning, &m.Running)
	small(hasWaiting, &m.Waiting)
	small(hasSamples, &m.Samples)
	rate(hasStart, &m.Start)
	rate(hasDecode, &m.Decode)
	rate(hasPrefill, &m.Prefill)
	rate(hasSlope, &m.Slope)
	rate(hasCold, &m.Cold)
	rate(hasOutput, &m.Output)
	rate(hasRate, &m.Rate)
	return m, r.err
}

// EncodeLoadText is [EncodeLoad] for a header or trailer, in URL-safe base64.
func EncodeLoadText(l *Load, now time.Time) (string, error) {
	b, err := EncodeLoad(l, now, LoadHeader)
	if err != nil {
		return "", err
	}
	return base64.RawURLEncoding.EncodeToString(b), nil
}

// DecodeLoadText reads what [EncodeLoadText] wrote.
func DecodeLoadText(text string, now time.Time) (*Load, error) {
	if len(text) > base64.RawURLEncoding.EncodedLen(2*LoadHeader) {
		return nil, fmt.Errorf("%w: %d characters", ErrLoad, len(text))
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil {
		return nil, fmt.Errorf("%w: not base64", ErrLoad)
	}
	return DecodeLoad(b, now)
}

// count makes n safe to send: never negative, never above a reader's bound.
func count(n int) uint64 { return uint64(min(max(n, 0), maxCount)) }

func secondsUntil(now, at time.Time) int64 {
	return min(max(int64(at.Sub(now)/time.Second), -maxExpiry), maxExpiry)
}

func uvarintLen(v uint64) int {
	return len(binary.AppendUvarint(make([]byte, 0, binary.MaxVarintLen64), v))
}

var idEncoding = base32.StdEncoding.WithPadding(base32.NoPadding)

// idBytes gives the 16 bytes of an id.
func idBytes(id NodeID) ([16]byte, error) {
	raw, err := idEncoding.DecodeString(strings.ToUpper(string(id)))
	if err != nil || len(raw) != 16 || !id.Valid() {
		return [16]byte{}, fmt.Errorf("mesh: %.40q is no node id", string(id))
	}
	return [16]byte(raw), nil
}
