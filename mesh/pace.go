package mesh

import (
	"math"
	"strconv"
	"time"
)

// How often a node states its load. Measured with Serf 0.11 on 4 to 200 nodes:
// a datagram straight to every member costs a twentieth of the bytes of any
// scheme that relays through the gossip queues, and is the only one that loses
// nothing; at 200 nodes sharing two cores, one report per second and node was
// too many and one in two seconds was fine. So the packets per second and node
// are what is bounded: about 100 in the steady state.

// beaconPeriod is the time between two reports of a node whose load does not
// change, in a mesh of n members: 1/min(4, 100/n) s, so 250 ms up to 25
// members, 2 s at 200, 5 s at 500.
func beaconPeriod(n int) time.Duration {
	return max(250*time.Millisecond, time.Duration(n)*10*time.Millisecond)
}

// beaconSpacing is the least time between two reports when the load does
// change: 50 ms up to 20 members, then so that a node sends at most 400 packets
// per second.
func beaconSpacing(n int) time.Duration {
	return max(50*time.Millisecond, time.Duration(n)*2500*time.Microsecond)
}

// publishSpacing is the least time between two Views of n members: building
// one takes about a microsecond per member and model, and a burst of reports
// should not make one each.
func publishSpacing(n int) time.Duration {
	return time.Duration(n) * 100 * time.Microsecond
}

// retransmitMult is the factor with which memberlist in a mesh of n members sends
// each piece of news at least times times: it multiplies with ceil(log10(n+1)), the
// digits of n, and so would send three times as often in a mesh of hundreds as in one
// of nine. Each of n nodes gets each piece that often; when hundreds join at once,
// that is what they are busy with. The engine takes the factor when it starts.
func retransmitMult(times, n int) int {
	digits := len(strconv.Itoa(max(n, 1)))
	return (times + digits - 1) / digits
}

// lookPeriod is the time between two looks at the engine's list of n members and at
// what is due; its events only make them come sooner. What a look would find without
// one is how far away members are, and fetches to try again.
func lookPeriod(n int) time.Duration {
	return max(500*time.Millisecond, time.Duration(n)*10*time.Millisecond)
}

// lookSpacing is the least time between two looks that events ask for: a look takes
// about half a microsecond per member.
func lookSpacing(n int) time.Duration {
	return time.Duration(n) * 250 * time.Microsecond
}

// retold is with how many of n others a node that joined or moved exchanges member
// lists again. A list has n entries, so where there are many, one has to do.
func retold(n int) int {
	if n > 32 {
		return 1
	}
	return 3
}

// significant reports whether others should hear of b at once, having heard of
// a: anything that changes where a request should go, and no noise.
func significant(a, b *Load) bool {
	if a == nil || b == nil {
		return a != b
	}
	if b.Trouble > a.Trouble || a.Trouble > 0 && b.Trouble == 0 || a.Up != b.Up || a.Draining != b.Draining || a.Foreign != b.Foreign ||
		a.Running != b.Running || a.Waiting != b.Waiting || len(a.Models) != len(b.Models) {
		return true
	}
	if apart(float64(a.FreeVRAM), float64(b.FreeVRAM), 0.05) || apart(float64(a.FreeRAM), float64(b.FreeRAM), 0.10) {
		return true
	}
	for i := range b.Models {
		y := &b.Models[i]
		x := a.Model(y.Key)
		if x == nil || x.Resident != y.Resident || x.Loading != y.Loading || x.Context != y.Context ||
			x.Slots != y.Slots || x.Running != y.Running || x.Waiting != y.Waiting {
			return true
		}
		if math.Abs(x.Start-y.Start) > max(0.5, 0.2*x.Start) ||
			apart(x.Decode, y.Decode, 0.15) || apart(x.Prefill, y.Prefill, 0.15) {
			return true
		}
	}
	return false
}

// apart reports whether b differs from a by more than share of a.
func apart(a, b, share float64) bool { return math.Abs(a-b) > share*max(a, b) }
