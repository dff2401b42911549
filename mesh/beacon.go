package mesh

import (
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"net/netip"
	"sync"
	"time"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh/identity"
)

// A beacon is one load report in one datagram, after the first byte 'K':
//
//	version    1 byte: beaconSigned or beaconPaired
//	body       sealed with the mesh key, if there is one (see [sealer]):
//	  public key  32 bytes
//	  proof       64 bytes, a signature over the report; or 16 bytes, a MAC over
//	              public key and report with the key that the two nodes share
//	  report      see [EncodeLoad]
//
// The proof is what makes a report its node's own: gossip keys are shared by all,
// so without it every member could speak in every other's name. Whose public key is
// known gets a MAC: a report under it costs a fifteenth of a signed one to take in.
// The first report to a node is signed, and teaches it our key.
const (
	beaconSigned = 1
	beaconPaired = 2
)

// macSize is how much of an HMAC-SHA256 is sent: 128 bits, as of AES-GCM.
const macSize = 16

var errBeacon = errors.New("mesh: not a beacon")

// beacons makes and reads beacons for one node of one mesh.
type beacons struct {
	id      *identity.Identity
	purpose string // of signatures and shared keys: no report counts in a mesh of another name
	sealer  *sealer

	mu    sync.Mutex
	pairs map[NodeID][]byte // keys shared with members whose public key was seen
}

// maxPairs bounds the keys that are kept, twice the default of Config.MaxMembers;
// beyond it they are found anew.
const maxPairs = 4096

func newBeacons(id *identity.Identity, cluster string, s *sealer) *beacons {
	return &beacons{
		id: id, purpose: "kage-mesh beacon v1 " + Key{}.Tag(cluster), sealer: s,
		pairs: make(map[NodeID][]byte),
	}
}

// statement is one report on its way to every member.
type statement struct {
	b      *beacons
	report []byte
	signed []byte // made when the first member needs it
}

// encode prepares the report of l.
func (b *beacons) encode(l *Load, now time.Time) (*statement, error) {
	report, err := EncodeLoad(l, now, LoadDatagram)
	if err != nil {
		return nil, err
	}
	return &statement{b: b, report: report}, nil
}

// to is the datagram for one member, without the first byte.
func (s *statement) to(id NodeID) ([]byte, error) {
	s.b.mu.Lock()
	key := s.b.pairs[id]
	s.b.mu.Unlock()
	if key != nil {
		return s.datagram(beaconPaired, mac(key, s.b.id.Public(), s.report))
	}
	if s.signed == nil {
		var err error
		if s.signed, err = s.datagram(beaconSigned, s.b.id.Sign(s.b.purpose, s.report)); err != nil {
			return nil, err
		}
	}
	return s.signed, nil
}

func (s *statement) datagram(version byte, proof []byte) ([]byte, error) {
	size := ed25519.PublicKeySize + len(proof) + len(s.report)
	body := make([]byte, 0, 1+size+sealOverhead)
	if !s.b.sealer.on() {
		body = append(body, version)
	}
	body = append(body, s.b.id.Public()...)
	body = append(body, proof...)
	body = append(body, s.report...)
	if !s.b.sealer.on() {
		return body, nil
	}
	return s.b.sealer.seal(append(make([]byte, 0, 1+size+sealOverhead), version), body)
}

func mac(key []byte, from ed25519.PublicKey, report []byte) []byte {
	h := hmac.New(sha256.New, key)
	h.Write(from)
	h.Write(report)
	return h.Sum(nil)[:macSize]
}

// pair is the key that is shared with the holder of pub, id's public key.
func (b *beacons) pair(id NodeID, pub ed25519.PublicKey) ([]byte, error) {
	b.mu.Lock()
	key := b.pairs[id]
	b.mu.Unlock()
	if key != nil {
		return key, nil
	}
	key, err := b.id.Shared(b.purpose, pub)
	if err != nil {
		return nil, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.pairs) >= maxPairs {
		clear(b.pairs)
	}
	b.pairs[id] = key
	return key, nil
}

// decode reads a datagram. News is asked before the signature is checked, with
// what the datagram claims to be, so that repeats and strangers cost little; it
// must not be relied on for anything else.
func (b *beacons) decode(d []byte, now time.Time, news func(*Load) bool) (*Load, error) {
	if len(d) < 1 || d[0] != beaconSigned && d[0] != beaconPaired {
		return nil, errBeacon
	}
	version, body := d[0], d[1:]
	if b.sealer.on() {
		var err error
		if body, err = b.sealer.open(body); err != nil {
			return nil, err
		}
	}
	head := ed25519.PublicKeySize + macSize
	if version == beaconSigned {
		head = ed25519.PublicKeySize + ed25519.SignatureSize
	}
	if len(body) < head {
		return nil, errBeacon
	}
	pub := ed25519.PublicKey(body[:ed25519.PublicKeySize])
	proof, report := body[ed25519.PublicKeySize:head], body[head:]
	l, err := DecodeLoad(report, now)
	if err != nil {
		return nil, err
	}
	if l.Node != identity.FromPublic(pub) {
		return nil, errBeacon // somebody else's report under an own proof
	}
	if !news(l) {
		return nil, nil
	}
	if version == beaconSigned && !identity.Verify(pub, b.purpose, report, proof) {
		return nil, errBeacon
	}
	key, err := b.pair(l.Node, pub)
	if err != nil {
		return nil, errBeacon // a key with which nobody can prove anything
	}
	if version == beaconPaired && !hmac.Equal(mac(key, pub, report), proof) {
		return nil, errBeacon
	}
	return l, nil
}

// target is a member that a beacon goes to.
type target struct {
	id   NodeID
	addr netip.AddrPort
}

// targets are every other member that is alive.
func targets(v *View) []target {
	out := make([]target, 0, len(v.Members()))
	for _, m := range v.Members() {
		if !m.Self && m.Status == Alive && m.Addr.IsValid() {
			out = append(out, target{m.ID, m.Addr})
		}
	}
	return out
}
