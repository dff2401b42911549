package router

import (
	"math"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh"
)

// Ledger remembers what one router sent and how it went: the corrections that
// its Snapshots put on top of what nodes say of themselves. It reads no clock,
// so that the simulator keeps the same books; it is safe for concurrent use.
type Ledger struct {
	mu      sync.Mutex
	sent    map[mesh.NodeID]*outbox
	works   int // in all outboxes
	trouble map[mesh.NodeID]trouble
}

// trouble is a node's run of failures on the request path. It speaks of one
// process: a node that came back after it, or whose Ollama did, starts with a
// clean sheet.
type trouble struct {
	failures int
	at       time.Time // of the last failure
	until    time.Time
	down     bool // the node's Ollama has been down since
}

// Failures cost a node more the more of them come in a row, so that a node
// that fails fast does not attract traffic by looking idle; a success clears
// it. 5 s doubling to 60 s is the back-off that suits 2 to 10 nodes (Envoy's
// outlier ejection starts at 30 s for fleets of hundreds).
const (
	troubleBase = 5 * time.Second
	troubleMax  = 60 * time.Second
)

// sameEvent is how close failures count as one: a node that dies under fifty
// requests has died once.
const sameEvent = time.Second

// settle is how long after dispatch a report may still not count a request:
// one trip there, admission, and the report's way back.
const settle = 150 * time.Millisecond

// NewLedger makes an empty Ledger.
func NewLedger() *Ledger {
	return &Ledger{sent: map[mesh.NodeID]*outbox{}, trouble: map[mesh.NodeID]trouble{}}
}

// outbox is what is on its way to one node.
type outbox struct {
	node  mesh.NodeID
	works []*Work
}

// Dispatch notes w as sent to node; the caller calls done once.
func (l *Ledger) Dispatch(node mesh.NodeID, w Work) (done func()) {
	entry := &w
	l.mu.Lock()
	box := l.sent[node]
	if box == nil {
		box = &outbox{node: node}
		l.sent[node] = box
	}
	box.works = append(box.works, entry)
	l.works++
	l.mu.Unlock()
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		i, last := slices.Index(box.works, entry), len(box.works)-1
		if i < 0 {
			return
		}
		box.works[i], box.works[last] = box.works[last], nil
		box.works = box.works[:last]
		l.works--
		if last == 0 && len(l.sent) > maxEmpty {
			delete(l.sent, node)
		}
	}
}

// maxEmpty is how many nodes keep their place in the books though nothing is on
// its way to them.
const maxEmpty = 1024

// Outstanding counts, by node and model, the work that the node's own report
// cannot have counted yet.
func (l *Ledger) Outstanding(v *mesh.View) []Sent {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.works == 0 {
		return nil
	}
	var out []Sent
	for _, box := range l.sent {
		if len(box.works) == 0 {
			continue
		}
		var since time.Time // what was sent before it is counted
		if m, ok := v.Member(box.node); ok {
			since = m.Heard.Add(-settle)
		}
		begin := len(out)
		for _, w := range box.works {
			if !since.Before(w.Sent) {
				continue
			}
			if i := slices.IndexFunc(out[begin:], func(s Sent) bool { return s.Key == w.Key }); i >= 0 {
				out[begin+i].N++
			} else {
				out = append(out, Sent{box.node, w.Key, 1})
			}
		}
	}
	slices.SortStableFunc(out, func(a, b Sent) int { return strings.Compare(string(a.Node), string(b.Node)) })
	return out
}

// Failed notes a failure that speaks against the node.
func (l *Ledger) Failed(node mesh.NodeID, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	t := l.trouble[node]
	if t.failures == 0 || now.Sub(t.at) >= sameEvent {
		t.failures++
	}
	cost := min(troubleMax, time.Duration(float64(troubleBase)*math.Exp2(float64(min(t.failures, 8)-1))))
	t.at, t.until = now, now.Add(cost)
	l.trouble[node] = t
}

// Worked clears a node's trouble.
func (l *Ledger) Worked(node mesh.NodeID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.trouble, node)
}

// Troubles lists what is left of each node's penalty: for what was seen of it
// from here, or for what it says of itself, whichever is more.
func (l *Ledger) Troubles(v *mesh.View, now time.Time) map[mesh.NodeID]time.Duration {
	out := admitted(v, now)
	l.mu.Lock()
	defer l.mu.Unlock()
	for id, t := range l.trouble {
		if m, ok := v.Member(id); ok {
			down := m.Load != nil && !m.Load.Up
			if reborn(m, t.at) || t.down && m.Load != nil && !down {
				delete(l.trouble, id)
				continue
			}
			if down && !t.down {
				t.down = true
				l.trouble[id] = t
			}
		}
		if left := t.until.Sub(now); left > out[id] {
			if out == nil {
				out = map[mesh.NodeID]time.Duration{}
			}
			out[id] = left
		}
	}
	return out
}

// reborn reports whether m is a process that began after at, by our clock: its
// life as a member did. (Its own start time is by its own clock.)
func reborn(m *mesh.Member, at time.Time) bool {
	return m.Status == mesh.Alive && m.Since.After(at)
}

// admitted is what nodes say of their own failures, as old as their reports are.
func admitted(v *mesh.View, now time.Time) map[mesh.NodeID]time.Duration {
	var out map[mesh.NodeID]time.Duration
	for _, m := range v.Troubled() {
		if m.Self {
			continue
		}
		left := min(time.Duration(m.Load.Trouble)*time.Second, troubleMax) - now.Sub(m.Heard)
		if left <= 0 {
			continue
		}
		if out == nil {
			out = map[mesh.NodeID]time.Duration{}
		}
		out[m.ID] = left
	}
	return out
}
