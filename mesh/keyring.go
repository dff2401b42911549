package mesh

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"errors"
	"fmt"
	"sync"

	"github.com/hashicorp/memberlist"
)

// errSealed means that a datagram could not be opened with any key of the ring.
var errSealed = errors.New("mesh: no key opens it")

// newKeyring makes the ring that memberlist encrypts gossip with, the first key
// primary; nil without keys, which is how Serf knows an open mesh.
func newKeyring(cluster string, keys []Key) (*memberlist.Keyring, error) {
	var gossip [][]byte
	for i, k := range keys {
		if k.IsZero() {
			return nil, fmt.Errorf("mesh: key %d is empty", i+1)
		}
		gossip = append(gossip, k.Gossip(cluster))
	}
	if len(gossip) == 0 {
		return nil, nil
	}
	ring, err := memberlist.NewKeyring(gossip[1:], gossip[0])
	if err != nil {
		return nil, fmt.Errorf("mesh: keyring: %w", err)
	}
	return ring, nil
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
	return aead.Seal(dst, nil, msg, s.aad), nil
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
