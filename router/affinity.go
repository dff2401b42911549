package router

import (
	"slices"
	"sync"
	"time"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/wire"
)

// warmth is what an ingress believes of the prompts in other nodes' KV caches:
// where it had one answered last. It is bounded, belongs to one ingress and is
// only ever an estimate's input. A belief ends with the process that it is about
// and with the model's stay in memory; when as many other prompts of the model
// went there as it has slots, since Ollama keeps one prompt per slot; and when
// an answer's own figures show that its prompt was read in full.
//
// An ingress that did not see the earlier turns finds the same node by the
// conversation's hash, as far as costs are near; see [spread].
type warmth struct {
	mu            sync.Mutex
	recent, older map[uint64]warm // by the hash of the whole prompt
	origins       map[runnerAt]*origin
}

// warm is one prompt in a cache.
type warm struct {
	at          *origin
	incarnation uint64
	heard       time.Time // the report that the answer came after
	answer      int       // number of the answer, of all that the runner gave through here
}

// origin is what has come from a model on a node through here.
type origin struct {
	runnerAt
	given int // answers
}

func (o *origin) is(c Cached) bool { return c.Node == o.node }

// runnerAt is a model on a node.
type runnerAt struct {
	node mesh.NodeID
	key  string
}

// lookLag is how much later than an answer a report may still not show the model
// that gave it in memory: the owner looks again after an answer, and no later
// than this. An agent's next turn does not wait for that look.
const lookLag = 2 * time.Second

// maxWarm is how many prompts of each generation are remembered.
const maxWarm = 4096

// cached says how many tokens of q's prompt nodes are believed to hold.
func (w *warmth) cached(q *Request, v *mesh.View) []Cached {
	if len(q.Prefixes) == 0 || len(q.PrefixTokens) != len(q.Prefixes) {
		return nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	var out []Cached
	for n := range q.Prefixes {
		i := len(q.Prefixes) - 1 - n
		x, ok := w.of(q.Prefixes[i])
		if !ok || x.at.key != q.Key || q.PrefixTokens[i] <= 0 || slices.ContainsFunc(out, x.at.is) || !x.holds(v) {
			continue
		}
		out = append(out, Cached{x.at.node, q.PrefixTokens[i]})
	}
	return out
}

// of finds a prompt by its hash. w.mu is held.
func (w *warmth) of(prefix uint64) (warm, bool) {
	x, ok := w.recent[prefix]
	if !ok {
		x, ok = w.older[prefix]
	}
	return x, ok
}

// cachedAt is what cached says of one node.
func (w *warmth) cachedAt(node mesh.NodeID, q *Request, v *mesh.View) int {
	if len(q.PrefixTokens) != len(q.Prefixes) {
		return 0
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for n := range q.Prefixes {
		i := len(q.Prefixes) - 1 - n
		if x, ok := w.of(q.Prefixes[i]); ok && x.at.node == node && x.at.key == q.Key && x.holds(v) && q.PrefixTokens[i] > 0 {
			return q.PrefixTokens[i]
		}
	}
	return 0
}

// holds reports whether the cache that x was in can still be there. The lock of
// its warmth is held.
func (x *warm) holds(v *mesh.View) bool {
	m, ok := v.Member(x.at.node)
	if !ok || m.Load == nil || m.Load.Incarnation != x.incarnation {
		return false
	}
	slots := 1
	if l := m.Load.Model(x.at.key); l != nil && l.Resident {
		slots = max(l.Slots, 1)
	} else if m.Heard.Sub(x.heard) > lookLag {
		return false
	}
	return x.at.given-x.answer < slots
}

// answers notes that m has read q's prompt: its answer begins. It returns how many
// tokens m was believed to hold before. The end of the answer would be too late: a
// client may send the next turn before its own handler has ended.
func (w *warmth) answers(q *Request, m *mesh.Member, v *mesh.View) (believed int) {
	if q.Embedding || len(q.Prefixes) == 0 || m.Load == nil {
		return 0
	}
	believed = w.cachedAt(m.ID, q, v)
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.recent) >= maxWarm || w.recent == nil {
		w.recent, w.older = make(map[uint64]warm), w.recent
	}
	if len(w.origins) >= maxWarm || w.origins == nil {
		w.origins = make(map[runnerAt]*origin)
		w.recent, w.older = make(map[uint64]warm), nil
	}
	at := w.origins[runnerAt{m.ID, q.Key}]
	if at == nil {
		at = &origin{runnerAt: runnerAt{m.ID, q.Key}}
		w.origins[at.runnerAt] = at
	}
	at.given++
	w.recent[q.Prefixes[len(q.Prefixes)-1]] = warm{at, m.Load.Incarnation, m.Heard, at.given}
	return believed
}

// answered checks a belief by what the answer has cost: where the prompt was read
// in full, nothing that is believed of m is true, but for this prompt.
func (w *warmth) answered(q *Request, m *mesh.Member, believed int, u wire.Usage) {
	if believed == 0 || !readInFull(m.Load.Model(q.Key), believed, u) {
		return
	}
	last := q.Prefixes[len(q.Prefixes)-1]
	w.mu.Lock()
	defer w.mu.Unlock()
	at := w.origins[runnerAt{m.ID, q.Key}]
	if at == nil {
		return // forgotten since
	}
	at.given += 1 << 16
	if x, ok := w.recent[last]; ok && x.at == at {
		x.answer = at.given
		w.recent[last] = x
	}
}

// readInFull reports whether a prompt of which most was believed to be in the
// cache was read as slowly as if nothing had been. Ollama up to 0.11 counts
// cached tokens in prompt_eval_count, others leave them out: so the time per
// token tells where all are counted, and where fewer are it was a hit.
func readInFull(l *mesh.ModelLoad, believed int, u wire.Usage) bool {
	if l == nil || l.Prefill <= 0 || u.PromptDuration <= 0 || u.PromptTokens < max(64, believed) || 2*believed < u.PromptTokens {
		return false
	}
	return u.PromptDuration.Seconds() > 0.75*float64(u.PromptTokens)/l.Prefill
}
