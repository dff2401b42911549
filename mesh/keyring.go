package mesh

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/hashicorp/memberlist"
)

// errSealed means that a datagram could not be opened with any key of the ring.
var errSealed = errors.New("mesh: no key opens it")

// maxRing is how many keys a ring has at most: two while a key is rotated.
// memberlist shifts longer rings in place while others read them.
const maxRing = 2

var (
	// ErrOpenMesh means that there is no key to rotate.
	ErrOpenMesh = errors.New("mesh: it is open, there is no key")
	// ErrRingFull means that two keys are in use: a rotation is under way or
	// was not finished.
	ErrRingFull = errors.New("mesh: two keys are in use, a rotation is not finished")
	// ErrNoKey means that no key has the fingerprint.
	ErrNoKey = errors.New("mesh: no key of that fingerprint")
	// ErrLastKey means that the only key cannot be removed.
	ErrLastKey = errors.New("mesh: it is the only key")
)

// keyring is the keys of a node: in order, in memberlist's form, and on disk.
type keyring struct {
	cluster string
	ring    *memberlist.Keyring // nil in an open mesh
	store   *KeyStore           // nil: they are kept in memory only

	mu      sync.Mutex
	keys    []Key // the first is used to send
	retired []string
}

// newKeyring makes the ring that memberlist encrypts gossip with, the first key
// primary; its ring is nil without keys, which is how Serf knows an open mesh.
func newKeyring(cluster string, keys []Key, store *KeyStore) (*keyring, error) {
	k := &keyring{cluster: cluster, store: store, keys: slices.Clone(keys)}
	if store != nil {
		have, err := store.load()
		if err != nil {
			return nil, err
		}
		k.retired = have.retired
	}
	if len(keys) > maxRing {
		return nil, fmt.Errorf("mesh: %d keys, at most %d", len(keys), maxRing)
	}
	var gossip [][]byte
	for i, key := range keys {
		if key.IsZero() {
			return nil, fmt.Errorf("mesh: key %d is empty", i+1)
		}
		gossip = append(gossip, key.Gossip(cluster))
	}
	if len(gossip) == 0 {
		return k, nil
	}
	var err error
	if k.ring, err = memberlist.NewKeyring(gossip[1:], gossip[0]); err != nil {
		return nil, fmt.Errorf("mesh: keyring: %w", err)
	}
	return k, nil
}

func (k *keyring) on() bool { return k.ring != nil }

// tags are the tags of the keys, see [Key.Tag]; of the cluster without any.
func (k *keyring) tags() []string {
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.keys) == 0 {
		return []string{Key{}.Tag(k.cluster)}
	}
	tags := make([]string, len(k.keys))
	for i, key := range k.keys {
		tags[i] = key.Tag(k.cluster)
	}
	return tags
}

// fingerprints of the keys, the one to send with first.
func (k *keyring) fingerprints() []string {
	k.mu.Lock()
	defer k.mu.Unlock()
	out := make([]string, len(k.keys))
	for i, key := range k.keys {
		out[i] = key.Fingerprint()
	}
	return out
}

// install adds a key to receive with. It is on disk before it counts.
func (k *keyring) install(key Key) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	switch {
	case k.ring == nil:
		return ErrOpenMesh
	case slices.Contains(k.keys, key):
		return nil
	case key.IsZero():
		return ErrBadKey
	case len(k.keys) >= maxRing:
		return ErrRingFull
	}
	next := append(slices.Clone(k.keys), key)
	if err := k.save(next, k.retired); err != nil {
		return err
	}
	k.keys = next
	return k.ring.AddKey(key.Gossip(k.cluster))
}

// use makes a key of the ring the one to send with.
func (k *keyring) use(fingerprint string) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	i := k.index(fingerprint)
	if i < 0 {
		return ErrNoKey
	}
	next := slices.Clone(k.keys)
	next[0], next[i] = next[i], next[0]
	if err := k.save(next, k.retired); err != nil {
		return err
	}
	k.keys = next
	return k.ring.UseKey(next[0].Gossip(k.cluster))
}

// remove takes a key off the ring that is not the one to send with.
func (k *keyring) remove(fingerprint string) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	i := k.index(fingerprint)
	switch {
	case i < 0:
		return nil // it is gone already
	case i == 0:
		return ErrLastKey
	}
	next := slices.Delete(slices.Clone(k.keys), i, i+1)
	retired := append(slices.Clone(k.retired), fingerprint)
	if err := k.save(next, retired); err != nil {
		return err
	}
	gone := k.keys[i]
	k.keys, k.retired = next, retired
	return k.ring.RemoveKey(gone.Gossip(k.cluster))
}

func (k *keyring) index(fingerprint string) int {
	return slices.IndexFunc(k.keys, func(key Key) bool { return key.Fingerprint() == fingerprint })
}

func (k *keyring) find(fingerprint string) (Key, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if i := k.index(fingerprint); i >= 0 {
		return k.keys[i], true
	}
	return Key{}, false
}

func (k *keyring) save(keys []Key, retired []string) error {
	if k.store == nil {
		return nil
	}
	return k.store.save(stored{keys, retired})
}

// sealer encrypts our own datagrams with keys that follow from the gossip
// ring, so that rotating the ring rotates them too. Each ring key gives a
// datagram key of its own (HKDF): the two protocols never share a nonce space.
// A nil ring seals nothing.
type sealer struct {
	ring *memberlist.Keyring
	aad  []byte

	mu    sync.Mutex
	cache map[string]cipher.AEAD // by ring key
}

// sealOverhead is what sealing adds: nonce and tag of AES-GCM.
const sealOverhead = 12 + 16

func newSealer(ring *memberlist.Keyring, aad string) *sealer {
	return &sealer{ring: ring, aad: []byte(aad), cache: make(map[string]cipher.AEAD)}
}

// on reports whether this mesh has a key.
func (s *sealer) on() bool { return s.ring != nil }

// seal appends the sealed msg to dst.
func (s *sealer) seal(dst, msg []byte) ([]byte, error) {
	aead, err := s.aead(s.ring.GetPrimaryKey())
	if err != nil {
		return nil, err
	}
	return aead.Seal(dst, nil, msg, s.aad), nil //nolint:gosec // the AEAD draws its nonces itself
}

// open tries every key of the ring, so that datagrams pass during a rotation.
func (s *sealer) open(box []byte) ([]byte, error) {
	if len(box) < sealOverhead {
		return nil, errSealed
	}
	for _, key := range s.ring.GetKeys() {
		aead, err := s.aead(key)
		if err != nil {
			return nil, err
		}
		if msg, err := aead.Open(nil, nil, box, s.aad); err == nil {
			return msg, nil
		}
	}
	return nil, errSealed
}

// maxSealKeys bounds the cache; a ring has two keys during a rotation.
const maxSealKeys = 16

func (s *sealer) aead(key []byte) (cipher.AEAD, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if a, ok := s.cache[string(key)]; ok {
		return a, nil
	}
	sub, err := hkdf.Expand(sha256.New, key, "kage-mesh beacon v1", 32)
	if err != nil {
		return nil, fmt.Errorf("mesh: beacon key: %w", err)
	}
	block, err := aes.NewCipher(sub)
	if err != nil {
		return nil, fmt.Errorf("mesh: beacon key: %w", err)
	}
	a, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		return nil, fmt.Errorf("mesh: beacon key: %w", err)
	}
	if len(s.cache) >= maxSealKeys {
		clear(s.cache)
	}
	s.cache[string(key)] = a
	return a, nil
}
