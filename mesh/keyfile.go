package mesh

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
)

// KeyFile is the name of the mesh keys' file in the state directory.
const KeyFile = "mesh.keys"

// KeyStore keeps a node's mesh keys on disk, readable by their owner alone. The
// file has one key per line, the one to send with first, and the fingerprints
// of keys that were rotated out.
type KeyStore struct{ path string }

// OpenKeys makes the store of the file at path, which need not exist.
func OpenKeys(path string) *KeyStore { return &KeyStore{path} }

// ErrKeyFile means that the file of mesh keys cannot be used; the error names
// the file and the way out.
var ErrKeyFile = errors.New("mesh: file of mesh keys")

// stored is what the file holds.
type stored struct {
	keys    []Key
	retired []string
}

const (
	maxKeyFile   = 64 << 10
	maxRetired   = 64
	retiredLabel = "retired "
)

// parseStored reads the file's form.
func parseStored(data []byte) (stored, error) {
	var s stored
	lines := bufio.NewScanner(bytes.NewReader(data))
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		if fp, ok := strings.CutPrefix(line, retiredLabel); ok {
			if !validFingerprint(fp) {
				return stored{}, fmt.Errorf("line %d is no fingerprint", n)
			}
			s.retired = append(s.retired, fp)
			continue
		}
		if line == "" || line[0] == '#' {
			continue
		}
		k, err := ParseKey(line)
		if err != nil {
			return stored{}, fmt.Errorf("line %d: %w", n, err)
		}
		if slices.Contains(s.keys, k) {
			return stored{}, fmt.Errorf("line %d repeats a key", n)
		}
		s.keys = append(s.keys, k)
	}
	if err := lines.Err(); err != nil {
		return stored{}, errors.New("a line is too long")
	}
	if len(s.keys) > maxRing {
		return stored{}, fmt.Errorf("%d keys, a mesh has at most %d", len(s.keys), maxRing)
	}
	return s, nil
}

func (s stored) encode() []byte {
	var b bytes.Buffer
	b.WriteString("# Mesh keys of this node. Whoever has the first one can join.\n")
	for _, k := range s.keys {
		b.WriteString(k.String() + "\n")
	}
	for _, fp := range s.retired[max(0, len(s.retired)-maxRetired):] {
		b.WriteString(retiredLabel + fp + "\n")
	}
	return b.Bytes()
}

func (s *KeyStore) load() (stored, error) {
	f, err := os.Open(s.path)
	if errors.Is(err, fs.ErrNotExist) {
		return stored{}, nil
	}
	if err != nil {
		return stored{}, fmt.Errorf("%w: %w", ErrKeyFile, err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return stored{}, fmt.Errorf("%w: %w", ErrKeyFile, err)
	}
	if runtime.GOOS != "windows" && info.Mode().Perm()&0o077 != 0 {
		return stored{}, fmt.Errorf("%w: others can read it; run: chmod 600 %s", ErrKeyFile, s.path)
	}
	data, err := io.ReadAll(io.LimitReader(f, maxKeyFile))
	if err != nil {
		return stored{}, fmt.Errorf("%w: %w", ErrKeyFile, err)
	}
	out, err := parseStored(data)
	if err != nil {
		return stored{}, fmt.Errorf("%w: %s: %w; restore it, or remove it and give the key again", ErrKeyFile, s.path, err)
	}
	return out, nil
}

func (s *KeyStore) save(v stored) error {
	if err := os.MkdirAll(filepath.Dir(s.path), 0o700); err != nil {
		return fmt.Errorf("%w: %w", ErrKeyFile, err)
	}
	if err := replaceFile(s.path, v.encode()); err != nil {
		return fmt.Errorf("%w: %w", ErrKeyFile, err)
	}
	return nil
}

// replaceFile writes a private file as a whole or not at all.
func replaceFile(path string, data []byte) error {
	tmp, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name())
	_, err = tmp.Write(data)
	if err == nil {
		err = tmp.Sync()
	}
	if cerr := tmp.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(tmp.Name(), path)
	}
	return err
}

// Settled is which keys a node starts with, and why.
type Settled struct {
	Keys []Key
	// Stale reports that the key that was given has been rotated out: the
	// stored ones are used, and whatever gives the old one should be changed.
	Stale bool
	// Replaced reports that the key that was given is another mesh's: the
	// stored ones were dropped.
	Replaced bool
}

// Settle brings the key that a node was given at its start (zero: none) in line
// with the stored ones, and stores the result: a key needs to be given once
// only, and a rotation is not undone by a start with the old one.
func (s *KeyStore) Settle(given Key) (Settled, error) {
	have, err := s.load()
	if err != nil {
		return Settled{}, err
	}
	switch {
	case given.IsZero(), slices.Contains(have.keys, given):
		return Settled{Keys: have.keys}, nil
	case slices.Contains(have.retired, given.Fingerprint()) && len(have.keys) > 0:
		return Settled{Keys: have.keys, Stale: true}, nil
	}
	out := Settled{Keys: []Key{given}, Replaced: len(have.keys) > 0}
	return out, s.save(stored{keys: out.Keys})
}
