package store

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
)

// Errors.
var (
	ErrName   = errors.New("store: not a model name")
	ErrDigest = errors.New("store: not a digest")
	ErrNone   = errors.New("store: no model store that can be read")
)

// manifestLimit bounds a manifest; those in use have some kilobytes.
const manifestLimit = 1 << 20

// Store finds models in the first of Dirs that has them.
type Store struct {
	Dirs []string // each as OLLAMA_MODELS
}

// Usual lists where Ollamas of this machine keep their models: OLLAMA_MODELS of
// our own environment, the user's directory, and those of the services that the
// installers of Ollama and of Linux distributions set up.
func Usual() []string {
	var dirs []string
	if dir := strings.Trim(strings.TrimSpace(os.Getenv("OLLAMA_MODELS")), `"'`); dir != "" {
		dirs = append(dirs, dir)
	}
	if home, err := os.UserHomeDir(); err == nil {
		dirs = append(dirs, filepath.Join(home, ".ollama", "models"))
	}
	if runtime.GOOS != "windows" {
		dirs = append(dirs, "/usr/share/ollama/.ollama/models", "/var/lib/ollama/.ollama/models", "/var/lib/ollama/models", "/var/lib/ollama")
	}
	return dirs
}

// FromModelfile is the store that a model's weights are in, by the FROM line of
// its modelfile as /api/show gives it; "" when it names no blob.
func FromModelfile(modelfile string) string {
	for line := range strings.Lines(modelfile) {
		line = strings.TrimSpace(line)
		if len(line) < 5 || !strings.EqualFold(line[:5], "FROM ") {
			continue
		}
		file := strings.Trim(strings.TrimSpace(line[5:]), `"'`)
		dir := filepath.Dir(file)
		if strings.HasPrefix(filepath.Base(file), "sha256-") && filepath.Base(dir) == "blobs" {
			return filepath.Dir(dir)
		}
	}
	return ""
}

// Manifest reads the manifest of the model with the name that Ollama lists.
func (s Store) Manifest(name string) ([]byte, error) {
	n, err := ParseName(name)
	if err != nil {
		return nil, err
	}
	f, err := s.open("manifests", filepath.FromSlash(n.file()))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, manifestLimit+1))
	if err == nil && len(b) > manifestLimit {
		err = fmt.Errorf("store: the manifest of %s is above %d bytes", name, manifestLimit)
	}
	return b, err
}

// Blob opens a blob by its digest, "sha256:" and 64 hex digits. The caller
// closes it. What it holds has not been verified.
func (s Store) Blob(digest string) (f *os.File, size int64, err error) {
	sum, ok := strings.CutPrefix(digest, "sha256:")
	if raw, err := hex.DecodeString(sum); !ok || err != nil || len(raw) != 32 {
		return nil, 0, ErrDigest
	}
	f, err = s.open("blobs", "sha256-"+strings.ToLower(sum))
	if err != nil {
		return nil, 0, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fs.ErrNotExist
	}
	if err != nil {
		_ = f.Close()
		return nil, 0, err
	}
	return f, info.Size(), nil
}

// open opens a file below a directory of the first store that has it. The
// directory may be a symbolic link to another disk; nothing below may lead out
// of it.
func (s Store) open(dir, name string) (*os.File, error) {
	failed := ErrNone
	for _, store := range s.Dirs {
		root, err := os.OpenRoot(filepath.Join(store, dir))
		if err != nil {
			if !errors.Is(err, fs.ErrNotExist) {
				failed = fmt.Errorf("%w: %w", ErrNone, err)
			}
			continue
		}
		f, err := root.Open(name)
		_ = root.Close()
		if err == nil {
			return f, nil
		}
		failed = err
	}
	return nil, failed
}
