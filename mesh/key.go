package mesh

import (
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base32"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
)

// Key is a mesh key: the secret that all nodes of one mesh share. It is 32
// random bytes, written "kage1-" and 56 letters. The zero Key is none.
type Key struct{ secret [32]byte }

// ErrBadKey means that a text is no mesh key. The errors of [ParseKey] wrap it
// and never quote the text.
var ErrBadKey = errors.New("mesh: not a mesh key")

const (
	keyPrefix   = "kage1-"
	keyChecksum = 3 // bytes: a typing error passes once in 16 million
	keyLetters  = (32 + keyChecksum) * 8 / 5
)

var keyEncoding = base32.StdEncoding.WithPadding(base32.NoPadding)

// NewKey makes a key from the system's random source.
func NewKey() Key {
	var k Key
	rand.Read(k.secret[:]) // never fails, see crypto/rand
	return k
}

// ParseKey reads a key as [Key.String] writes it. Space around it and the case
// of letters do not matter.
func ParseKey(text string) (Key, error) {
	t := strings.ToLower(strings.TrimSpace(text))
	body, ok := strings.CutPrefix(t, keyPrefix)
	if !ok {
		return Key{}, fmt.Errorf("%w: it does not begin with %q", ErrBadKey, keyPrefix)
	}
	if len(body) != keyLetters {
		return Key{}, fmt.Errorf("%w: %d letters after %q instead of %d", ErrBadKey, len(body), keyPrefix, keyLetters)
	}
	raw, err := keyEncoding.DecodeString(strings.ToUpper(body))
	if err != nil {
		return Key{}, fmt.Errorf("%w: it has a character that keys do not have", ErrBadKey)
	}
	k := Key{secret: [32]byte(raw[:32])}
	sum := k.checksum()
	if subtle.ConstantTimeCompare(sum[:], raw[32:]) != 1 {
		return Key{}, fmt.Errorf("%w: its checksum is wrong, a letter was mistyped", ErrBadKey)
	}
	if k.IsZero() {
		return Key{}, fmt.Errorf("%w: it is all zeros", ErrBadKey)
	}
	return k, nil
}

func (k Key) checksum() [keyChecksum]byte {
	sum := sha256.Sum256(append([]byte(keyPrefix), k.secret[:]...))
	return [keyChecksum]byte(sum[:keyChecksum])
}

// IsZero reports whether k is no key.
func (k Key) IsZero() bool { return k == Key{} }

// String is the secret itself, for keygen and the key file. Formatting a Key
// with fmt or slog does not show it.
func (k Key) String() string {
	sum := k.checksum()
	return keyPrefix + strings.ToLower(keyEncoding.EncodeToString(append(k.secret[:], sum[:]...)))
}

// Format shows that there is a key but not which, for every verb: a Config
// that ends up in a log gives nothing away.
func (k Key) Format(f fmt.State, _ rune) {
	if k.IsZero() {
		_, _ = io.WriteString(f, "no key")
		return
	}
	_, _ = io.WriteString(f, keyPrefix+"***")
}

// LogValue hides the secret from slog.
func (k Key) LogValue() slog.Value { return slog.StringValue(fmt.Sprint(k)) }

// derive makes an independent key or tag for one purpose (HKDF-SHA256, RFC
// 5869). The cluster is the salt, so one key in two meshes gives two sets of
// secrets.
func (k Key) derive(cluster, purpose string, size int) []byte {
	out, err := hkdf.Key(sha256.New, k.secret[:], []byte(cluster), "kage-mesh "+purpose, size)
	if err != nil {
		panic("mesh: derive: " + err.Error()) // only for sizes above 8160 bytes
	}
	return out
}

// Gossip is the AES-256 key of the gossip layer: what Serf's key manager
// installs, uses and removes when a key is rotated.
func (k Key) Gossip(cluster string) []byte { return k.derive(cluster, "gossip v1", 32) }

// Tag is what a node shows in the open, in mDNS and in the hello before a join,
// so that holders of one key find each other: 13 letters that say nothing of
// the key or of the cluster's name. Without a key it is a hash of the cluster's
// name, which whoever guesses the name can check.
func (k Key) Tag(cluster string) string {
	var raw []byte
	if k.IsZero() {
		sum := sha256.Sum256([]byte("kage-mesh open v1\x00" + cluster))
		raw = sum[:8]
	} else {
		raw = k.derive(cluster, "tag v1", 8)
	}
	return strings.ToLower(keyEncoding.EncodeToString(raw))
}

// Fingerprint names a key without giving it away: 13 letters, the same in every
// mesh, for people and for the peers of a rotation.
func (k Key) Fingerprint() string {
	return strings.ToLower(keyEncoding.EncodeToString(k.derive("", "fingerprint v1", 8)))
}

func validFingerprint(s string) bool {
	return len(s) == 13 && strings.Trim(s, "abcdefghijklmnopqrstuvwxyz234567") == ""
}
