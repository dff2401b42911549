package mesh

import (
	"crypto/ed25519"
	"errors"
	"net/netip"
	"time"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh/identity"
)

// A beacon is one load report in one datagram, after the first byte 'K':
//
//	version    1 byte
//	body       sealed with the mesh key, if there is one (see [sealer]):
//	  public key  32 bytes
//	  signature   64 bytes, over the report
//	  report      see [EncodeLoad]
//
// The signature is what makes a report its node's own: gossip keys are shared
// by all, so without it every member could speak in every other's name.
const beaconVersion = 1

var errBeacon = errors.New("mesh: not a beacon")

// beacons makes and reads beacons for one node of one mesh.
type beacons struct {
	id      *identity.Identity
	purpose string // of signatures: no report counts in a mesh of another name
	sealer  *sealer
}

func newBeacons(id *identity.Identity, cluster string, s *sealer) *beacons {
	return &beacons{id: id, purpose: "kage-mesh beacon v1 " + Key{}.Tag(cluster), sealer: s}
}

// encode makes the datagram of l, without the first byte.
func (b *beacons) encode(l *Load, now time.Time) ([]byte, error) {
	report, err := EncodeLoad(l, now, LoadDatagram)
	if err != nil {
		return nil, err
	}
	body := make([]byte, 0, 1+ed25519.PublicKeySize+ed25519.SignatureSize+len(report)+sealOverhead)
	if !b.sealer.on() {
		body = append(body, beaconVersion)
	}
	body = append(body, b.id.Public()...)
	body = append(body, b.id.Sign(b.purpose, report)...)
	body = append(body, report...)
	if !b.sealer.on() {
		return body, nil
	}
	return b.sealer.seal([]byte{beaconVersion}, body)
}

// decode reads a datagram. News is asked before the signature is checked, with
// what the datagram claims to be, so that repeats and strangers cost little; it
// must not be relied on for anything else.
func (b *beacons) decode(d []byte, now time.Time, news func(*Load) bool) (*Load, error) {
	if len(d) < 1 || d[0] != beaconVersion {
		return nil, errBeacon
	}
	body := d[1:]
	if b.sealer.on() {
		var err error
		if body, err = b.sealer.open(body); err != nil {
			return nil, err
		}
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
	if !news(l) {
		return nil, nil
	}
	if !identity.Verify(pub, b.purpose, report, sig) {
		return nil, errBeacon
	}
	return l, nil
}

// targets are the addresses that a beacon goes to: every other member that is
// alive.
func targets(v *View) []netip.AddrPort {
	out := make([]netip.AddrPort, 0, len(v.Members()))
	for _, m := range v.Members() {
		if !m.Self && m.Status == Alive && m.Addr.IsValid() {
			out = append(out, m.Addr)
		}
	}
	return out
}
