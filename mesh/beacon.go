package mesh

import (
	"bytes"
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
//	version    1 byte: beaconSigned, beaconAnswer or beaconPaired
//	body       sealed with the mesh key, if there is one (see [sealer]):
//	  proof    a public key (32 bytes) and its signature over the report (64);
//	           or, paired, a MAC over the report (16)
//	  report   see [EncodeLoad]
//
// The proof is what makes a report its node's own: gossip keys are shared by all,
// so without it every member could speak in every other's name. A report to a
// member whose public key is not known is signed, and asks for the same back: the
// member's next report is signed, too. From then on both have the key that only
// these two share, and a MAC is the proof: such a report costs a fifteenth of a
// signed one to take in. Who has restarted knows nobody, and so asks again.
const (
	beaconSigned = 1 // and its sender does not know whom it sends it to
	beaconPaired = 3 // 2 is an echo's
	beaconAnswer = 4 // signed, because the receiver did not know the sender
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
	pairs map[NodeID]*pairing // with members whose public key was seen
}

// pairing is what this node has with one other.
type pairing struct {
	key  []byte // shared with it
	owes bool   // it does not know us: the next report to it is signed
}

// maxPairs bounds the keys that are kept, twice the default of Config.MaxMembers;
// beyond it they are found anew.
const maxPairs = 4096

func newBeacons(id *identity.Identity, cluster string, s *sealer) *beacons {
	return &beacons{
		id: id, purpose: "kage-mesh beacon v1 " + Key{}.Tag(cluster), sealer: s,
		pairs: make(map[NodeID]*pairing),
	}
}

// statement is one report on its way to every member.
type statement struct {
	b      *beacons
	report []byte
	signed []byte // its proof, made when the first member needs it
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
	version, key := s.b.whichFor(id)
	if version == beaconPaired {
		return s.datagram(version, mac(key, s.b.id.ID(), s.report))
	}
	if s.signed == nil {
		s.signed = append(bytes.Clone(s.b.id.Public()), s.b.id.Sign(s.b.purpose, s.report)...)
	}
	return s.datagram(version, s.signed)
}

// whichFor says which beacon the next one to a member is.
func (b *beacons) whichFor(id NodeID) (version byte, key []byte) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch p := b.pairs[id]; {
	case p == nil:
		return beaconSigned, nil
	case p.owes:
		p.owes = false
		return beaconAnswer, nil
	default:
		return beaconPaired, p.key
	}
}

func (s *statement) datagram(version byte, proof []byte) ([]byte, error) {
	size := 1 + len(proof) + len(s.report) + sealOverhead
	body := make([]byte, 0, size)
	if !s.b.sealer.on() {
		body = append(body, version)
	}
	body = append(append(body, proof...), s.report...)
	if !s.b.sealer.on() {
		return body, nil
	}
	return s.b.sealer.seal(append(make([]byte, 0, size), version), body)
}

// mac is from's proof of a report, with the key that it shares with the receiver.
func mac(key []byte, from NodeID, report []byte) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(from))
	h.Write(report)
	return h.Sum(nil)[:macSize]
}

// meet notes the public key of a member, and whether the member knows ours.
func (b *beacons) meet(id NodeID, pub ed25519.PublicKey, ignorant bool) error {
	b.mu.Lock()
	p := b.pairs[id]
	b.mu.Unlock()
	if p == nil {
		key, err := b.id.Shared(b.purpose, pub)
		if err != nil {
			return err
		}
		p = &pairing{key: key}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.pairs) >= maxPairs {
		clear(b.pairs)
	}
	p.owes = p.owes || ignorant
	b.pairs[id] = p
	return nil
}

// owes reports whether a member that does not know us has been heard and not been
// answered yet. What it signs until then is not worth the check: when many meet, each
// would check each twice. Soon there are MACs.
func (b *beacons) owes(id NodeID) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	p := b.pairs[id]
	return p != nil && p.owes
}

// decode reads a datagram. News is asked before the signature is checked, with
// what the datagram claims to be, so that repeats and strangers cost little; it
// must not be relied on for anything else.
//
// nil without an error: a repeat, or a report of somebody whom this node cannot
// check until it has sent a signed one.
func (b *beacons) decode(d []byte, now time.Time, news func(*Load) bool) (*Load, error) {
	if len(d) < 1 || d[0] != beaconSigned && d[0] != beaconAnswer && d[0] != beaconPaired {
		return nil, errBeacon
	}
	version, body := d[0], d[1:]
	if b.sealer.on() {
		var err error
		if body, err = b.sealer.open(body); err != nil {
			return nil, err
		}
	}
	if version == beaconPaired {
		return b.decodePaired(body, now, news)
	}
	const head = ed25519.PublicKeySize + ed25519.SignatureSize
	if len(body) < head {
		return nil, errBeacon
	}
	pub := ed25519.PublicKey(body[:ed25519.PublicKeySize])
	sig, report := body[ed25519.PublicKeySize:head], body[head:]
	l, err := DecodeLoad(report, now)
	if err != nil {
		return nil, err
	}
	if l.Node != identity.FromPublic(pub) {
		return nil, errBeacon // somebody else's report under an own signature
	}
	if !news(l) || version == beaconSigned && b.owes(l.Node) {
		return nil, nil
	}
	if !identity.Verify(pub, b.purpose, report, sig) || b.meet(l.Node, pub, version == beaconSigned) != nil {
		return nil, errBeacon
	}
	return l, nil
}

func (b *beacons) decodePaired(body []byte, now time.Time, news func(*Load) bool) (*Load, error) {
	if len(body) < macSize {
		return nil, errBeacon
	}
	proof, report := body[:macSize], body[macSize:]
	l, err := DecodeLoad(report, now)
	if err != nil {
		return nil, err
	}
	b.mu.Lock()
	p := b.pairs[l.Node]
	b.mu.Unlock()
	if p == nil || !news(l) {
		return nil, nil
	}
	if !hmac.Equal(mac(p.key, l.Node, report), proof) {
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
