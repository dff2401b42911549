package identity

import (
	"bytes"
	"crypto/ecdh"
	"crypto/ed25519"
	"crypto/sha512"
	"testing"
)

func TestSharedIsTheSameOnBothSidesAndNowhereElse(t *testing.T) {
	a, b, c := must(New()), must(New()), must(New())
	ab, ba := must(a.Shared("p", b.Public())), must(b.Shared("p", a.Public()))
	if !bytes.Equal(ab, ba) || len(ab) != SharedKeySize {
		t.Errorf("%x and %x", ab, ba)
	}
	for name, other := range map[string][]byte{
		"with another":         must(a.Shared("p", c.Public())),
		"of others":            must(c.Shared("p", b.Public())),
		"for another purpose":  must(a.Shared("q", b.Public())),
		"with itself, by both": must(b.Shared("p", b.Public())),
	} {
		if bytes.Equal(ab, other) {
			t.Errorf("%s it is the same", name)
		}
	}
}

// The public half in Montgomery form is what X25519 makes of the private half.
func TestMontgomeryBelongsToThePrivateKey(t *testing.T) {
	for range 50 {
		i := must(New())
		seed := sha512.Sum512(i.key.Seed())
		want := must(ecdh.X25519().NewPrivateKey(seed[:32])).PublicKey().Bytes()
		if got := must(montgomery(i.Public())); !bytes.Equal(got, want) {
			t.Fatalf("%x, want %x", got, want)
		}
	}
}

func TestSharedRefusesWhatIsNoKey(t *testing.T) {
	i := must(New())
	neutral := make(ed25519.PublicKey, 32)
	neutral[0] = 1 // y = 1
	low := make(ed25519.PublicKey, 32)
	low[0] = 0xec // y = -1, so u = 0, a point of order 2
	for k := 1; k < 31; k++ {
		low[k] = 0xff
	}
	low[31] = 0x7f
	for name, pub := range map[string]ed25519.PublicKey{"nothing": nil, "short": make([]byte, 31), "neutral": neutral, "order 2": low} {
		if k, err := i.Shared("p", pub); err == nil {
			t.Errorf("%s: %x", name, k)
		}
	}
}

func BenchmarkShared(b *testing.B) {
	i, peer := must(New()), must(New()).Public()
	for b.Loop() {
		must(i.Shared("p", peer))
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}
