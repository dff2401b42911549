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

// signed is l's report to a node that is not known yet.
func signed(b *beacons, l *Load) []byte { return must(must(b.encode(l, epoch)).to("nobody")) }

// paired is l's report to one that is.
func paired(b, to *beacons, l *Load) []byte {
	if err := errors.Join(b.meet(to.id.ID(), to.id.Public(), false), to.meet(b.id.ID(), b.id.Public(), false)); err != nil {
		panic(err)
	}
	return must(must(b.encode(l, epoch)).to(to.id.ID()))
}

func anyNews(*Load) bool { return true }

func TestBeaconRoundTrip(t *testing.T) {
	k := NewKey()
	for name, keys := range map[string][]Key{"open": nil, "keyed": {k}} {
		t.Run(name, func(t *testing.T) {
			from, to := beaconsOf(t, "home", keys...), beaconsOf(t, "home", keys...)
			l := fullLoad()
			l.Node = from.id.ID()
			d := signed(from, l)
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
	honest := signed(alice, load(alice.id.ID()))
	flipped := bytes.Clone(honest)
	flipped[len(flipped)-1] ^= 1
	forged := signed(mallory, load(alice.id.ID()))
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
		{"signed for another mesh", bob, signed(foreign, load(alice.id.ID())), errBeacon},
		{"other key", bob, signed(otherKey, load(otherKey.id.ID())), errSealed},
		{"in the clear to a keyed mesh", bob, signed(plain, load(plain.id.ID())), errSealed},
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
	d := signed(alice, &Load{Node: alice.id.ID(), Seq: 1})
	d[40] ^= 1 // inside the signature
	if _, err := bob.decode(d, epoch, anyNews); !errors.Is(err, errBeacon) {
		t.Errorf("got %v", err)
	}
}

// Two nodes need one signature each way; from then on a MAC says whose a report is.
func TestOneSignatureEachWay(t *testing.T) {
	for name, keys := range map[string][]Key{"open": nil, "keyed": {NewKey()}} {
		t.Run(name, func(t *testing.T) {
			alice, bob := beaconsOf(t, "home", keys...), beaconsOf(t, "home", keys...)
			seq := uint64(0)
			say := func(from, to *beacons, heard bool) byte {
				t.Helper()
				seq++
				l := &Load{Node: from.id.ID(), Incarnation: 1, Seq: seq}
				d := must(must(from.encode(l, epoch)).to(to.id.ID()))
				if got, err := to.decode(d, epoch, anyNews); err != nil || heard != reflect.DeepEqual(got, l) {
					t.Errorf("report %d: %+v, %v", seq, got, err)
				}
				return d[0]
			}
			kinds := []byte{say(alice, bob, true), say(bob, alice, true), say(alice, bob, true), say(bob, alice, true)}
			if want := []byte{beaconSigned, beaconAnswer, beaconPaired, beaconPaired}; !bytes.Equal(kinds, want) {
				t.Errorf("kinds %v, want %v", kinds, want)
			}
			again := beaconsOf(t, "home", keys...) // bob after a restart
			again.id = bob.id
			kinds = []byte{say(alice, again, false), say(again, alice, true), say(alice, again, true), say(again, alice, true), say(alice, again, true)}
			if want := []byte{beaconPaired, beaconSigned, beaconAnswer, beaconPaired, beaconPaired}; !bytes.Equal(kinds, want) {
				t.Errorf("after a restart: kinds %v, want %v", kinds, want)
			}
		})
	}
}

// Who does not know us says so until it hears us, and is checked once: the rest of it
// waits for MACs.
func TestWhoIsToBeAnsweredIsNotCheckedAgain(t *testing.T) {
	alice, bob := beaconsOf(t, "home"), beaconsOf(t, "home")
	for seq := range uint64(3) {
		got, err := bob.decode(signed(alice, &Load{Node: alice.id.ID(), Incarnation: 1, Seq: seq + 1}), epoch, anyNews)
		if err != nil || (got != nil) != (seq == 0) {
			t.Errorf("report %d: %+v, %v", seq, got, err)
		}
	}
	if answer := must(must(bob.encode(&Load{Node: bob.id.ID(), Incarnation: 1, Seq: 1}, epoch)).to(alice.id.ID())); answer[0] != beaconAnswer {
		t.Errorf("the answer is of kind %d", answer[0])
	}
	// Should the answer be lost, it asks again and is heard.
	if got, err := bob.decode(signed(alice, &Load{Node: alice.id.ID(), Incarnation: 1, Seq: 9}), epoch, anyNews); err != nil || got == nil {
		t.Errorf("after the answer: %+v, %v", got, err)
	}
}

func TestPairedRefuses(t *testing.T) {
	alice, bob, carol, mallory := beaconsOf(t, "home"), beaconsOf(t, "home"), beaconsOf(t, "home"), beaconsOf(t, "home")
	l := &Load{Node: alice.id.ID(), Incarnation: 1, Seq: 1}
	honest := paired(alice, bob, l)
	paired(alice, carol, l) // they know each other
	flipped := bytes.Clone(honest)
	flipped[1] ^= 1
	grown := bytes.Clone(honest)
	grown[len(grown)-1] ^= 1
	mirrored := paired(alice, bob, &Load{Node: bob.id.ID(), Incarnation: 1, Seq: 1})
	foreign := newBeacons(alice.id, "office", alice.sealer)
	for name, c := range map[string]struct {
		by *beacons
		d  []byte
	}{
		"another proof":              {bob, flipped},
		"another report":             {bob, grown},
		"in another's name":          {bob, paired(mallory, bob, l)},
		"for another member":         {carol, honest},
		"of another mesh":            {bob, paired(foreign, newBeacons(bob.id, "office", bob.sealer), l)},
		"in the receiver's own name": {bob, mirrored},
		"back to who has said it":    {alice, honest},
		"a MAC as a signature":       {bob, append([]byte{beaconSigned}, honest[1:]...)},
		"a signature taken as a MAC": {bob, append([]byte{beaconPaired}, signed(alice, l)[1:]...)},
		"cut":                        {bob, honest[:1+macSize]},
	} {
		if got, err := c.by.decode(c.d, epoch, anyNews); got != nil || err == nil && c.by == bob && name != "in the receiver's own name" {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
	if got, err := bob.decode(honest, epoch, anyNews); err != nil || got == nil {
		t.Errorf("the honest one: %v", err)
	}
}

// While a key is rotated, nodes that send with the old and with the new key
// hear each other.
func TestBeaconsPassDuringRotation(t *testing.T) {
	old, new := NewKey(), NewKey()
	a, b := beaconsOf(t, "home", old, new), beaconsOf(t, "home", new, old)
	for _, pair := range [][2]*beacons{{a, b}, {b, a}} {
		d := signed(pair[0], &Load{Node: pair[0].id.ID(), Seq: 1})
		if _, err := pair[1].decode(d, epoch, anyNews); err != nil {
			t.Error(err)
		}
	}
	if err := b.sealer.ring.RemoveKey(old.Gossip("home")); err != nil {
		t.Fatal(err)
	}
	d := signed(a, &Load{Node: a.id.ID(), Seq: 2})
	if _, err := b.decode(d, epoch, anyNews); !errors.Is(err, errSealed) {
		t.Errorf("the removed key still opens: %v", err)
	}
}

func TestBeaconKeyIsNotTheGossipKey(t *testing.T) {
	k := NewKey()
	b := beaconsOf(t, "home", k)
	d := signed(b, &Load{Node: b.id.ID(), Seq: 1})
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
	f.Add(signed(open, &Load{Node: open.id.ID(), Seq: 1}), false)
	f.Add(signed(keyed, &Load{Node: keyed.id.ID(), Seq: 1}), true)
	f.Add(paired(open, open, &Load{Node: open.id.ID(), Seq: 1}), false)
	f.Add(paired(keyed, keyed, &Load{Node: keyed.id.ID(), Seq: 1}), true)
	f.Add([]byte{beaconSigned}, true)
	f.Fuzz(func(t *testing.T, d []byte, sealed bool) {
		b := open
		if sealed {
			b = keyed
		}
		l, err := b.decode(d, epoch, anyNews)
		stranger := l == nil && err == nil && d[0] == beaconPaired
		if (l == nil) == (err == nil) && !stranger {
			t.Fatalf("got %v and %v", l, err)
		}
		if l == nil {
			return
		}
		for _, i := range []int{len(d) - 1, 40, 1} { // report, signature, key
			bent := bytes.Clone(d)
			bent[i] ^= 1
			if l, _ := b.decode(bent, epoch, anyNews); l != nil {
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
	for name, d := range map[string][]byte{"signed": signed(from, l), "paired": paired(from, to, l)} {
		b.Run("receive/"+name, func(b *testing.B) {
			for b.Loop() {
				must(to.decode(d, epoch, anyNews))
			}
		})
	}
	d := signed(from, l)
	for name, id := range map[string]NodeID{"signed": "nobody", "paired": to.id.ID()} {
		b.Run("send/"+name, func(b *testing.B) {
			for b.Loop() {
				must(must(from.encode(l, epoch)).to(id))
			}
		})
	}
	b.Run("send/next of the same", func(b *testing.B) {
		s := must(from.encode(l, epoch))
		for b.Loop() {
			must(s.to(to.id.ID()))
		}
	})
	b.Run("repeat", func(b *testing.B) {
		for b.Loop() {
			must(to.decode(d, epoch, func(*Load) bool { return false }))
		}
	})
}
