package mesh

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
)

func TestKeyRoundTrip(t *testing.T) {
	k := NewKey()
	text := k.String()
	if !strings.HasPrefix(text, "kage1-") || len(text) != len("kage1-")+56 {
		t.Errorf("key %q has the wrong form", text)
	}
	for _, form := range []string{text, strings.ToUpper(text), "  " + text + "\n"} {
		got, err := ParseKey(form)
		if err != nil || got != k {
			t.Errorf("%q: %v", form, err)
		}
	}
	if NewKey() == k {
		t.Error("two keys are equal")
	}
}

func TestParseKeyRefuses(t *testing.T) {
	text := NewKey().String()
	typo := []byte(text)
	for i := range typo {
		if i < len("kage1-") {
			continue
		}
		typo[i] ^= 'a' ^ 'b'
		if typo[i] < 'a' || typo[i] > 'z' {
			typo[i] ^= 'a' ^ 'b'
			continue
		}
		if _, err := ParseKey(string(typo)); !errors.Is(err, ErrBadKey) {
			t.Fatalf("a mistyped letter at %d was taken", i)
		}
		typo[i] ^= 'a' ^ 'b'
	}
	tests := map[string]string{
		"empty":       "",
		"other":       "swarm-key",
		"short":       text[:40],
		"long":        text + "a",
		"bad letters": "kage1-" + strings.Repeat("1", 56),
		"zeros":       Key{}.String(),
	}
	for name, in := range tests {
		_, err := ParseKey(in)
		if !errors.Is(err, ErrBadKey) {
			t.Errorf("%s: %v", name, err)
		}
		if err != nil && len(in) > 10 && strings.Contains(err.Error(), in[6:]) {
			t.Errorf("%s: the error quotes the key: %v", name, err)
		}
	}
}

func TestKeyIsNotPrinted(t *testing.T) {
	k := NewKey()
	secret := strings.TrimPrefix(k.String(), "kage1-")
	var out bytes.Buffer
	log := slog.New(slog.NewJSONHandler(&out, nil))
	cfg := Config{Cluster: "home", Keys: []Key{k}}
	log.Info("start", "key", k, "config", fmt.Sprintf("%v %+v %#v", cfg, cfg, cfg), "s", fmt.Sprintf("%s %q %x", k, k, k))
	if err := json.NewEncoder(&out).Encode(map[string]any{"key": k, "keys": cfg.Keys}); err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(&out, k, &k, []Key{k})
	hexed := fmt.Sprintf("%x", k.secret[:])
	bytesed := strings.Trim(fmt.Sprint(k.secret[:8]), "[]")
	for _, leak := range []string{secret, hexed, bytesed} {
		if strings.Contains(out.String(), leak) {
			t.Errorf("the key is printed: %s", out.String())
		}
	}
	if !strings.Contains(out.String(), "kage1-***") {
		t.Errorf("nothing says that there is a key: %s", out.String())
	}
}

func TestDerivedSecretsAreIndependent(t *testing.T) {
	k, other := NewKey(), NewKey()
	seen := map[string]string{}
	for name, v := range map[string]string{
		"gossip":               string(k.Gossip("home")),
		"gossip other cluster": string(k.Gossip("office")),
		"gossip other key":     string(other.Gossip("home")),
		"tag":                  k.Tag("home"),
		"tag other cluster":    k.Tag("office"),
		"tag other key":        other.Tag("home"),
		"open tag":             Key{}.Tag("home"),
		"open tag other":       Key{}.Tag("office"),
	} {
		if twin := seen[v]; twin != "" {
			t.Errorf("%s equals %s", name, twin)
		}
		seen[v] = name
	}
	if len(k.Gossip("home")) != 32 || len(k.Tag("home")) != 13 {
		t.Errorf("sizes %d and %d", len(k.Gossip("home")), len(k.Tag("home")))
	}
	again, _ := ParseKey(k.String())
	if again.Tag("home") != k.Tag("home") {
		t.Error("a key read again gives another tag")
	}
}

func FuzzParseMeshKey(f *testing.F) {
	f.Add(NewKey().String())
	f.Add("kage1-")
	f.Fuzz(func(t *testing.T, text string) {
		k, err := ParseKey(text)
		if err != nil {
			if !errors.Is(err, ErrBadKey) || !k.IsZero() {
				t.Fatalf("got %v", err)
			}
			return
		}
		if again, err := ParseKey(k.String()); err != nil || again != k {
			t.Fatalf("%q reads as %v", k.String(), err)
		}
	})
}
