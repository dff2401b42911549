package tinymodels

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// ErrUnknown is in every error about a name that is not one of [Names].
var ErrUnknown = errors.New("tinymodels: unknown model")

// Names lists every model, tiny first.
func Names() []string {
	names := make([]string, len(models))
	for i, m := range models {
		names[i] = m.Name
	}
	return names
}

// Lookup returns the model called name.
func Lookup(name string) (Model, error) {
	for _, m := range models {
		if m.Name == name {
			return m, nil
		}
	}
	return Model{}, fmt.Errorf("%w %q (one of %v)", ErrUnknown, name, Names())
}

// Write puts NAME.gguf and Modelfile.NAME into dir, which it makes, for each
// name, or for every model when none is given. Files that are there are
// replaced. Nothing is written when a name is unknown.
func Write(dir string, names ...string) error {
	if len(names) == 0 {
		names = Names()
	}
	chosen := make([]Model, len(names))
	for i, name := range names {
		m, err := Lookup(name)
		if err != nil {
			return err
		}
		chosen[i] = m
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("tinymodels: %w", err)
	}
	for _, m := range chosen {
		if err := m.write(dir); err != nil {
			return fmt.Errorf("tinymodels: write %s: %w", m.Name, err)
		}
	}
	return nil
}

func (m Model) write(dir string) error {
	f, err := os.Create(filepath.Join(dir, m.Name+".gguf"))
	if err != nil {
		return err
	}
	if err := errors.Join(m.shape.write(f), f.Close()); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "Modelfile."+m.Name), []byte(m.Modelfile()), 0o644)
}

// Fingerprint changes when what Write makes of name changes: the model's own
// description or the generator. It keys directories of prepared models.
//
// The generator's part is the digest of the whole of tiny, which takes
// milliseconds, where digesting the model itself could take seconds.
func Fingerprint(name string) (string, error) {
	m, err := Lookup(name)
	if err != nil {
		return "", err
	}
	h := sha256.New()
	if err := small.write(h); err != nil {
		return "", err
	}
	fmt.Fprintf(h, "%+v", m)
	return hex.EncodeToString(h.Sum(nil))[:16], nil
}
