package apikeys

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestAKeyIsShownOnceAndKeptAsHash(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state", File)
	s := Open(path)
	if locked, err := s.Locked(); locked || err != nil {
		t.Fatalf("without a file: locked %v, %v", locked, err)
	}
	text, err := s.Add(Key{Name: "webui", Scopes: []Scope{Infer}, Rate: 60, Running: 4}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(data), strings.TrimPrefix(text, prefix)) {
		t.Error("the key itself is in the file")
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if locked, _ := s.Locked(); !locked {
		t.Error("a key exists and the store is not locked")
	}
	k, ok := s.Match(text)
	if !ok || k.Name != "webui" || k.Rate != 60 || k.Running != 4 || !k.Has(Infer) || k.Has(Admin) || k.Has(Metrics) {
		t.Errorf("matched %+v, %v", k, ok)
	}
	for _, wrong := range []string{"", "ollama", text + "x", text[:len(text)-1], strings.ToUpper(text)} {
		if _, ok := s.Match(wrong); ok {
			t.Errorf("%q matches", wrong)
		}
	}
	if _, err := s.Add(Key{Name: "webui", Scopes: []Scope{Infer}}, time.Now()); !errors.Is(err, ErrExists) {
		t.Errorf("second of the name: %v", err)
	}
}

// A key that another process removed stops to work without a restart.
func TestTheFileIsLookedAtAgain(t *testing.T) {
	path := filepath.Join(t.TempDir(), File)
	node, command := Open(path), Open(path)
	text, err := command.Add(Key{Name: "a", Scopes: []Scope{Admin}}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := node.Match(text); !ok {
		t.Fatal("the node does not know the key")
	}
	if err := command.Remove("a"); err != nil {
		t.Fatal(err)
	}
	if err := command.Remove("a"); !errors.Is(err, ErrUnknown) {
		t.Errorf("removed twice: %v", err)
	}
	node.mu.Lock()
	node.looked = node.looked.Add(-lookEvery) // a second later
	node.mu.Unlock()
	if _, ok := node.Match(text); ok {
		t.Error("a removed key still opens")
	}
}

func TestADamagedFileLocks(t *testing.T) {
	path := filepath.Join(t.TempDir(), File)
	if err := os.WriteFile(path, []byte(`{"version":1,"keys":[{"name":"secret-canary`), 0o600); err != nil {
		t.Fatal(err)
	}
	s := Open(path)
	locked, err := s.Locked()
	if !locked || !errors.Is(err, ErrDamaged) {
		t.Errorf("locked %v, %v", locked, err)
	}
	if err == nil || strings.Contains(err.Error(), "canary") {
		t.Errorf("the error quotes the file: %v", err)
	}
	if _, err := s.Add(Key{Name: "a", Scopes: []Scope{Infer}}, time.Now()); err == nil {
		t.Error("a damaged file was overwritten")
	}
}

func TestKeysThatMakeNoSense(t *testing.T) {
	s := Open(filepath.Join(t.TempDir(), File))
	for name, k := range map[string]Key{
		"no name":        {Scopes: []Scope{Infer}},
		"blank in name":  {Name: "a b", Scopes: []Scope{Infer}},
		"line in name":   {Name: "a\nb", Scopes: []Scope{Infer}},
		"long name":      {Name: strings.Repeat("a", 65), Scopes: []Scope{Infer}},
		"no scope":       {Name: "a"},
		"unknown scope":  {Name: "a", Scopes: []Scope{"root"}},
		"negative rate":  {Name: "a", Scopes: []Scope{Infer}, Rate: -1},
		"negative count": {Name: "a", Scopes: []Scope{Infer}, Running: -1},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := s.Add(k, time.Now()); !errors.Is(err, ErrInvalid) {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestScopes(t *testing.T) {
	admin := &Key{Scopes: []Scope{Admin}}
	for _, s := range Scopes() {
		if !admin.Has(s) {
			t.Errorf("admin does not open %s", s)
		}
	}
	if (*Key)(nil).Has(Infer) {
		t.Error("no key opens something")
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"version":1,"keys":[]}`))
	f.Add([]byte(`{"version":1,"keys":[{"name":"a","sha256":"` + strings.Repeat("0f", 32) + `","scopes":["infer"]}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		keys, err := Parse(data)
		if err != nil {
			if !errors.Is(err, ErrDamaged) {
				t.Errorf("untyped error %v", err)
			}
			return
		}
		for i := range keys {
			if err := keys[i].validate(); err != nil {
				t.Errorf("taken: %v", err)
			}
		}
	})
}
