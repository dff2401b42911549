package relay

import "time"

// Line is what happens to one direction. The zero Line passes everything at
// once.
type Line struct {
	Delay  time.Duration // added to everything
	Jitter time.Duration // uniform in [-Jitter, +Jitter], never below no delay at all
	Loss   float64       // share of datagrams lost, 0 to 1; streams do not lose bytes
	Rate   int           // bytes per second, 0 for no limit
	Cut    bool          // nothing passes: datagrams are lost, a stream waits until the cut ends
}

// Faults is the state of a relay. Up is towards the target, Down is back.
type Faults struct {
	Up, Down Line
	Refuse   bool // reset every new connection; datagrams pass
}

// Both applies one line to both directions.
func Both(l Line) Faults { return Faults{Up: l, Down: l} }

// due is when something that arrived at a time may leave, given a draw from
// [-1, 1] and the time from which the line is free (see [Line.busy]).
func (l Line) due(arrived time.Time, draw float64, free time.Time) time.Time {
	at := arrived.Add(max(0, l.Delay+time.Duration(draw*float64(l.Jitter))))
	if l.Rate > 0 && free.After(at) {
		return free
	}
	return at
}

// busy is how long n bytes occupy the line.
func (l Line) busy(n int) time.Duration {
	if l.Rate <= 0 {
		return 0
	}
	return time.Duration(float64(n) / float64(l.Rate) * float64(time.Second))
}

// chunk is how many bytes are written at a time: a twentieth of a second's
// worth, so a slow line drips instead of bursting.
func (l Line) chunk() int {
	if l.Rate <= 0 {
		return maxChunk
	}
	return min(maxChunk, max(1, l.Rate/20))
}

// maxChunk is also the size of a read.
const maxChunk = 32 << 10

// lost says whether a datagram with this draw from [0, 1) is lost.
func (l Line) lost(draw float64) bool { return l.Cut || draw < l.Loss }
