package router

import (
	"math/bits"
	"slices"
)

// order sorts by ranks, which it takes over. Candidates are large, so small keys
// are sorted in their place: the rank and, in the low bits, the index.
func order(cs []Candidate, ranks []int64) {
	low := max(12, bits.Len(uint(len(cs))))
	mask := int64(1)<<low - 1
	keys := ranks
	for i := range keys {
		keys[i] = min(ranks[i], 1<<(62-low))<<low | int64(i)
	}
	slices.Sort(keys)
	// Walk the cycles of the permutation.
	for i := range keys {
		from := int(keys[i] & mask)
		if from == i {
			continue
		}
		first := cs[i]
		at := i
		for from != i {
			cs[at] = cs[from]
			keys[at] = int64(at)
			at, from = from, int(keys[from]&mask)
		}
		cs[at] = first
		keys[at] = int64(at)
	}
}
