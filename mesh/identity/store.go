package identity

import (
	"crypto/ed25519"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
)

var (
	// ErrCorrupt means that the key file exists but holds no usable key. A new
	// key is never made in its place: the node would come back as a stranger.
	ErrCorrupt = errors.New("identity: key file is damaged")
	// ErrPermissions means that others than the owner can read the key file.
	ErrPermissions = errors.New("identity: key file is open to others")
)

// maxKeyFile bounds what is read of a key file; a real one has about 120 bytes.
const maxKeyFile = 64 << 10

// LoadOrCreate reads the node's key from dir, or makes dir (0700) and a new
// key (0600) when there is none yet. It never replaces a file that it cannot
// use: the error then names the file and the way out. Two processes that start
// at once agree on one key.
func LoadOrCreate(dir string) (*Identity, error) {
	if dir == "" {
		return nil, errors.New("identity: no state directory given")
	}
	path := filepath.Join(dir, KeyFile)
	id, err := load(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return id, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("identity: make state directory: %w", err)
	}
	if err := create(path); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("identity: store a new key in %s: %w", dir, err)
	}
	return load(path) // the key that is on disk, whoever wrote it
}

func load(path string) (*Identity, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("identity: open the node's key: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("identity: %w", err)
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%w: %s is not a regular file", ErrCorrupt, path)
	}
	if runtime.GOOS != "windows" && info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("%w: %s has mode %04o; run: chmod 600 %s", ErrPermissions, path, info.Mode().Perm(), path)
	}
	raw, err := io.ReadAll(io.LimitReader(f, maxKeyFile))
	if err != nil {
		return nil, fmt.Errorf("identity: read %s: %w", path, err)
	}
	id, err := parseKey(raw)
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w; restore it from a copy, or remove it to come back as a new node",
			ErrCorrupt, path, err)
	}
	return id, nil
}

// parseKey reads the PEM form that encodeKey writes.
func parseKey(raw []byte) (*Identity, error) {
	block, _ := pem.Decode(raw)
	switch {
	case len(raw) == 0:
		return nil, errors.New("it is empty")
	case block == nil:
		return nil, errors.New("no PEM block in it")
	case block.Type != "PRIVATE KEY":
		return nil, fmt.Errorf("PEM type %.40q instead of PRIVATE KEY", block.Type)
	}
	any, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, errors.New("not a PKCS #8 key") // never the library's text: it may quote bytes
	}
	key, ok := any.(ed25519.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("key of type %T instead of Ed25519", any)
	}
	return fromKey(key)
}

func encodeKey(id *Identity) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(id.key)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

// create writes a new key so that path either does not exist or holds it whole,
// also when the power goes in between. An existing path is fs.ErrExist.
func create(path string) error {
	id, err := New()
	if err != nil {
		return err
	}
	raw, err := encodeKey(id)
	if err != nil {
		return err
	}
	tmp, err := os.CreateTemp(filepath.Dir(path), ".node.key-*") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name())
	_, err = tmp.Write(raw)
	if err == nil {
		err = tmp.Sync()
	}
	if cerr := tmp.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return err
	}
	// A hard link fails when path exists; rename would overwrite the key that
	// another process made a moment ago.
	err = os.Link(tmp.Name(), path)
	if err != nil && !errors.Is(err, fs.ErrExist) {
		err = os.Rename(tmp.Name(), path) // a file system without links
	}
	if err != nil {
		return err
	}
	if d, err := os.Open(filepath.Dir(path)); err == nil {
		_ = d.Sync() // the name, too; not every system can
		_ = d.Close()
	}
	return nil
}
