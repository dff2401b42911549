package router

import (
	"context"
	"log/slog"
	"math"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/wire"
)

// kept is how many ended requests the journal remembers. Each holds the
// picture that its choice was made from, which shares all that did not change
// between two requests with its neighbours.
const kept = 256

// journal knows the requests that this node runs for clients and the last ones
// that ended. It holds names and numbers only.
type journal struct {
	log  *slog.Logger
	done func(Record) // nil: nobody listens

	mu      sync.Mutex
	running map[*trip]struct{}
	ring    []*trip // ended ones, oldest at next once it is full
	next    int
	ends    uint64 // how many have ended since the start
}

func newJournal(log *slog.Logger, done func(Record)) *journal {
	return &journal{log: log, done: done, running: map[*trip]struct{}{}}
}

// begin opens the record of a request that is answered through w.
func (j *journal) begin(w http.ResponseWriter, route wire.Route) *trip {
	t := &trip{ResponseWriter: w, journal: j, rec: Record{Route: route.Kind.String(), Start: time.Now(), Inference: route.Kind.Inference()}}
	j.mu.Lock()
	j.running[t] = struct{}{}
	j.mu.Unlock()
	return t
}

// end takes over a record that is closed.
func (j *journal) end(t *trip) {
	j.mu.Lock()
	delete(j.running, t)
	if t.rec.ID != "" {
		j.ends++
		if len(j.ring) < kept {
			j.ring = append(j.ring, t)
		} else {
			j.ring[j.next] = t
			j.next = (j.next + 1) % kept
		}
	}
	j.mu.Unlock()
	t.ResponseWriter = nil // belongs to the server again
	r := t.record()
	j.say(&r)
	if j.done != nil {
		j.done(r)
	}
}

// say writes the one line that a request has in the log. Looks at listings come
// by the second from some clients, and say nothing.
func (j *journal) say(r *Record) {
	level := slog.LevelInfo
	if !r.Inference {
		level = slog.LevelDebug
	}
	ctx := context.Background()
	if !j.log.Enabled(ctx, level) {
		return
	}
	line := slog.NewRecord(time.Now(), level, "request", 0) // nobody asks for the line in this file
	line.AddAttrs(
		slog.String("request", r.ID), slog.String("route", r.Route), slog.String("model", r.Model),
		slog.String("owner", r.Owner), slog.Int("attempts", len(r.Attempts)), slog.Int("continued", r.Continued),
		slog.Int("status", r.Status), slog.String("outcome", string(r.Outcome)),
		slog.Int64("ttft_ms", int64(r.First*1000)), slog.Int64("took_ms", int64(r.Took*1000)),
		slog.Int("tokens", r.OutputTokens), slog.Float64("tokens_per_s", round(r.Rate)),
	)
	_ = j.log.Handler().Handle(ctx, line)
}

func round(f float64) float64 { return float64(int64(f*10+0.5)) / 10 }

// trips lists what runs and what has ended after the first since ones, newest
// first, and how many have ended so far.
func (j *journal) trips(since uint64) (running, ended []*trip, ends uint64) {
	j.mu.Lock()
	for t := range j.running {
		running = append(running, t)
	}
	for i := range min(j.ends-min(since, j.ends), uint64(len(j.ring))) {
		ended = append(ended, j.ring[(j.next+len(j.ring)-1-int(i))%len(j.ring)])
	}
	ends = j.ends
	j.mu.Unlock()
	slices.SortFunc(running, func(a, b *trip) int { return b.rec.Start.Compare(a.rec.Start) })
	return running, ended, ends
}

// Requests lists the requests of clients that this node works on and the last
// few hundred that it has ended, newest first; of those only what has ended
// after the first since ones. ends is since for the next call. Listings, health
// pages and the like are not among them.
func (r *Router) Requests(since uint64) (running, ended []Record, ends uint64) {
	now, past, ends := r.journal.trips(since)
	running, ended = []Record{}, make([]Record, 0, len(past))
	for _, t := range now {
		if rec := t.record(); rec.ID != "" {
			running = append(running, rec)
		}
	}
	for _, t := range past {
		ended = append(ended, t.record())
	}
	return running, ended, ends
}

// Running counts the requests of clients that this node works on.
func (r *Router) Running() (n int) {
	running, _, _ := r.journal.trips(math.MaxUint64)
	for _, t := range running {
		if t.record().ID != "" {
			n++
		}
	}
	return n
}

// Recorded finds a request by its id, or the newest one by "last", with the
// explanation of its first choice; !ok when it is not known or was never
// placed.
func (r *Router) Recorded(id string) (rec Record, e Explanation, ok bool) {
	running, ended, _ := r.journal.trips(0)
	for _, t := range append(running, ended...) {
		rec = t.record()
		if rec.ID == "" || id != "last" && rec.ID != id {
			continue
		}
		t.mu.Lock()
		q, s := t.request, t.snapshot
		t.mu.Unlock()
		if s.View == nil {
			return rec, Explanation{}, false
		}
		return rec, r.explanation(q, s), true
	}
	return Record{}, Explanation{}, false
}
