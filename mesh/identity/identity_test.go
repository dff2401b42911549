package identity

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
)

func TestIDSurvivesRestart(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state", "deeper")
	first, err := LoadOrCreate(dir)
	if err != nil {
		t.Fatal(err)
	}
	again, err := LoadOrCreate(dir)
	if err != nil {
		t.Fatal(err)
	}
	if first.ID() != again.ID() {
		t.Errorf("id changed from %s to %s over a restart", first.ID(), again.ID())
	}
	if !first.ID().Valid() {
		t.Errorf("id %q is not valid", first.ID())
	}
	if runtime.GOOS != "windows" {
		for path, want := range map[string]os.FileMode{dir: 0o700, filepath.Join(dir, KeyFile): 0o600} {
			info, err := os.Stat(path)
			if err != nil {
				t.Fatal(err)
			}
			if got := info.Mode().Perm(); got != want {
				t.Errorf("%s has mode %04o, want %04o", path, got, want)
			}
		}
	}
	if left, _ := filepath.Glob(filepath.Join(dir, ".*")); len(left) > 0 {
		t.Errorf("temporary files left: %v", left)
	}
}

func TestIDIsHashOfSPKI(t *testing.T) {
	id, err := New()
	if err != nil {
		t.Fatal(err)
	}
	spki, err := x509.MarshalPKIXPublicKey(id.Public())
	if err != nil {
		t.Fatal(err)
	}
	if got := FromSPKI(spki); got != id.ID() {
		t.Errorf("FromSPKI gives %s, FromPublic %s", got, id.ID())
	}
	if got := FromSPKI(id.cert.Leaf.RawSubjectPublicKeyInfo); got != id.ID() {
		t.Errorf("the certificate's key gives %s, want %s", got, id.ID())
	}
}

func TestTwoProcessesAgreeOnOneKey(t *testing.T) {
	dir := t.TempDir()
	ids := make([]NodeID, 8)
	var wg sync.WaitGroup
	for i := range ids {
		wg.Go(func() {
			id, err := LoadOrCreate(dir)
			if err != nil {
				t.Error(err)
				return
			}
			ids[i] = id.ID()
		})
	}
	wg.Wait()
	for _, id := range ids {
		if id != ids[0] {
			t.Fatalf("different ids: %v", ids)
		}
	}
}

func TestBadKeyFileIsNeverReplaced(t *testing.T) {
	good, err := New()
	if err != nil {
		t.Fatal(err)
	}
	pemKey, err := encodeKey(good)
	if err != nil {
		t.Fatal(err)
	}
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ecDER, err := x509.MarshalPKCS8PrivateKey(ec)
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name string
		raw  []byte
		mode os.FileMode
		want error
		text string
	}{
		{"readable by others", pemKey, 0o644, ErrPermissions, "chmod 600"},
		{"readable by the group", pemKey, 0o640, ErrPermissions, "chmod 600"},
		{"empty", nil, 0o600, ErrCorrupt, "empty"},
		{"text", []byte("hello"), 0o600, ErrCorrupt, "no PEM block"},
		{"cut", pemKey[:len(pemKey)/2], 0o600, ErrCorrupt, "no PEM block"},
		{"certificate", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ecDER}), 0o600, ErrCorrupt, "CERTIFICATE"},
		{"garbage in PEM", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: []byte{1, 2, 3}}), 0o600, ErrCorrupt, "PKCS"},
		{"other algorithm", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: ecDER}), 0o600, ErrCorrupt, "ecdsa"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if runtime.GOOS == "windows" && errors.Is(tt.want, ErrPermissions) {
				t.Skip("windows has no mode bits")
			}
			dir := t.TempDir()
			path := filepath.Join(dir, KeyFile)
			if err := os.WriteFile(path, tt.raw, tt.mode); err != nil {
				t.Fatal(err)
			}
			if err := os.Chmod(path, tt.mode); err != nil {
				t.Fatal(err)
			}
			id, err := LoadOrCreate(dir)
			if !errors.Is(err, tt.want) || id != nil {
				t.Fatalf("got %v, %v, want error %v", id, err, tt.want)
			}
			for _, part := range []string{path, tt.text} {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("error %q does not name %q", err, part)
				}
			}
			after, err := os.ReadFile(path)
			if err != nil || !bytes.Equal(after, tt.raw) {
				t.Errorf("the file was changed")
			}
		})
	}
}

func TestKeyFileThatIsADirectory(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, KeyFile), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadOrCreate(dir); err == nil {
		t.Fatal("a directory was taken for a key")
	}
}

func TestHalvesMustMatch(t *testing.T) {
	_, a, _ := ed25519.GenerateKey(rand.Reader)
	_, b, _ := ed25519.GenerateKey(rand.Reader)
	mixed := append(append(ed25519.PrivateKey{}, a[:32]...), b[32:]...)
	if _, err := fromKey(mixed); err == nil {
		t.Error("a key whose halves do not belong together was taken")
	}
}

func TestSignaturesAreBoundToTheirPurpose(t *testing.T) {
	a, _ := New()
	b, _ := New()
	msg := []byte("free: 24 GB")
	sig := a.Sign("load", msg)
	tests := []struct {
		name string
		pub  ed25519.PublicKey
		why  string
		msg  []byte
		sig  []byte
		want bool
	}{
		{"own", a.Public(), "load", msg, sig, true},
		{"other key", b.Public(), "load", msg, sig, false},
		{"other purpose", a.Public(), "card", msg, sig, false},
		{"other message", a.Public(), "load", []byte("free: 25 GB"), sig, false},
		{"cut signature", a.Public(), "load", msg, sig[:63], false},
		{"no key", nil, "load", msg, sig, false},
	}
	for _, tt := range tests {
		if got := Verify(tt.pub, tt.why, tt.msg, tt.sig); got != tt.want {
			t.Errorf("%s: got %v", tt.name, got)
		}
	}
}

func TestPrintingShowsNoSecret(t *testing.T) {
	id, err := New()
	if err != nil {
		t.Fatal(err)
	}
	seed := fmt.Sprint([]byte(id.key.Seed())[:4])
	seed = strings.Trim(seed, "[]")
	for _, f := range []string{"%v", "%+v", "%#v", "%s"} {
		if out := fmt.Sprintf(f, id); !strings.Contains(out, string(id.ID())) || strings.Contains(out, seed) {
			t.Errorf("%s prints %q", f, out)
		}
	}
}

func FuzzParseKey(f *testing.F) {
	id, err := New()
	if err != nil {
		f.Fatal(err)
	}
	raw, err := encodeKey(id)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(raw)
	f.Add(raw[:40])
	f.Add([]byte("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		id, err := parseKey(raw)
		if (id == nil) == (err == nil) {
			t.Fatalf("got %v and %v", id, err)
		}
		if id != nil && !id.ID().Valid() {
			t.Fatalf("id %q", id.ID())
		}
	})
}
