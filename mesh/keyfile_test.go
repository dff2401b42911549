package mesh

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestAKeyIsGivenOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state", KeyFile)
	s, a, b := OpenKeys(path), NewKey(), NewKey()
	settle := func(given Key) Settled {
		t.Helper()
		got, err := s.Settle(given)
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	if got := settle(Key{}); len(got.Keys) != 0 {
		t.Errorf("nothing given, nothing stored: %v", got)
	}
	if got := settle(a); !slices.Equal(got.Keys, []Key{a}) || got.Replaced {
		t.Errorf("first given: %+v", got)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if got := settle(Key{}); !slices.Equal(got.Keys, []Key{a}) {
		t.Errorf("stored: %+v", got)
	}
	// A rotation from a to b, then a start with the old key file.
	ring, err := newKeyring("home", []Key{a}, s)
	if err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{ring.install(b), ring.use(b.Fingerprint()), ring.remove(a.Fingerprint())} {
		if err != nil {
			t.Fatal(err)
		}
	}
	if got := settle(a); !slices.Equal(got.Keys, []Key{b}) || !got.Stale {
		t.Errorf("a retired key given: %+v", got)
	}
	c := NewKey()
	if got := settle(c); !slices.Equal(got.Keys, []Key{c}) || !got.Replaced {
		t.Errorf("another mesh's key given: %+v", got)
	}
}

func TestKeyFilesThatCannotBeUsed(t *testing.T) {
	k := NewKey()
	for name, tt := range map[string]struct {
		text string
		mode os.FileMode
	}{
		"readable by others": {k.String() + "\n", 0o644},
		"mistyped":           {k.String()[:40] + "\n", 0o600},
		"three keys":         {NewKey().String() + "\n" + NewKey().String() + "\n" + NewKey().String() + "\n", 0o600},
		"twice":              {k.String() + "\n" + k.String() + "\n", 0o600},
		"bad fingerprint":    {"retired ../../etc\n", 0o600},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), KeyFile)
			if err := os.WriteFile(path, []byte(tt.text), tt.mode); err != nil {
				t.Fatal(err)
			}
			_, err := OpenKeys(path).Settle(Key{})
			if !errors.Is(err, ErrKeyFile) {
				t.Fatalf("got %v", err)
			}
			if strings.Contains(err.Error(), k.String()[6:30]) {
				t.Errorf("the error shows the key: %v", err)
			}
			if _, err := OpenKeys(path).Settle(NewKey()); err == nil {
				t.Error("it was overwritten")
			}
		})
	}
}

func TestRingOrders(t *testing.T) {
	a, b, c := NewKey(), NewKey(), NewKey()
	ring, err := newKeyring("home", []Key{a}, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct {
		name string
		err  error
		want error
	}{
		{"the only key stays", ring.remove(a.Fingerprint()), ErrLastKey},
		{"use of an unknown key", ring.use(b.Fingerprint()), ErrNoKey},
		{"install", ring.install(b), nil},
		{"install again", ring.install(b), nil},
		{"a third", ring.install(c), ErrRingFull},
		{"the one in use stays", ring.remove(a.Fingerprint()), ErrLastKey},
		{"use", ring.use(b.Fingerprint()), nil},
		{"remove", ring.remove(a.Fingerprint()), nil},
		{"remove again", ring.remove(a.Fingerprint()), nil},
	} {
		if !errors.Is(step.err, step.want) || (step.want == nil) != (step.err == nil) {
			t.Errorf("%s: %v, want %v", step.name, step.err, step.want)
		}
	}
	if got := ring.fingerprints(); !slices.Equal(got, []string{b.Fingerprint()}) {
		t.Errorf("left: %v", got)
	}
	if got := ring.ring.GetKeys(); len(got) != 1 || string(got[0]) != string(b.Gossip("home")) {
		t.Error("the gossip ring does not agree")
	}
	open, err := newKeyring("home", nil, nil)
	if err != nil || open.on() || !errors.Is(open.install(a), ErrOpenMesh) {
		t.Errorf("an open mesh: %v", err)
	}
}

func TestDenialsConverge(t *testing.T) {
	id := NodeID("aaaaaaaaaaaaaaaaaaaaaaaaaa")
	words := []denial{{id, true, 10}, {id, false, 20}, {id, true, 20}, {id, false, 15}}
	var want *bool
	for range 24 {
		d, err := loadDenials("")
		if err != nil {
			t.Fatal(err)
		}
		words = append(words[1:], words[0])
		for _, w := range words {
			if _, err := d.merge([]denial{w, w}); err != nil {
				t.Fatal(err)
			}
		}
		got := d.has(id)
		if want == nil {
			want = &got
		}
		if got != *want || !got {
			t.Errorf("order %v: denied %v", words, got)
		}
		words[0], words[1] = words[1], words[0]
	}
}

func TestDenialsAreKept(t *testing.T) {
	path := filepath.Join(t.TempDir(), DeniedFile)
	d, err := loadDenials(path)
	if err != nil {
		t.Fatal(err)
	}
	id := NodeID("aaaaaaaaaaaaaaaaaaaaaaaaaa")
	if err := d.set(id, true, epoch); err != nil {
		t.Fatal(err)
	}
	if again, err := loadDenials(path); err != nil || !again.has(id) {
		t.Errorf("after a restart: %v", err)
	}
	if err := os.WriteFile(path, []byte(`[{"id":"x"`), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := loadDenials(path); err == nil {
		t.Error("a damaged list was taken for none")
	}
}

func FuzzParseStored(f *testing.F) {
	f.Add([]byte("# x\n" + strings.Repeat("kage1-", 3) + "\nretired aaaaaaaaaaaaa\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := parseStored(data)
		if err != nil {
			return
		}
		again, err := parseStored(s.encode())
		if err != nil || !slices.Equal(again.keys, s.keys) {
			t.Errorf("%q: %v", data, err)
		}
	})
}

func FuzzParseOrderAndDenials(f *testing.F) {
	f.Add([]byte(`{"op":"use","fingerprint":"aaaaaaaaaaaaa"}`))
	f.Add([]byte(`[{"id":"aaaaaaaaaaaaaaaaaaaaaaaaaa","denied":true,"at":1}]`))
	f.Fuzz(func(t *testing.T, data []byte) {
		if o, err := parseOrder(strings.NewReader(string(data))); err == nil && o.Op != "install" && !validFingerprint(o.Fingerprint) {
			t.Errorf("%+v", o)
		}
		list, err := parseDenials(data)
		for _, e := range list {
			if err == nil && !e.ID.Valid() {
				t.Errorf("%+v", e)
			}
		}
	})
}
