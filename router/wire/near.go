package wire

import (
	"cmp"
	"slices"
	"strings"
)

const (
	nearMax      = 5  // hints in one answer
	nearNameMax  = 96 // longer names get no hints: the distance costs their product
	nearDistance = 3  // edits, and never more than a third of the name
)

// Near returns the names in have that somebody who wrote name may have meant,
// best first, at most five: the same model with another tag, names that begin
// with it or that it begins with, and names within three edits (a third of its
// length if that is less). Names are compared in their canonical form and
// returned as they are in have.
func Near(name string, have []string) []string {
	name = Canonical(name)
	if len(name) > nearNameMax || name == "" {
		return nil
	}
	want, wantTag := splitTag(name)
	type hint struct {
		name  string
		score int
	}
	var hints []hint
	for _, h := range have {
		key := Canonical(h)
		if len(key) > nearNameMax {
			continue
		}
		model, tag := splitTag(key)
		score := 0
		switch {
		case model == want:
			score = min(distance(tag, wantTag, nearDistance), nearDistance)
		case len(want) >= 3 && strings.HasPrefix(model, want), len(model) >= 3 && strings.HasPrefix(want, model):
			score = 10
		default:
			most := min(nearDistance, len(want)/3)
			d := distance(model, want, most)
			if d > most {
				continue
			}
			score = 20 + d
		}
		hints = append(hints, hint{h, score})
	}
	slices.SortFunc(hints, func(a, b hint) int {
		return cmp.Or(cmp.Compare(a.score, b.score), strings.Compare(a.name, b.name))
	})
	var names []string
	for _, h := range hints[:min(len(hints), nearMax)] {
		names = append(names, h.name)
	}
	return slices.Compact(names)
}

func splitTag(name string) (model, tag string) {
	if !hasTag(name) {
		return name, ""
	}
	i := strings.LastIndexByte(name, ':')
	return name[:i], name[i+1:]
}

// distance is the number of edits (insert, delete, replace a byte) from a to
// b, or some number above most when it is more than that.
func distance(a, b string, most int) int {
	if d := len(a) - len(b); d > most || -d > most {
		return most + 1
	}
	var rows [2][nearNameMax + 1]int
	row, above := rows[0][:len(b)+1], rows[1][:len(b)+1]
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		row, above = above, row
		row[0] = i + 1
		best := row[0]
		for j := range len(b) {
			change := 1
			if a[i] == b[j] {
				change = 0
			}
			row[j+1] = min(above[j]+change, above[j+1]+1, row[j]+1)
			best = min(best, row[j+1])
		}
		if best > most {
			return most + 1
		}
	}
	return row[len(b)]
}
