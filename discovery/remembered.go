package discovery

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"
)

// Remembered is the file of peer addresses that a node keeps in its state
// directory, so that a whole mesh that was switched off finds itself again
// where mDNS does not work. It is a cache: losing it costs nothing that a seed
// cannot bring back, so nothing about it is ever fatal at start.
//
// It is safe for concurrent use. As a [Source] it offers its addresses at the
// start and every five minutes; the back-off of each address is [Discovery]'s.
type Remembered struct {
	path string
	now  func() time.Time

	mu    sync.Mutex
	peers []memory // newest first
}

// memory is one line of the file.
type memory struct {
	Addr    string    `json:"addr"` // ip:port
	ID      string    `json:"id,omitempty"`
	Cluster string    `json:"cluster,omitempty"`
	Seen    time.Time `json:"seen"` // when it was last saved as a peer
}

// rememberedFile is the file. Version lets a later layout be told apart.
type rememberedFile struct {
	Version int      `json:"version"`
	Peers   []memory `json:"peers"`
}

// Bounds of Remembered.
const (
	rememberedVersion = 1
	maxRemembered     = 256                 // addresses; the longest unseen go first
	maxRememberedFile = 256 * 1024          // bytes read; 256 full lines are about 100 kB
	rememberFor       = 90 * 24 * time.Hour // a machine away for longer has to be named again
	refreshAfter      = time.Hour           // how old a time in the file may get before it alone is worth a write
	offerAgain        = 5 * time.Minute     // well within Config.Expiry
)

// LoadRemembered reads the file at path. A missing, unreadable or corrupt file
// is an empty one: a warning in the log, never an error.
func LoadRemembered(path string, log *slog.Logger) *Remembered {
	r := &Remembered{path: path, now: time.Now}
	data, err := readBounded(path, maxRememberedFile)
	if err == nil {
		r.peers, err = parseRemembered(data)
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		logger(log).Debug("no remembered peers yet", "path", path)
	case err != nil:
		logger(log).Warn("remembered peers cannot be read, starting without them", "path", path, "err", err)
	}
	return r
}

// Peers lists what is remembered, the most lately seen first. The caller owns
// the slice.
func (r *Remembered) Peers() []Peer {
	r.mu.Lock()
	defer r.mu.Unlock()
	peers := make([]Peer, 0, len(r.peers))
	for _, m := range r.peers {
		peers = append(peers, Peer{Addr: m.Addr, Source: SourceRemembered, ID: m.ID, Cluster: m.Cluster})
	}
	return peers
}

// Save notes that peers are members now and writes the file if that says
// anything new. Peers not listed stay remembered for 90 days, so a mesh that
// shrinks to one node still knows the others; of a node id only the addresses
// listed now are kept. Addresses that are no ip:port are skipped. The file is
// replaced in one step, so a crash leaves the old or the new one.
func (r *Remembered) Save(peers ...Peer) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	next, changed := remember(r.peers, peers, r.now())
	if !changed {
		return nil
	}
	data, err := json.MarshalIndent(rememberedFile{Version: rememberedVersion, Peers: next}, "", "  ")
	if err != nil {
		return fmt.Errorf("discovery: remembered peers: %w", err)
	}
	if err := replaceFile(r.path, append(data, '\n')); err != nil {
		return fmt.Errorf("discovery: remembered peers: %w", err)
	}
	r.peers = next
	return nil
}

// Run offers the remembered peers until ctx ends.
func (r *Remembered) Run(ctx context.Context, found func(Peer)) error {
	for {
		for _, p := range r.Peers() {
			found(p)
		}
		if !sleep(ctx, offerAgain) {
			return nil
		}
	}
}

// remember merges the peers of now into old, and tells whether the result is
// worth writing.
func remember(old []memory, peers []Peer, now time.Time) (next []memory, changed bool) {
	now = now.UTC().Truncate(time.Second)
	fresh, ids, before := map[string]bool{}, map[string]bool{}, map[string]memory{}
	for _, m := range old {
		before[m.Addr] = m
	}
	for _, p := range peers {
		m := memory{Addr: p.Addr, ID: p.ID, Cluster: p.Cluster, Seen: now}
		if !m.valid() || fresh[m.Addr] {
			continue
		}
		was, ok := before[m.Addr]
		if !ok || was.ID != m.ID || was.Cluster != m.Cluster || now.Sub(was.Seen) >= refreshAfter || was.Seen.After(now) {
			changed = true
		} else {
			m.Seen = was.Seen
		}
		fresh[m.Addr] = true
		ids[m.ID] = m.ID != ""
		next = append(next, m)
	}
	for _, m := range old {
		switch {
		case fresh[m.Addr]:
		case ids[m.ID], now.Sub(m.Seen) >= rememberFor:
			changed = true
		default:
			next = append(next, m)
		}
	}
	slices.SortStableFunc(next, func(a, b memory) int {
		return cmp.Or(b.Seen.Compare(a.Seen), cmp.Compare(a.Addr, b.Addr))
	})
	return next[:min(len(next), maxRemembered)], changed
}

// valid tells whether m could have been written by Save.
func (m memory) valid() bool {
	ap, err := netip.ParseAddrPort(m.Addr)
	return err == nil && ap.Port() != 0 && dialable(ap.Addr()) && ap.String() == m.Addr &&
		(m.ID == "" || validID(m.ID)) && validCluster(m.Cluster)
}

// parseRemembered reads the file's content. Lines that make no sense are
// dropped; only a file that is no such file at all is an error.
func parseRemembered(data []byte) ([]memory, error) {
	var f rememberedFile
	dec := json.NewDecoder(bytes.NewReader(data))
	if err := dec.Decode(&f); err != nil {
		return nil, fmt.Errorf("discovery: remembered peers: %w", err)
	}
	if f.Version != rememberedVersion {
		return nil, fmt.Errorf("discovery: remembered peers: version %d, want %d", f.Version, rememberedVersion)
	}
	seen := map[string]bool{}
	var peers []memory
	for _, m := range f.Peers {
		if len(peers) < maxRemembered && m.valid() && !seen[m.Addr] {
			seen[m.Addr] = true
			peers = append(peers, m)
		}
	}
	return peers, nil
}

// readBounded reads a regular file of at most limit bytes.
func readBounded(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(data)) > limit {
		err = fmt.Errorf("more than %d bytes", limit)
	}
	return data, err
}

// replaceFile writes data beside path and renames it over, creating the
// directory if need be. The file is readable by its owner alone: addresses of
// other people's machines are nobody else's business.
func replaceFile(path string, data []byte) (err error) {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, filepath.Base(path)+".*.tmp") // mode 0600
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			f.Close()
			os.Remove(f.Name())
		}
	}()
	if _, err := f.Write(data); err != nil {
		return err
	}
	if err := f.Sync(); err != nil { // else a power cut after the rename leaves an empty file
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
