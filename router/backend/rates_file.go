package backend

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// ratesVersion is the version of the file's form.
const ratesVersion = 1

// maxRates is how many models are remembered, those used last.
const maxRates = 512

type ratesFile struct {
	Version int              `json:"version"`
	Models  map[string]*rate `json:"models"`
}

// Snapshot is everything learnt, for [Rates.Restore].
func (r *Rates) Snapshot() []byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.forget()
	data, err := json.MarshalIndent(ratesFile{Version: ratesVersion, Models: r.models}, "", "\t")
	if err != nil {
		panic("backend: rates cannot be written: " + err.Error()) // only finite numbers get in
	}
	return append(data, '\n')
}

// Restore takes over what a Snapshot holds. Numbers that cannot be are dropped;
// data of another form is an error and changes nothing.
func (r *Rates) Restore(data []byte) error {
	var f ratesFile
	if err := json.Unmarshal(data, &f); err != nil {
		return fmt.Errorf("backend: read rates: %w", err)
	}
	if f.Version != ratesVersion {
		return fmt.Errorf("backend: read rates: version %d, want %d", f.Version, ratesVersion)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for digest, m := range f.Models {
		if digest != "" && m != nil && m.valid() {
			r.models[digest] = m
		}
	}
	r.forget()
	r.dirty = false
	return nil
}

func (m *rate) valid() bool {
	for _, c := range []struct {
		avg  float64
		n    int
		most float64
	}{
		{m.Decode, m.Decodes, maxDecode * 1024},
		{m.Prefill, m.Prefills, maxPrefill * 64},
		{m.Slope, m.Slopes, 2},
		{m.Cold, m.Colds, 3600},
		{m.Output, m.Outputs, 1 << 20},
	} {
		if math.IsNaN(c.avg) || c.avg < 0 || c.avg > c.most || c.n < 0 || c.n > 1<<20 || c.n == 0 && c.avg != 0 {
			return false
		}
	}
	return m.Alone >= 0 && m.Alone <= m.Decodes && !m.Seen.IsZero() && m.Seen.Year() < 10000
}

// forget drops the models used longest ago. r.mu is held.
func (r *Rates) forget() {
	if len(r.models) <= maxRates {
		return
	}
	digests := make([]string, 0, len(r.models))
	for d := range r.models {
		digests = append(digests, d)
	}
	slices.SortFunc(digests, func(a, b string) int { return r.models[b].Seen.Compare(r.models[a].Seen) })
	for _, d := range digests[maxRates:] {
		delete(r.models, d)
	}
}

// Load restores what Save wrote; a missing file is an empty memory.
func (r *Rates) Load(path string) error {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("backend: read rates: %w", err)
	}
	return r.Restore(data)
}

// Save writes the snapshot to path if anything was learnt since the last time.
// The file is replaced whole, so that a crash leaves the old one.
func (r *Rates) Save(path string) error {
	r.mu.Lock()
	dirty := r.dirty
	r.dirty = false
	r.mu.Unlock()
	if !dirty {
		return nil
	}
	if err := replaceFile(path, r.Snapshot()); err != nil {
		r.mu.Lock()
		r.dirty = true
		r.mu.Unlock()
		return fmt.Errorf("backend: write rates: %w", err)
	}
	return nil
}

func replaceFile(path string, data []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		_ = os.Remove(f.Name())
	}
	return err
}

// saveEvery is how often what was learnt is written down.
const saveEvery = 30 * time.Second
