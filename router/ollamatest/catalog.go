package ollamatest

import (
	"cmp"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"
)

// Errors of catalog.find.
var (
	errNoModel   = errors.New("ollamatest: model not found")
	errModelName = errors.New("invalid model name")
)

// entry is an installed model. It is never changed, only replaced.
type entry struct {
	Model
	template *promptTemplate
}

func newEntry(m Model, now time.Time) (*entry, error) {
	m = m.withDefaults(now)
	t, err := parseTemplate(m.Template)
	return &entry{Model: m, template: t}, err
}

// catalog is the disk of a server: installed models, blobs, and what the
// registry offers. It survives Kill and Restart.
type catalog struct {
	mu       sync.Mutex
	models   map[string]*entry // by modelName.key
	registry map[string]Model  // what can be pulled
	blobs    map[string]int64  // digest "sha256:..." to size
	partial  map[string]int64  // bytes of unfinished pulls, by digest
}

func newCatalog(c Config, now time.Time) *catalog {
	cat := &catalog{
		models:   map[string]*entry{},
		registry: map[string]Model{},
		blobs:    map[string]int64{},
		partial:  map[string]int64{},
	}
	for _, m := range c.Models {
		if err := cat.install(m, now); err != nil {
			panic("ollamatest: model " + m.Name + ": " + err.Error())
		}
	}
	for _, m := range c.Catalog {
		cat.registry[parseName(m.Name).key()] = m
	}
	return cat
}

// install adds or replaces a model.
func (c *catalog) install(m Model, now time.Time) error {
	name := parseName(m.Name)
	if !name.valid() {
		return errModelName
	}
	e, err := newEntry(m, now)
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.models[name.key()] = e
	if e.Remote == "" {
		c.blobs["sha256:"+e.Weights] = e.Size
	}
	return nil
}

// find returns an installed model by any spelling of its name.
func (c *catalog) find(name string) (*entry, error) {
	n := parseName(name)
	if !n.valid() {
		return nil, errModelName
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if e := c.models[n.key()]; e != nil {
		return e, nil
	}
	return nil, errNoModel
}

// remove deletes a model, and its weights when no other model has them.
func (c *catalog) remove(name string) bool {
	key := parseName(name).key()
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.models[key]
	if e == nil {
		return false
	}
	delete(c.models, key)
	for _, o := range c.models {
		if o.Weights == e.Weights {
			return true
		}
	}
	delete(c.blobs, "sha256:"+e.Weights)
	return true
}

// list returns the installed models, the latest first.
func (c *catalog) list() []*entry {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := make([]*entry, 0, len(c.models))
	for _, e := range c.models {
		out = append(out, e)
	}
	slices.SortFunc(out, func(a, b *entry) int {
		return cmp.Or(b.Modified.Compare(a.Modified), strings.Compare(a.Name, b.Name))
	})
	return out
}

// blob returns the size of a blob, named by its digest with "sha256:".
func (c *catalog) blob(digest string) (int64, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	size, ok := c.blobs[digest]
	return size, ok
}

func (c *catalog) addBlob(digest string, size int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.blobs[digest] = size
}
