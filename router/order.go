package router

import (
	"math/bits"
	"slices"
)

// order sorts candidates by their ranks, those that are refused last, and puts in
// the place of each rank where the candidate was before. Small keys are sorted, the
// rank and in the low bits the index, and only estimates move: they hold no pointer.
func order(cs []Candidate, keys []int64) {
	low := max(12, bits.Len(uint(len(cs))))
	mask := int64(1)<<low - 1
	for i, rank := range keys {
		if keys[i] = min(rank, 1<<(62-low))<<low | int64(i); rank == refused {
			keys[i] = 3<<61 | int64(i) // above all others
		}
	}
	if len(keys) > 64 && len(keys) <= 512 {
		sortMany(keys)
	} else {
		slices.Sort(keys)
	}
	for i := range keys {
		keys[i] &= mask
	}
	// Walk the cycles of the permutation; a place that is done has its key inverted.
	for i := range keys {
		if keys[i] < 0 {
			continue
		}
		first := cs[i].Estimate
		at := i
		for {
			from := keys[at]
			keys[at] = ^from
			if int(from) == i {
				break
			}
			cs[at].Estimate = cs[from].Estimate
			at = int(from)
		}
		cs[at].Estimate = first
	}
	for i := range keys {
		keys[i] = ^keys[i]
	}
}

// sortMany sorts up to 512 keys: it deals them to buckets, 16 for each doubling of
// what they are above the least, so that few are far from their place. That takes
// half the time of sorting them as they are.
func sortMany(keys []int64) {
	least := slices.Min(keys)
	bucket := func(k int64) uint {
		d := uint64(k-least) + 16 //nolint:gosec // not negative
		log := uint(bits.Len64(d))
		return (log<<4 + uint(d>>(log-5))&15) & 1023 // d is below 1<<63
	}
	var ends [1024]uint16
	for _, k := range keys {
		ends[bucket(k)]++
	}
	sum := uint16(0)
	for i, n := range ends {
		ends[i] = sum // where it begins
		sum += n
	}
	var hand [512]int64
	for _, k := range hand[:copy(hand[:], keys)] {
		b := bucket(k)
		keys[ends[b]] = k
		ends[b]++
	}
	begin := uint16(0)
	for _, end := range ends {
		if end-begin > 24 {
			slices.Sort(keys[begin:end])
		}
		begin = end
	}
	for i := 1; i < len(keys); i++ {
		k, at := keys[i], i
		for ; at > 0 && keys[at-1] > k; at-- {
			keys[at] = keys[at-1]
		}
		keys[at] = k
	}
}
