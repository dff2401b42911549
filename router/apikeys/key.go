package apikeys

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Scope is what a key opens.
type Scope string

// The scopes.
const (
	Infer   Scope = "infer"   // inference and the reads that belong to it
	Admin   Scope = "admin"   // everything, the models and the node's own API included
	Metrics Scope = "metrics" // the metrics page
)

// Scopes lists all scopes.
func Scopes() []Scope { return []Scope{Infer, Admin, Metrics} }

// Key is what is kept of one key.
type Key struct {
	Name    string    `json:"name"`   // 1 to 64 of a-z A-Z 0-9 . _ -; unique
	Hash    string    `json:"sha256"` // of the key's text, hex
	Scopes  []Scope   `json:"scopes"`
	Rate    int       `json:"requests_per_minute,omitempty"` // 0: no limit
	Running int       `json:"concurrent,omitempty"`          // requests at once; 0: no limit
	Created time.Time `json:"created"`
}

// Has reports whether k opens s. Admin opens everything.
func (k *Key) Has(s Scope) bool {
	return k != nil && (slices.Contains(k.Scopes, s) || slices.Contains(k.Scopes, Admin))
}

// ErrInvalid means that a key's name, scopes or limits make no sense.
var ErrInvalid = errors.New("apikeys: invalid key")

const maxName = 64

func (k *Key) validate() error {
	if k.Name == "" || len(k.Name) > maxName || strings.IndexFunc(k.Name, notNameRune) >= 0 {
		return fmt.Errorf("%w: a name has 1 to %d letters, digits or . _ -", ErrInvalid, maxName)
	}
	if len(k.Scopes) == 0 {
		return fmt.Errorf("%w: it has no scope", ErrInvalid)
	}
	for _, s := range k.Scopes {
		if !slices.Contains(Scopes(), s) {
			return fmt.Errorf("%w: there is no scope %.20q, only infer, admin and metrics", ErrInvalid, string(s))
		}
	}
	if k.Rate < 0 || k.Running < 0 {
		return fmt.Errorf("%w: a limit is negative", ErrInvalid)
	}
	if raw, err := hex.DecodeString(k.Hash); err != nil || len(raw) != sha256.Size {
		return fmt.Errorf("%w: %s has no SHA-256 hash", ErrInvalid, k.Name)
	}
	return nil
}

func notNameRune(r rune) bool {
	switch {
	case 'a' <= r && r <= 'z', 'A' <= r && r <= 'Z', '0' <= r && r <= '9', r == '.', r == '_', r == '-':
		return false
	}
	return true
}

// prefix begins every key, so that people and secret scanners know one.
const prefix = "kma-"

func hashOf(text string) [sha256.Size]byte { return sha256.Sum256([]byte(text)) }
