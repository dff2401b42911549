package mesh

import (
	"bytes"
	"errors"
	"reflect"
	"testing"

	"github.com/hashicorp/memberlist"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh/identity"
)

func beaconsOf(t testing.TB, cluster string, keys ...Key) *beacons {
	t.Helper()
	id, err := identity.New()
	if err != nil {
		t.Fatal(err)
	}
	ring, err := newKeyring(cluster, keys, nil)
	if err != nil {
		t.Fatal(err)
	}
	return newBeacons(id, cluster, newSealer(ring.ring, "kage-mesh beacon v1 "+Key{}.Tag(cluster)))
}

func anyNews(*Load) bool { return true }

func TestBeaconRoundTrip(t *testing.T) {
	k := NewKey()
	for name, keys := range map[string][]Key{"open": nil, "keyed": {k}} {
		t.Run(name, func(t *testing.T) {
			from, to := beaconsOf(t, "home", keys...), beaconsOf(t, "home", keys...)
			l := fullLoad()
			l.Node = from.id.ID()
			d, err := from.encode(l, epoch)
			if err != nil {
				t.Fatal(err)
			}
			got, err := to.decode(d, epoch, anyNews)
			if err != nil || !reflect.DeepEqual(got, l) {
				t.Errorf("got %+v, %v", got, err)
			}
			if len(keys) > 0 && bytes.Contains(d, []byte("llama3.3")) {
				t.Error("a model's name can be read on the wire")
			}
			if len(d) > LoadDatagram+150 {
				t.Errorf("%d bytes", len(d))
			}
		})
	}
}

func TestBeaconRefuses(t *testing.T) {
	k, old := NewKey(), NewKey()
	alice, mallory, bob := beaconsOf(t, "home", k), beaconsOf(t, "home", k), beaconsOf(t, "home", k)
	load := func(of NodeID) *Load { return &Load{Node: of, Incarnation: 1, Seq: 1, Running: 1} }
	honest := must(alice.encode(load(alice.id.ID()), epoch))
	flipped := bytes.Clone(honest)
	flipped[len(flipped)-1] ^= 1
	forged := must(mallory.encode(load(alice.id.ID()), epoch))
	foreign := newBeacons(alice.id, "office", alice.sealer) // the same node and key, another mesh
	otherKey := beaconsOf(t, "home", old)
	plain := beaconsOf(t, "home")
	tests := []struct {
		name string
		by   *beacons
		d    []byte
		want error
	}{
		{"empty", bob, nil, errBeacon},
		{"version", bob, append([]byte{9}, honest[1:]...), errBeacon},
		{"short", bob, honest[:20], errSealed},
		{"changed on the way", bob, flipped, errSealed},
		{"in another's name", bob, forged, errBeacon},
		{"signed for another mesh", bob, must(foreign.encode(load(alice.id.ID()), epoch)), errBeacon},
		{"other key", bob, must(otherKey.encode(load(otherKey.id.ID()), epoch)), errSealed},
		{"in the clear to a keyed mesh", bob, must(plain.encode(load(plain.id.ID()), epoch)), errSealed},
		{"sealed to an open mesh", plain, honest, ErrLoad},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if l, err := tt.by.decode(tt.d, epoch, anyNews); l != nil || !errors.Is(err, tt.want) {
				t.Errorf("got %+v, %v, want %v", l, err, tt.want)
			}
		})
	}
	if l, err := bob.decode(honest, epoch, anyNews); err != nil || l == nil {
		t.Errorf("the honest one: %v", err)
	}
	if l, err := bob.decode(honest, epoch, func(*Load) bool { return false }); l != nil || err != nil {
		t.Errorf("a repeat: %+v, %v", l, err)
	}
}

func TestForgedSignatureIsRefused(t *testing.T) {
	alice, bob := beaconsOf(t, "home"), beaconsOf(t, "home")
	d := must(alice.encode(&Load{Node: alice.id.ID(), Seq: 1}, epoch))
	d[40] ^= 1 // inside the signature
	if _, err := bob.decode(d, epoch, anyNews); !errors.Is(err, errBeacon) {
		t.Errorf("got %v", err)
	}
}

// While a key is rotated, nodes that send with the old and with the new key
// hear each other.
func TestBeaconsPassDuringRotation(t *testing.T) {
	old, new := NewKey(), NewKey()
	a, b := beaconsOf(t, "home", old, new), beaconsOf(t, "home", new, old)
	for _, pair := range [][2]*beacons{{a, b}, {b, a}} {
		d := must(pair[0].encode(&Load{Node: pair[0].id.ID(), Seq: 1}, epoch))
		if _, err := pair[1].decode(d, epoch, anyNews); err != nil {
			t.Error(err)
		}
	}
	if err := b.sealer.ring.RemoveKey(old.Gossip("home")); err != nil {
		t.Fatal(err)
	}
	d := must(a.encode(&Load{Node: a.id.ID(), Seq: 2}, epoch))
	if _, err := b.decode(d, epoch, anyNews); !errors.Is(err, errSealed) {
		t.Errorf("the removed key still opens: %v", err)
	}
}

func TestBeaconKeyIsNotTheGossipKey(t *testing.T) {
	k := NewKey()
	b := beaconsOf(t, "home", k)
	d := must(b.encode(&Load{Node: b.id.ID(), Seq: 1}, epoch))
	ring, err := memberlist.NewKeyring(nil, k.Gossip("home"))
	if err != nil {
		t.Fatal(err)
	}
	other := newSealer(ring, "something else")
	if _, err := other.open(d[1:]); !errors.Is(err, errSealed) {
		t.Errorf("opened under another label: %v", err)
	}
}

func FuzzBeacon(f *testing.F) {
	key := NewKey()
	open, keyed := beaconsOf(f, "home"), beaconsOf(f, "home", key)
	f.Add(must(open.encode(&Load{Node: open.id.ID(), Seq: 1}, epoch)), false)
	f.Add(must(keyed.encode(&Load{Node: keyed.id.ID(), Seq: 1}, epoch)), true)
	f.Add([]byte{beaconVersion}, true)
	f.Fuzz(func(t *testing.T, d []byte, sealed bool) {
		b := open
		if sealed {
			b = keyed
		}
		l, err := b.decode(d, epoch, anyNews)
		if (l == nil) == (err == nil) {
			t.Fatalf("got %v and %v", l, err)
		}
		if l == nil {
			return
		}
		for _, i := range []int{len(d) - 1, 40, 1} { // report, signature, key
			bent := bytes.Clone(d)
			bent[i] ^= 1
			if l, err := b.decode(bent, epoch, anyNews); err == nil {
				t.Fatalf("accepted %+v after byte %d of %x was changed", l, i, d)
			}
		}
	})
}

func BenchmarkBeacon(b *testing.B) {
	from, to := beaconsOf(b, "home", NewKey()), beaconsOf(b, "home")
	to.sealer = from.sealer
	l := fullLoad()
	l.Node = from.id.ID()
	d := must(from.encode(l, epoch))
	b.Run("send", func(b *testing.B) {
		for b.Loop() {
			must(from.encode(l, epoch))
		}
	})
	b.Run("receive", func(b *testing.B) {
		for b.Loop() {
			must(to.decode(d, epoch, anyNews))
		}
	})
	b.Run("repeat", func(b *testing.B) {
		for b.Loop() {
			must(to.decode(d, epoch, func(*Load) bool { return false }))
		}
	})
}
