package mesh

import (
	"slices"
	"strings"
	"time"
)

// fetchState is what is kept about fetching from one member over the peer
// link: its card when the digest in its tags changed, its load when its
// datagrams do not get through.
type fetchState struct {
	busy  bool
	tries int       // failed in a row
	next  time.Time // not before
	load  time.Time // last try of the load
}

// Bounds of fetching.
const (
	maxFetches   = 8 // at once, over all members
	fetchBackoff = 250 * time.Millisecond
	maxBackoff   = 30 * time.Second
	// deaf is the silence after which a member's load is asked for, unless its
	// datagrams are just rare (three periods).
	deaf = 3 * time.Second
	// deafEvery is how often it is asked for then.
	deafEvery = 10 * time.Second
)

// job is one fetch to do.
type job struct {
	id     NodeID
	card   bool   // the card, else the load
	digest string // that the tags promise
}

// due hands out the fetches that should start now, at most room of them, and
// marks them busy until [state.fetched].
func (s *state) due(now time.Time, room int) []job {
	if room <= 0 {
		return nil
	}
	var jobs []job
	silence := max(deaf, 3*beaconPeriod(len(s.members)))
	for id, r := range s.members {
		if id == s.self || r.member.Status != Alive || r.fetch.busy || r.member.Info.PeerPort == 0 {
			continue
		}
		switch {
		case r.member.Info.Card != "" && r.member.Info.Card != r.digest && !now.Before(r.fetch.next):
			jobs = append(jobs, job{id: id, card: true, digest: r.member.Info.Card})
		case now.Sub(later(r.member.Heard, r.member.Since)) > silence && now.Sub(r.fetch.load) > deafEvery:
			jobs = append(jobs, job{id: id})
		}
	}
	slices.SortFunc(jobs, func(a, b job) int { return strings.Compare(string(a.id), string(b.id)) })
	jobs = jobs[:min(len(jobs), room)]
	for _, j := range jobs {
		r := s.members[j.id]
		if r.fetch.busy = true; !j.card {
			r.fetch.load = now
		}
	}
	return jobs
}

// fetched takes the result of a job. Jitter in [0,1) spreads the retries of
// many nodes that saw the same change at once.
func (s *state) fetched(now time.Time, j job, got fetchResult, jitter float64) bool {
	r := s.members[j.id]
	if r == nil {
		return false // forgotten meanwhile
	}
	r.fetch.busy = false
	if !j.card {
		return got.err == nil && got.load != nil && got.load.Node == j.id && s.heard(now, got.load)
	}
	if got.err != nil {
		r.fetch.tries++
		r.fetch.next = now.Add(backoff(r.fetch.tries, jitter))
		return false
	}
	r.digest = got.digest
	r.fetch.tries = 0
	if got.digest != r.member.Info.Card {
		// The node changed in between; its tags are about to say so. If they
		// never do, this is no reason to ask without pause.
		r.fetch.tries = 3
		r.fetch.next = now.Add(backoff(r.fetch.tries, jitter))
	}
	c := *r.member
	c.Card = got.card
	s.put(r, &c)
	return true
}

// fetchResult is what came back.
type fetchResult struct {
	card   *Card
	digest string // of the card's bytes
	load   *Load
	err    error
}

// backoff doubles from fetchBackoff to maxBackoff, less up to half by jitter.
func backoff(tries int, jitter float64) time.Duration {
	d := maxBackoff
	if tries < 8 {
		d = min(maxBackoff, fetchBackoff<<max(tries-1, 0))
	}
	return d - time.Duration(jitter*float64(d)/2)
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
