package mesh

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh/identity"
)

// A denial says whether a node was evicted. The newest word on a node counts,
// so members that were away agree as soon as they meet, in whatever order.
type denial struct {
	ID     NodeID `json:"id"`
	Denied bool   `json:"denied"`
	At     int64  `json:"at"` // Unix ms
}

const (
	maxDenials    = 1024
	maxDeniedBody = 256 << 10
)

// DeniedFile is the usual name of [Config.DeniedFile].
const DeniedFile = "denied.json"

// denials is the list of evicted nodes.
type denials struct {
	path string

	mu   sync.Mutex
	byID map[NodeID]denial
}

func loadDenials(path string) (*denials, error) {
	d := &denials{byID: make(map[NodeID]denial)}
	if path == "" {
		return d, nil
	}
	data, err := os.ReadFile(path)
	var list []denial
	if err == nil {
		list, err = parseDenials(data)
	}
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		_, err = d.merge(list)
		d.path = path
		return d, err
	}
	// Without it an evicted node might come back: better not to start.
	return nil, fmt.Errorf("mesh: list of evicted nodes %s: %w", path, err)
}

func parseDenials(data []byte) ([]denial, error) {
	var list []denial
	if err := json.Unmarshal(data, &list); err != nil {
		return nil, errors.New("it is no JSON list of denials")
	}
	if len(list) > maxDenials {
		return nil, errors.New("it is too long")
	}
	for _, e := range list {
		if !e.ID.Valid() {
			return nil, errors.New("it names something that is no node id")
		}
	}
	return list, nil
}

func (d *denials) has(id NodeID) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.byID[id].Denied
}

// list is everything known, by id.
func (d *denials) list() []denial {
	d.mu.Lock()
	defer d.mu.Unlock()
	out := make([]denial, 0, len(d.byID))
	for _, e := range d.byID {
		out = append(out, e)
	}
	slices.SortFunc(out, func(a, b denial) int { return strings.Compare(string(a.ID), string(b.ID)) })
	return out
}

// set records a word of now on a node, newer than any before.
func (d *denials) set(id NodeID, denied bool, now time.Time) error {
	d.mu.Lock()
	e := denial{ID: id, Denied: denied, At: max(now.UnixMilli(), d.byID[id].At+1)}
	d.mu.Unlock()
	_, err := d.merge([]denial{e})
	return err
}

// merge takes over what is newer, and returns the nodes it is about. Of two
// words of the same moment the denial counts.
func (d *denials) merge(list []denial) (changed []denial, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, e := range list {
		old, known := d.byID[e.ID]
		if known && (e.At < old.At || e.At == old.At && (old.Denied || !e.Denied)) || !known && len(d.byID) >= maxDenials {
			continue
		}
		d.byID[e.ID] = e
		if e.Denied != old.Denied {
			changed = append(changed, e)
		}
	}
	if len(changed) == 0 || d.path == "" {
		return changed, nil
	}
	out := make([]denial, 0, len(d.byID))
	for _, e := range d.byID {
		out = append(out, e)
	}
	data, err := json.Marshal(out)
	if err == nil {
		err = os.MkdirAll(filepath.Dir(d.path), 0o700)
	}
	if err == nil {
		err = replaceFile(d.path, data)
	}
	return changed, err
}

// Denied reports whether a node was evicted.
func (m *Mesh) Denied(id NodeID) bool { return m.denied.has(id) }

// Evict shuts a node out by its id and tells all others. In a keyed mesh rotate
// the keys after it: the node still has the old one.
func (m *Mesh) Evict(ctx context.Context, id NodeID) error {
	if id == m.self {
		return errors.New("mesh: a node cannot evict itself")
	}
	return m.pronounce(ctx, id, true)
}

// Trust takes an eviction back.
func (m *Mesh) Trust(ctx context.Context, id NodeID) error { return m.pronounce(ctx, id, false) }

func (m *Mesh) pronounce(ctx context.Context, id NodeID, denied bool) error {
	if !id.Valid() {
		return ErrNoMember
	}
	if err := m.denied.set(id, denied, time.Now()); err != nil {
		return fmt.Errorf("mesh: keep the list of evicted nodes: %w", err)
	}
	m.log.Warn("a node's place in the mesh was changed by hand", "node", id, "evicted", denied)
	m.wake()
	body, err := json.Marshal(m.denied.list())
	if err != nil {
		return err
	}
	var lag LagError
	m.everyPeer(func(p *Member) {
		if err := m.postPeer(ctx, p.ID, deniedPath, body); err != nil {
			lag.add(p, err)
		}
	})
	return lag.or("be told; they learn it when they meet one that was")
}

// learnDenials asks a member that came for its list.
func (m *Mesh) learnDenials(ctx context.Context, id NodeID) {
	ctx, cancel := context.WithTimeout(ctx, loadTimeout)
	defer cancel()
	body, err := getPeer(ctx, m.peers, id, deniedPath, maxDeniedBody)
	if err != nil {
		return // it asks us, too
	}
	if list, err := parseDenials(body); err == nil {
		m.mergeDenials(list, id)
	}
}

func (m *Mesh) mergeDenials(list []denial, from NodeID) {
	list = slices.DeleteFunc(list, func(e denial) bool { return e.ID == m.self })
	changed, err := m.denied.merge(list)
	if err != nil {
		m.log.Error("the list of evicted nodes cannot be kept", "err", err)
	}
	for _, e := range changed {
		m.log.Warn("another member changed a node's place in the mesh", "node", e.ID, "evicted", e.Denied, "by", from)
	}
	if len(changed) > 0 {
		m.wake()
	}
}

func (m *Mesh) serveDenied(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodPost {
		body, err := io.ReadAll(io.LimitReader(r.Body, maxDeniedBody))
		if err != nil {
			fail(w, http.StatusBadRequest, "cannot be read")
			return
		}
		list, err := parseDenials(body)
		if err != nil {
			fail(w, http.StatusBadRequest, err.Error())
			return
		}
		from, _ := identity.PeerID(r)
		m.mergeDenials(list, from)
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(m.denied.list())
}
