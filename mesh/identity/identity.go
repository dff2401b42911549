package identity

import (
	"bytes"
	"crypto/ecdh"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha512"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"math/big"
	"time"
)

// KeyFile is the name of the private key in the state directory.
const KeyFile = "node.key"

// Identity is a node's key pair. It is immutable and safe for concurrent use.
type Identity struct {
	id     NodeID
	key    ed25519.PrivateKey
	cert   tls.Certificate
	x25519 *ecdh.PrivateKey // the key as Shared takes it
}

// ID is the node's name for ever.
func (i *Identity) ID() NodeID { return i.id }

// Public is the node's public key; [FromPublic] of it is the node's id.
func (i *Identity) Public() ed25519.PublicKey {
	return i.key.Public().(ed25519.PublicKey)
}

// String is the id: an Identity that ends up in a log shows no secret.
func (i *Identity) String() string { return string(i.id) }

// GoString hides the key from %#v.
func (i *Identity) GoString() string { return "identity.Identity(" + string(i.id) + ")" }

// FromPublic derives the id of an Ed25519 public key. It equals [FromSPKI] of
// the key's SubjectPublicKeyInfo.
func FromPublic(pub ed25519.PublicKey) NodeID {
	spki := make([]byte, 0, len(spkiPrefix)+ed25519.PublicKeySize)
	return FromSPKI(append(append(spki, spkiPrefix...), pub...))
}

// spkiPrefix begins every Ed25519 SubjectPublicKeyInfo (RFC 8410 section 4);
// the 32 bytes of the key follow.
var spkiPrefix = []byte{0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00}

// Sign signs msg for one purpose. Signatures made for one purpose never verify
// for another (Ed25519ctx, RFC 8032 section 5.1): a datagram can never pass
// for anything else the key signs. Purpose is a constant of 1 to 255 bytes.
func (i *Identity) Sign(purpose string, msg []byte) []byte {
	sig, err := i.key.Sign(nil, msg, &ed25519.Options{Context: purpose})
	if err != nil {
		panic("identity: bad signing purpose: " + err.Error()) // a constant of the program
	}
	return sig
}

// Verify reports whether sig is the signature of msg, for the same purpose, by
// the holder of pub.
func Verify(pub ed25519.PublicKey, purpose string, msg, sig []byte) bool {
	if len(pub) != ed25519.PublicKeySize {
		return false
	}
	return ed25519.VerifyWithOptions(pub, msg, sig, &ed25519.Options{Context: purpose}) == nil
}

// New makes an identity that lives in memory only, for tests and for nodes
// that are new at every start.
func New() (*Identity, error) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("identity: make a key: %w", err)
	}
	return fromKey(key)
}

// fromKey builds the identity of key. The certificate only carries the key
// through TLS: nobody reads its names or dates, so it is made anew at every
// start, the same bytes each time, and no second file can contradict the key.
func fromKey(key ed25519.PrivateKey) (*Identity, error) {
	if len(key) != ed25519.PrivateKeySize {
		return nil, errors.New("identity: key has the wrong size")
	}
	// A damaged file can hold a public half that does not belong to the seed.
	if !bytes.Equal(key, ed25519.NewKeyFromSeed(key.Seed())) {
		return nil, errors.New("identity: the halves of the key do not belong together")
	}
	pub := key.Public().(ed25519.PublicKey)
	id := FromPublic(pub)
	serial := sha512.Sum512_256(pub)
	template := &x509.Certificate{
		SerialNumber: new(big.Int).SetBytes(serial[:8]),
		Subject:      pkix.Name{CommonName: string(id)},
		NotBefore:    time.Unix(0, 0).UTC(),
		NotAfter:     time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC), // RFC 5280 4.1.2.5: no expiry
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, pub, key)
	if err != nil {
		return nil, fmt.Errorf("identity: make the certificate: %w", err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("identity: make the certificate: %w", err)
	}
	return &Identity{
		x25519: x25519(key),
		id:     id, key: key,
		cert: tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf},
	}, nil
}
