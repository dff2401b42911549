package tinymodels

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// golden is the digest of every GGUF. A change here changes what every test
// with a real server sees, so it is only ever made on purpose.
var golden = map[string]string{
	"tiny":    "b7bc6cf968dcd6509a6ad3d7751953d17a8d9dee1f0289b574882edf3d94f2d7",
	"tiny2":   "bed04fac13bf373cb58d5794868ef99b5710123db5550f41787b7f58177a890c",
	"mid":     "ef012c6bc5e3feb090163a2206baeb1172482494f5d531126c536202c2a5ca46",
	"big":     "6b6037507ba3cf75cd171884024eb0bcaa3271e11f539b6db687fd98169b0aeb",
	"short":   "c98b3450b023c32440d6d2586bda4f1f897384ee7653d5d8259e765404bea498",
	"utf8":    "bbaa848889c135136edfced599f5f4b660247b2720b1468f82ea834ce84a13d4",
	"think":   "f87a6bd00febe9b4af26f91054e1e996bc402af12a735cdf393d46a869432bdf",
	"tool":    "dd1ed9f6d9cb2e4caf62c45eb6ac870f84d6bbabce5635feb770b68a534af21f",
	"ambig":   "756ddf78c019bc0fd567c69cd5372babda9a3613a41f82db6dc0f3ac0f12710c",
	"prefill": "b7bc6cf968dcd6509a6ad3d7751953d17a8d9dee1f0289b574882edf3d94f2d7",
	"legacy":  "b7bc6cf968dcd6509a6ad3d7751953d17a8d9dee1f0289b574882edf3d94f2d7",
	"embed":   "e31e6882e58ab1f72e73db079c305622dcc9b3072305de53a55b81eae2100f9d",
	"brief":   "b7bc6cf968dcd6509a6ad3d7751953d17a8d9dee1f0289b574882edf3d94f2d7",
	"loop":    "1fc9d6e74da445b41701aa6929024987bf51ae01e77040146720006928aeac23",
	"native":  "50cc1e0912d42067e8c91cac2fa432dfeb8b76aeb3f30be2b2d8faaaad6ae669",
}

func TestBytesAreThoseOfTheGoldenDigests(t *testing.T) {
	if got, want := len(Names()), len(golden); got != want {
		t.Errorf("%d models, %d golden digests", got, want)
	}
	for _, m := range models {
		t.Run(m.Name, func(t *testing.T) {
			if m.Name == "big" && testing.Short() {
				t.Skip("tinymodels: 117 MB of weights, not with -short")
			}
			h := sha256.New()
			if err := m.shape.write(h); err != nil {
				t.Fatal(err)
			}
			if got := hex.EncodeToString(h.Sum(nil)); got != golden[m.Name] {
				t.Errorf("sha256 %s, want %s", got, golden[m.Name])
			}
		})
	}
}

func TestWritePutsModelAndModelfile(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "made")
	if err := Write(dir, "brief", "native"); err != nil {
		t.Fatal(err)
	}
	for file, want := range map[string]string{
		"brief.gguf":       "GGUF",
		"native.gguf":      "tokenizer.chat_template",
		"Modelfile.brief":  "PARAMETER num_predict 24\n",
		"Modelfile.native": "FROM ./native.gguf\nPARAMETER stop <|end|>\n",
	} {
		b, err := os.ReadFile(filepath.Join(dir, file))
		if err != nil {
			t.Error(err)
		} else if !bytes.Contains(b, []byte(want)) {
			t.Errorf("%s lacks %q", file, want)
		}
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 4 {
		t.Errorf("%d files, %v; want 4", len(entries), err)
	}
}

func TestUnknownNameWritesNothing(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "none")
	err := Write(dir, "tiny", "huge")
	if !errors.Is(err, ErrUnknown) || !strings.Contains(err.Error(), `"huge"`) {
		t.Errorf("error %v, want ErrUnknown that names huge", err)
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("stat %v, want not exist", err)
	}
	if _, err := Fingerprint("huge"); !errors.Is(err, ErrUnknown) {
		t.Errorf("fingerprint error %v, want ErrUnknown", err)
	}
}

func TestFingerprintTellsModelsApart(t *testing.T) {
	seen := map[string]string{}
	for _, name := range Names() {
		a, err := Fingerprint(name)
		if err != nil {
			t.Fatal(err)
		}
		if b, _ := Fingerprint(name); a != b {
			t.Errorf("%s: %s, then %s", name, a, b)
		}
		if other, ok := seen[a]; ok {
			t.Errorf("%s and %s share %s", name, other, a)
		}
		seen[a] = name
	}
}

func TestBadShapes(t *testing.T) {
	for name, s := range map[string]shape{
		"dim not a multiple of 16": small.with(func(s *shape) { s.dim = 65 }),
		"no feed forward":          small.with(func(s *shape) { s.ff = 0 }),
		"script too long":          small.with(func(s *shape) { s.script = make([]string, 40) }),
		"empty chunk":              small.with(scripted("a", "")),
		"metadata of no GGUF type": small.with(func(s *shape) { s.extra = []entry{{"x", 1.5}} }),
	} {
		t.Run(name, func(t *testing.T) {
			if err := s.write(io.Discard); err == nil {
				t.Error("written without an error")
			}
		})
	}
}

func TestHalf(t *testing.T) {
	for _, c := range []struct {
		in   float32
		want uint16
	}{{0, 0}, {1, 0x3c00}, {-2, 0xc000}, {40, 0x5100}, {1.0 / 3, 0x3555}, {1e-9, 0}, {-1e-9, 0x8000}} {
		if got := half(c.in); got != c.want {
			t.Errorf("half(%v) = %#04x, want %#04x", c.in, got, c.want)
		}
	}
}
