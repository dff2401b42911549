package main

import (
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
)

// headroom is how many bytes of garbage a node may make between two
// collections. A node at rest holds some 5 MiB that is in use: by the runtime's
// own rule, as much again, it would collect hundreds of times a second under
// load, a tenth of its work. One with 500 streams holds 15 and makes hardly any
// garbage: by that rule it would take twice as much for nothing.
const headroom = 12 << 20

// least is the least of what is in use that may be added to it, percent: below,
// a node with a lot in use would do nothing but collect.
const least = 50

// keepHeadroom sets the runtime's percentage anew after every collection, so
// that it means headroom. A GOGC in the environment is left alone.
func keepHeadroom() {
	if os.Getenv("GOGC") != "" {
		return
	}
	last := 100
	var adjust func(*mark)
	adjust = func(m *mark) {
		if now := percent(inUse()); now < last*9/10 || now > last*11/10 {
			last = now
			debug.SetGCPercent(now)
		}
		runtime.SetFinalizer(m, adjust) // called with the next collection
	}
	adjust(new(mark))
}

// mark is what a collection finds unused.
type mark struct{ _ [16]byte }

// percent is GOGC for a heap of which that much is in use. The runtime's
// smallest heap is 4 MiB times it.
func percent(inUse uint64) int {
	return int(max(least, headroom*100/max(inUse, 4<<20))) //nolint:gosec // at most 300
}

// inUse is what the next collection is reckoned from.
func inUse() uint64 {
	samples := []metrics.Sample{{Name: "/gc/heap/live:bytes"}, {Name: "/gc/scan/stack:bytes"}, {Name: "/gc/scan/globals:bytes"}}
	metrics.Read(samples)
	var sum uint64
	for _, s := range samples {
		if s.Value.Kind() == metrics.KindUint64 {
			sum += s.Value.Uint64()
		}
	}
	return sum
}
