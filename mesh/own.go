package mesh

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
)

// own is what this node says of itself. Any goroutine may change it; the loop
// and the beacon read it.
type own struct {
	mu       sync.Mutex
	base     Info // from Config
	card     *Card
	digest   string
	body     []byte // card as peers fetch it
	load     *Load  // newest, stamped
	draining bool
}

// stamp gives l the node's name, incarnation and the next number.
func (o *own) stamp(node NodeID, incarnation uint64, l Load) *Load {
	l.Node, l.Incarnation, l.Seq = node, incarnation, 1
	if o.load != nil {
		l.Seq = o.load.Seq + 1
	}
	l.Draining = o.draining
	o.load = &l
	return o.load
}

// facts is one consistent reading.
func (o *own) facts() (Info, *Card, *Load) {
	o.mu.Lock()
	defer o.mu.Unlock()
	info := o.base.describe(o.card, o.digest)
	info.Draining = o.draining
	return info, o.card, o.load
}

// maxCard bounds the body of a card, sent or fetched: a thousand models with
// all that their Ollama says of them take about 1 MB.
const maxCard = 8 << 20

// Announce says what this node can do. Peers learn of a change by gossip
// within a fraction of a second and fetch the card. The card is taken over: it
// may not be changed afterwards. An unchanged card costs nothing.
func (m *Mesh) Announce(c Card) error {
	c.Catalog = slices.Clone(c.Catalog)
	slices.SortFunc(c.Catalog, func(a, b Model) int { return strings.Compare(a.Key, b.Key) })
	c.Parallel = max(c.Parallel, 1)
	body, err := json.Marshal(c)
	if err != nil {
		return fmt.Errorf("mesh: announce: %w", err)
	}
	if len(body) > maxCard {
		return fmt.Errorf("mesh: announce: a card of %d bytes is above the limit of %d", len(body), maxCard)
	}
	m.own.mu.Lock()
	digest := cardDigest(body)
	changed := digest != m.own.digest
	if changed {
		m.own.card, m.own.digest, m.own.body = &c, digest, body
	}
	m.own.mu.Unlock()
	if changed {
		poke(m.ownChanged)
	}
	return nil
}

// cardDigest is 120 bits of SHA-256: enough that no change goes unseen, short
// enough for a tag. It is no protection against forgery; TLS is.
func cardDigest(body []byte) string {
	sum := sha256.Sum256(body)
	return base64.RawURLEncoding.EncodeToString(sum[:15])
}

// Publish says how busy this node is. Node, Incarnation, Seq and Draining are
// filled in. A change that matters to others goes out at once (but not more
// often than [Mesh] may send, see DESIGN.md), anything else with the next
// periodic report. The load's slices are taken over.
func (m *Mesh) Publish(l Load) {
	m.own.mu.Lock()
	m.own.stamp(m.self, m.incarnation, l)
	m.own.mu.Unlock()
	poke(m.ownChanged)
	poke(m.loadChanged)
}

// Load is the newest report of this node, to be sent along with responses and
// refusals. It is never nil.
func (m *Mesh) Load() *Load {
	m.own.mu.Lock()
	defer m.own.mu.Unlock()
	return m.own.load
}

// refresh numbers the newest report anew, so that sending it again says: still
// so.
func (m *Mesh) refresh() *Load {
	m.own.mu.Lock()
	defer m.own.mu.Unlock()
	return m.own.stamp(m.self, m.incarnation, *m.own.load)
}

// SetDraining asks for no new work, or for work again. It goes out at once.
func (m *Mesh) SetDraining(on bool) {
	m.own.mu.Lock()
	if m.own.draining != on {
		m.own.draining = on
		m.own.stamp(m.self, m.incarnation, *m.own.load)
	}
	m.own.mu.Unlock()
	poke(m.ownChanged)
	poke(m.loadChanged)
}

// Observe takes a load report that came with a response of the peer from, over
// the peer link. Reports of other nodes than from are ignored: nobody speaks
// for another.
func (m *Mesh) Observe(from NodeID, l *Load) {
	if l == nil || l.Node != from || from == m.self {
		return
	}
	m.reports.add(l)
}

// poke sets a flag that a loop waits for.
func poke(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
