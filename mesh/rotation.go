package mesh

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh/identity"
)

// Routes on the peer port that a rotation uses.
const (
	keysPath   = "/mesh/v1/keys"
	deniedPath = "/mesh/v1/denied"
)

// keyOrder is one step of a rotation at one node. Keys travel over the pinned
// peer link only, node by node: gossip would bring them to an evicted node,
// too.
type keyOrder struct {
	Op          string `json:"op"`                    // install, use, remove
	Key         string `json:"key,omitempty"`         // of install
	Fingerprint string `json:"fingerprint,omitempty"` // of use and remove
}

// NodeKeys is which keys a node has, by fingerprint, the one that it sends with
// first.
type NodeKeys struct {
	ID   NodeID   `json:"id"`
	Name string   `json:"name"`
	Keys []string `json:"keys"`
	Err  string   `json:"error,omitempty"` // it could not be asked
}

// LagError names the live members that did not take part in a step.
type LagError struct {
	What  string   // what they did not do
	Names []string // of the members

	mu   sync.Mutex
	errs []error
}

func (e *LagError) Error() string {
	return fmt.Sprintf("mesh: %s did not %s", strings.Join(e.Names, ", "), e.What)
}

// Unwrap returns what went wrong, one error per member.
func (e *LagError) Unwrap() []error { return e.errs }

func (e *LagError) add(m *Member, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.Names = append(e.Names, m.Name)
	e.errs = append(e.errs, err)
}

// or is e, or nil when nobody lags.
func (e *LagError) or(what string) error {
	if len(e.Names) == 0 {
		return nil
	}
	slices.Sort(e.Names)
	e.What = what
	return e
}

// livePeers are the others that are alive and were not evicted.
func (m *Mesh) livePeers() []*Member {
	var out []*Member
	for _, p := range m.View().Members() {
		if !p.Self && p.Status == Alive && !m.denied.has(p.ID) {
			out = append(out, p)
		}
	}
	return out
}

// everyPeer calls f for each of them at once and waits.
func (m *Mesh) everyPeer(f func(*Member)) {
	var wg sync.WaitGroup
	slots := make(chan struct{}, maxFetches)
	for _, p := range m.livePeers() {
		wg.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			f(p)
		})
	}
	wg.Wait()
}

// lagging filters what a member that died or was evicted meanwhile did not do:
// nobody waits for the dead.
func (m *Mesh) lagging(p *Member) bool {
	now, ok := m.View().Member(p.ID)
	return ok && now.Status == Alive && !m.denied.has(p.ID)
}

// KeysOf asks every live member which keys it has; the first answer is this
// node's own.
func (m *Mesh) KeysOf(ctx context.Context) []NodeKeys {
	self := m.View().Self()
	out := []NodeKeys{{ID: m.self, Name: self.Name, Keys: m.keys.fingerprints()}}
	var mu sync.Mutex
	m.everyPeer(func(p *Member) {
		n := NodeKeys{ID: p.ID, Name: p.Name, Keys: []string{}}
		body, err := getPeer(ctx, m.peers, p.ID, keysPath, maxHello)
		if err == nil {
			err = json.Unmarshal(body, &n.Keys)
		}
		if err != nil {
			n.Err = "does not answer"
		}
		mu.Lock()
		defer mu.Unlock()
		out = append(out, n)
	})
	slices.SortFunc(out[1:], func(a, b NodeKeys) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// settleKeys is the pause between the last member's use of a new key and the
// end of the old one: packets under way and a push-pull that was just begun
// (TCPTimeout is for the worst) are read by then.
const settleKeys = 2 * time.Second

// RotateKey replaces the mesh key by next on every live member: install it
// everywhere, send with it everywhere, take the old one away everywhere. It
// goes on only when every live member has done a step, and says who has not;
// requests are not touched by any of it. Members that are away keep the old
// key and have to be given the new one.
//
// When not everybody takes the new key, it is taken back and the mesh is as
// before. Later than that both keys are good until [Mesh.RemoveKey] ends it.
func (m *Mesh) RotateKey(ctx context.Context, next Key) error {
	if !m.keys.on() {
		return ErrOpenMesh
	}
	if !m.rotating.TryLock() {
		return ErrRingFull
	}
	defer m.rotating.Unlock()
	had := m.keys.fingerprints()
	if len(had) > 1 {
		return fmt.Errorf("%w: %s", ErrRingFull, strings.Join(had, " and "))
	}
	old, fresh := had[0], next.Fingerprint()
	if old == fresh {
		return errors.New("mesh: that is the key in use")
	}
	if err := m.keys.install(next); err != nil {
		return err
	}
	if err := m.installAll(ctx, next); err != nil {
		back, cancel := context.WithTimeout(context.WithoutCancel(ctx), cardTimeout)
		defer cancel()
		m.everyPeer(func(p *Member) {
			_ = m.order(back, p.ID, keyOrder{Op: "remove", Fingerprint: fresh}) // those that have it
		})
		return errors.Join(err, m.keys.remove(fresh))
	}
	m.log.Info("new mesh key installed on all members", "key", fresh)
	return m.drop(ctx, next, old)
}

// RemoveKey ends a rotation that was not finished: every live member sends with
// the other key, and the one of that fingerprint is taken away.
func (m *Mesh) RemoveKey(ctx context.Context, fingerprint string) error {
	if !m.keys.on() {
		return ErrOpenMesh
	}
	if !m.rotating.TryLock() {
		return ErrRingFull
	}
	defer m.rotating.Unlock()
	had := m.keys.fingerprints()
	if !slices.Contains(had, fingerprint) {
		return ErrNoKey
	}
	keep := slices.DeleteFunc(had, func(fp string) bool { return fp == fingerprint })
	if len(keep) == 0 {
		return ErrLastKey
	}
	key, ok := m.keys.find(keep[0])
	if !ok {
		return ErrNoKey
	}
	if err := m.installAll(ctx, key); err != nil {
		return err
	}
	return m.drop(ctx, key, fingerprint)
}

// installAll gives every live member the key, also those that join meanwhile.
func (m *Mesh) installAll(ctx context.Context, key Key) error {
	done := make(map[NodeID]bool)
	for {
		var mu sync.Mutex
		var lag LagError
		asked := 0
		m.everyPeer(func(p *Member) {
			mu.Lock()
			has := done[p.ID]
			mu.Unlock()
			if has {
				return
			}
			err := m.order(ctx, p.ID, keyOrder{Op: "install", Key: key.String()})
			mu.Lock()
			defer mu.Unlock()
			asked++
			if err == nil {
				done[p.ID] = true
			} else if m.lagging(p) {
				lag.add(p, err)
			}
		})
		if asked == 0 {
			return nil
		}
		if err := lag.or("take the new key"); err != nil {
			return err
		}
	}
}

// drop makes every live member send with key and forget the old one.
func (m *Mesh) drop(ctx context.Context, key Key, old string) error {
	fresh := key.Fingerprint()
	step := func(o keyOrder, what string) error {
		var lag LagError
		m.everyPeer(func(p *Member) {
			if err := m.order(ctx, p.ID, o); err != nil && m.lagging(p) {
				lag.add(p, err)
			}
		})
		return lag.or(what)
	}
	if err := step(keyOrder{Op: "use", Fingerprint: fresh}, "use the new key"); err != nil {
		return err
	}
	if err := m.keys.use(fresh); err != nil {
		return err
	}
	pause(ctx, settleKeys)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	// Whoever joined with the old key since then gets the new one, too.
	if err := m.installAll(ctx, key); err != nil {
		return err
	}
	if err := step(keyOrder{Op: "use", Fingerprint: fresh}, "use the new key"); err != nil {
		return err
	}
	if err := step(keyOrder{Op: "remove", Fingerprint: old}, "remove the old key"); err != nil {
		return err
	}
	if err := m.keys.remove(old); err != nil {
		return err
	}
	m.log.Info("old mesh key removed on all members", "key", old, "now", fresh)
	return nil
}

func (m *Mesh) order(ctx context.Context, id NodeID, o keyOrder) error {
	body, err := json.Marshal(o)
	if err != nil {
		return err
	}
	return m.postPeer(ctx, id, keysPath, body)
}

// postPeer sends a small document to a peer.
func (m *Mesh) postPeer(ctx context.Context, id NodeID, path string, body []byte) error {
	ctx, cancel := context.WithTimeout(ctx, loadTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://"+string(id)+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	resp, err := m.peers.RoundTrip(req)
	if err != nil {
		return fmt.Errorf("mesh: tell %s: %w", id, err)
	}
	defer resp.Body.Close()
	// Read to its end, so that the connection can be used again.
	if _, err := io.Copy(io.Discard, io.LimitReader(resp.Body, maxDeniedBody)); err != nil {
		return fmt.Errorf("mesh: tell %s: %w", id, err)
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("mesh: %s answers %d", id, resp.StatusCode)
	}
	return nil
}

// serveKeys takes an order of another member. Whoever holds the mesh key is
// trusted with it: see DESIGN.md.
func (m *Mesh) serveKeys(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodPost {
		o, err := parseOrder(http.MaxBytesReader(w, r.Body, maxHello))
		if err != nil {
			fail(w, http.StatusBadRequest, "not an order about keys")
			return
		}
		switch o.Op {
		case "install":
			var key Key
			if key, err = ParseKey(o.Key); err == nil {
				err = m.keys.install(key)
			}
		case "use":
			err = m.keys.use(o.Fingerprint)
		case "remove":
			err = m.keys.remove(o.Fingerprint)
		}
		from, _ := identity.PeerID(r)
		if err != nil {
			m.log.Warn("mesh key cannot be changed as another member asks", "op", o.Op, "by", from, "err", err)
			fail(w, http.StatusConflict, "cannot "+o.Op+" that key")
			return
		}
		m.log.Info("mesh key changed by another member", "op", o.Op, "by", from, "keys", strings.Join(m.keys.fingerprints(), " "))
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(m.keys.fingerprints())
}

func parseOrder(r io.Reader) (keyOrder, error) {
	var o keyOrder
	if err := json.NewDecoder(r).Decode(&o); err != nil {
		return o, errors.New("mesh: no JSON") // never the text: it holds a key
	}
	switch {
	case o.Op == "install" && o.Key != "",
		(o.Op == "use" || o.Op == "remove") && validFingerprint(o.Fingerprint):
		return o, nil
	}
	return o, errors.New("mesh: no such order")
}
