package guard

import (
	"sync"
	"time"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/apikeys"
)

// admission counts what runs for whom. It keeps one script from taking every
// place: a client may hold at most 1/(n+1) of the places when n clients have
// requests, so one alone leaves half of them free for whoever comes next.
type admission struct {
	limit int // requests at once, all clients together

	mu      sync.Mutex
	running int
	clients map[string]int     // requests that run or wait, by name
	buckets map[string]*bucket // by key name; keys are few and named by the owner
}

// bucket is a token bucket: a key's requests per minute, with a burst of a
// sixth of them (ten seconds' worth), at least one.
type bucket struct {
	rate   int // the setting that the bucket was made for
	tokens float64
	at     time.Time
}

func newAdmission(limit int) *admission {
	return &admission{limit: limit, clients: make(map[string]int), buckets: make(map[string]*bucket)}
}

// share is how much of limit one client may have when n clients have some. All
// programs on the node's own machine share one address, so it may have more,
// but leaves an eighth to the network.
func share[N int | int64](limit N, n int, zone Zone) N {
	if zone == Here {
		return max(1, limit-limit/8)
	}
	return max(1, limit/N(n+1))
}

// Waits that refusals name. Places come free at once when a request ends, but
// clients that come back together would only be refused again.
const retryFull = 2 * time.Second

// enter takes a place for a request, or says when to try again and why not.
// leave gives the place back; err means that the caller owns nothing.
func (a *admission) enter(name string, key *apikeys.Key, zone Zone, now time.Time) (leave func(), retry time.Duration, why string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	mine := a.clients[name]
	others := len(a.clients)
	if mine == 0 {
		others++
	}
	switch {
	case a.running >= a.limit:
		return nil, retryFull, "the node has no place left"
	case mine >= share(a.limit, others, zone):
		return nil, retryFull, "this client has its share of places"
	case key != nil && key.Running > 0 && mine >= key.Running:
		return nil, retryFull, "this API key has its requests running"
	}
	if key != nil && key.Rate > 0 {
		if wait := a.take(key, now); wait > 0 {
			return nil, wait, "this API key has used its requests per minute"
		}
	}
	a.running++
	a.clients[name] = mine + 1
	left := false
	return func() { a.leave(name, &left) }, 0, ""
}

func (a *admission) leave(name string, left *bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if *left {
		return
	}
	*left = true
	a.running--
	if a.clients[name]--; a.clients[name] <= 0 {
		delete(a.clients, name)
	}
}

// take takes one token of a key's bucket, or says how long until there is one.
func (a *admission) take(key *apikeys.Key, now time.Time) time.Duration {
	burst := max(1, float64(key.Rate)/6)
	b := a.buckets[key.Name]
	if b == nil || b.rate != key.Rate {
		b = &bucket{rate: key.Rate, tokens: burst, at: now}
		a.buckets[key.Name] = b
	}
	perSecond := float64(key.Rate) / 60
	b.tokens = min(burst, b.tokens+max(0, now.Sub(b.at).Seconds())*perSecond)
	b.at = now
	if b.tokens < 1 {
		return time.Duration((1 - b.tokens) / perSecond * float64(time.Second))
	}
	b.tokens--
	return 0
}
