package identity

import (
	"bytes"
	"crypto/ecdh"
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/sha512"
	"errors"
	"fmt"
	"math/big"
	"slices"
)

// SharedKeySize is the size of [Identity.Shared] keys, in bytes.
const SharedKeySize = 32

// Shared is the secret that this node has with the holder of peer, for one
// purpose; both compute the same, and nobody else can. It is X25519 between the
// two keys in their Montgomery form, through HKDF-SHA256 with the purpose and both
// public keys. Using one key pair for Ed25519 and X25519 is sound as long as the
// hashes are kept apart (Thormarker, On using the same key pair for Ed25519 and an
// X25519 based KEM, 2021). It takes about as long as checking a signature.
func (i *Identity) Shared(purpose string, peer ed25519.PublicKey) ([]byte, error) {
	u, err := montgomery(peer)
	if err != nil {
		return nil, err
	}
	pub, err := ecdh.X25519().NewPublicKey(u)
	if err != nil {
		return nil, fmt.Errorf("identity: shared key: %w", err)
	}
	secret, err := i.x25519.ECDH(pub) // refuses points of low order
	if err != nil {
		return nil, fmt.Errorf("identity: shared key: %w", err)
	}
	both := [][]byte{i.Public(), peer}
	slices.SortFunc(both, bytes.Compare)
	return hkdf.Key(sha256.New, secret, nil, purpose+string(both[0])+string(both[1]), SharedKeySize)
}

// x25519 is a key as X25519 takes it: the scalar is the first half of the seed's
// hash, RFC 8032 section 5.1.5; X25519 clamps it in the same way. Making it costs as
// much as using it.
func x25519(key ed25519.PrivateKey) *ecdh.PrivateKey {
	seed := sha512.Sum512(key.Seed())
	own, err := ecdh.X25519().NewPrivateKey(seed[:32])
	if err != nil {
		panic("identity: X25519: " + err.Error()) // of another size only
	}
	return own
}

// prime is 2^255 - 19.
var prime = new(big.Int).Sub(new(big.Int).Lsh(big.NewInt(1), 255), big.NewInt(19))

// montgomery is the u coordinate of an Ed25519 public key: (1+y)/(1-y), RFC 7748
// section 4.1. Nothing here is secret, so that it need not take constant time.
func montgomery(pub ed25519.PublicKey) ([]byte, error) {
	if len(pub) != ed25519.PublicKeySize {
		return nil, errors.New("identity: key has the wrong size")
	}
	le := bytes.Clone(pub)
	le[31] &= 0x7f // the sign of x
	slices.Reverse(le)
	y, one := new(big.Int).SetBytes(le), big.NewInt(1)
	under := new(big.Int).Sub(one, y)
	if under.ModInverse(under.Mod(under, prime), prime) == nil {
		return nil, errors.New("identity: not a usable public key")
	}
	u := y.Add(y, one)
	u.Mod(u.Mul(u, under), prime)
	out := u.FillBytes(make([]byte, 32))
	slices.Reverse(out)
	return out, nil
}
