package backend

import (
	"slices"
	"time"
)

// foreignFor is how long one sign of somebody else's use counts: the next one
// comes when their request ends.
const foreignFor = 5 * time.Second

// foreign reports whether somebody outside the mesh used Ollama between two
// looks: a model came into memory, or its keep-alive was renewed, while this
// node had nothing to do with it. touched tells when a request of this node on
// the model last began or ended (now, if one runs).
//
// A request on a model that was loaded before shows only when it ends, because
// Ollama renews the keep-alive then; the load of one that was not shows at once.
func foreign(prev, next *State, touched func(key string) time.Time) bool {
	if !prev.Up || !next.Up || prev.Polled.IsZero() || !next.Polled.After(prev.Polled) {
		return false // what was there before we looked is nobody's news
	}
	for i := range next.Resident {
		r := &next.Resident[i]
		at := slices.IndexFunc(prev.Resident, func(o Resident) bool { return o.Key == r.Key && o.Digest == r.Digest })
		if at >= 0 && r.Expires.Sub(prev.Resident[at].Expires) <= 500*time.Millisecond {
			continue
		}
		if touched(r.Key).Before(prev.Polled.Add(-2 * time.Second)) {
			return true
		}
	}
	return false
}
