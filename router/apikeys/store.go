package apikeys

import (
	"bytes"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base32"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

// File is the name of the keys' file in the state directory.
const File = "apikeys.json"

var (
	// ErrExists means that another key has the name.
	ErrExists = errors.New("apikeys: a key of that name exists")
	// ErrUnknown means that no key has the name.
	ErrUnknown = errors.New("apikeys: no key of that name")
	// ErrDamaged means that the file cannot be read. A node then locks the
	// client port for the network: keys were set, so open it must not be.
	ErrDamaged = errors.New("apikeys: key file is damaged")
)

// Store is the set of keys in one file. It is safe for concurrent use; two
// processes that change the file at the same moment are not kept apart.
type Store struct {
	path string

	mu     sync.Mutex
	looked time.Time
	stamp  stamp
	keys   []entry
	err    error
}

// entry is a key with its hash as bytes.
type entry struct {
	Key
	hash []byte
}

// stamp tells whether a file has changed.
type stamp struct {
	modified time.Time
	size     int64
}

// lookEvery is how soon a node notices that the file has changed.
const lookEvery = time.Second

// maxFile bounds what is read; a key takes about 200 bytes.
const maxFile = 4 << 20

// Open makes the store of the file at path, which need not exist.
func Open(path string) *Store { return &Store{path: path} }

// document is the file's form.
type document struct {
	Version int   `json:"version"`
	Keys    []Key `json:"keys"`
}

const version = 1

// Parse reads the file's form and checks every key.
func Parse(data []byte) ([]Key, error) {
	var d document
	if err := json.Unmarshal(data, &d); err != nil {
		return nil, fmt.Errorf("%w: no JSON", ErrDamaged) // never the library's text: it may quote
	}
	if d.Version != version {
		return nil, fmt.Errorf("%w: version %d", ErrDamaged, d.Version)
	}
	names := make(map[string]bool, len(d.Keys))
	for i := range d.Keys {
		if err := d.Keys[i].validate(); err != nil {
			return nil, fmt.Errorf("%w: key %d: %w", ErrDamaged, i+1, err)
		}
		if names[d.Keys[i].Name] {
			return nil, fmt.Errorf("%w: the name %s stands there twice", ErrDamaged, d.Keys[i].Name)
		}
		names[d.Keys[i].Name] = true
	}
	return d.Keys, nil
}

// look brings the keys in line with the file; callers hold mu.
func (s *Store) look(now time.Time) {
	if !s.looked.IsZero() && now.Sub(s.looked) < lookEvery && now.After(s.looked) {
		return
	}
	s.looked = now
	info, err := os.Stat(s.path)
	if errors.Is(err, fs.ErrNotExist) {
		s.keys, s.err, s.stamp = nil, nil, stamp{}
		return
	}
	if err == nil {
		now := stamp{info.ModTime(), info.Size()}
		if now == s.stamp {
			return
		}
		s.stamp = now
	}
	keys, err := s.read()
	s.err = err
	if err != nil {
		return // what was known stays in force
	}
	s.keys = s.keys[:0:0]
	for _, k := range keys {
		hash, _ := hex.DecodeString(k.Hash) // validated
		s.keys = append(s.keys, entry{k, hash})
	}
}

func (s *Store) read() ([]Key, error) {
	f, err := os.Open(s.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFile))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	keys, err := Parse(data)
	if err != nil {
		return nil, fmt.Errorf("%w (%s)", err, s.path)
	}
	return keys, nil
}

// Match finds the key that text is. It compares with every key, in a time that
// does not depend on which matches or on how much of it.
func (s *Store) Match(text string) (*Key, bool) {
	if text == "" {
		return nil, false
	}
	hash := hashOf(text)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.look(time.Now())
	found := -1
	for i := range s.keys {
		equal := subtle.ConstantTimeCompare(s.keys[i].hash, hash[:])
		found = subtle.ConstantTimeSelect(equal, i, found)
	}
	if found < 0 {
		return nil, false
	}
	key := s.keys[found].Key
	return &key, true
}

// Locked reports whether callers need a key: there is at least one, or there
// may be but the file cannot be read; err then says why.
func (s *Store) Locked() (locked bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.look(time.Now())
	return len(s.keys) > 0 || s.err != nil, s.err
}

// List returns the keys by name. Their hashes are of no use to anybody.
func (s *Store) List() ([]Key, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	keys, err := s.read()
	if err != nil {
		return nil, err
	}
	slices.SortFunc(keys, func(a, b Key) int { return strings.Compare(a.Name, b.Name) })
	return keys, nil
}

// Add makes a key with k's name, scopes and limits and returns its text, which
// cannot be had again.
func (s *Store) Add(k Key, now time.Time) (text string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	keys, err := s.read()
	if err != nil {
		return "", err
	}
	var raw [32]byte
	rand.Read(raw[:]) // never fails, see crypto/rand
	text = prefix + strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(raw[:]))
	hash := hashOf(text)
	k.Hash, k.Created = hex.EncodeToString(hash[:]), now.UTC().Truncate(time.Second)
	if err := k.validate(); err != nil {
		return "", err
	}
	if slices.ContainsFunc(keys, func(o Key) bool { return o.Name == k.Name }) {
		return "", fmt.Errorf("%w: %s", ErrExists, k.Name)
	}
	return text, s.write(append(keys, k))
}

// Remove takes the key of that name away; a running node refuses it within
// two seconds.
func (s *Store) Remove(name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	keys, err := s.read()
	if err != nil {
		return err
	}
	left := slices.DeleteFunc(slices.Clone(keys), func(k Key) bool { return k.Name == name })
	if len(left) == len(keys) {
		return fmt.Errorf("%w: %.64q", ErrUnknown, name)
	}
	return s.write(left)
}

// write replaces the file as a whole, readable by its owner alone.
func (s *Store) write(keys []Key) error {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetIndent("", "  ")
	if err := enc.Encode(document{version, keys}); err != nil {
		return fmt.Errorf("apikeys: %w", err)
	}
	dir := filepath.Dir(s.path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("apikeys: %w", err)
	}
	tmp, err := os.CreateTemp(dir, ".apikeys-*") // mode 0600
	if err != nil {
		return fmt.Errorf("apikeys: %w", err)
	}
	defer os.Remove(tmp.Name())
	_, err = tmp.Write(b.Bytes())
	if err == nil {
		err = tmp.Sync()
	}
	if cerr := tmp.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(tmp.Name(), s.path)
	}
	if err != nil {
		return fmt.Errorf("apikeys: %w", err)
	}
	s.looked, s.stamp = time.Time{}, stamp{}
	return nil
}
