package identity

import (
	"crypto/sha256"
	"encoding/base32"
	"strings"
)

// NodeID names a node for ever: the first 128 bits of the SHA-256 of its
// public key (the certificate's SubjectPublicKeyInfo, DER), in 26 lower-case
// base32 letters. It certifies itself: whoever shows a certificate with that
// key is that node, so no table of pins can go stale or be poisoned. Making a
// second key with the same id would take 2^128 tries.
type NodeID string

// FromSPKI derives the id from a DER-encoded SubjectPublicKeyInfo.
func FromSPKI(spki []byte) NodeID {
	sum := sha256.Sum256(spki)
	return NodeID(strings.ToLower(encoding.EncodeToString(sum[:16])))
}

var encoding = base32.StdEncoding.WithPadding(base32.NoPadding)

// Valid reports whether id has the form of a NodeID.
func (id NodeID) Valid() bool {
	if len(id) != 26 {
		return false
	}
	for _, c := range []byte(id) {
		if !('a' <= c && c <= 'z' || '2' <= c && c <= '7') {
			return false
		}
	}
	return true
}

// Short is the first four letters, for people.
func (id NodeID) Short() string {
	if len(id) < 4 {
		return string(id)
	}
	return string(id[:4])
}
