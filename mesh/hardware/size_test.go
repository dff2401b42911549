package hardware

import (
	"errors"
	"math"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestParseSize(t *testing.T) {
	for text, want := range map[string]uint64{
		"24GiB": 24 * gib, "24 gib": 24 * gib, "48GB": 48 * gb, "64G": 64 * gib, "64g": 64 * gib,
		"1.5TiB": 1536 * gib, "24564MiB": 24564 * mib, "512 KB": 512000, "0GiB": 0, " 8g ": 8 * gib, "100B": 100,
	} {
		if got, err := ParseSize(text); err != nil || got != want {
			t.Errorf("%q: %d, %v; want %d", text, got, err, want)
		}
	}
	for _, text := range []string{"", "24", "GiB", "-1GiB", "1e3G", "0x10G", "NaNG", "infG", "1..5G", "9999999TiB", "24 Gi", "twentyG"} {
		if got, err := ParseSize(text); !errors.Is(err, ErrSize) {
			t.Errorf("%q: %d, %v", text, got, err)
		}
	}
}

func TestFormatSize(t *testing.T) {
	for n, want := range map[uint64]string{
		0: "0 B", 1023: "1023 B", 1024: "1.0 KiB", 512 * mib: "512.0 MiB", 24564 * mib: "24.0 GiB",
		48 * gb: "44.7 GiB", 1<<40 - 1: "1.0 TiB", math.MaxUint64: "16.0 EiB",
	} {
		if got := FormatSize(n); got != want {
			t.Errorf("%d: %q, want %q", n, got, want)
		}
	}
}

func TestArithmeticSaturates(t *testing.T) {
	const top = math.MaxUint64
	if add(top, 1) != top || add(1, 2) != 3 || sub(1, 2) != 0 || sub(3, 1) != 2 || scale(top, 2) != top || scale(3, 4) != 12 || scale(3, 0) != 0 {
		t.Error("wrapped")
	}
	if saturate(math.Inf(1)) != top || saturate(math.NaN()) != 0 || saturate(-1) != 0 || saturate(2.9) != 2 {
		t.Error("saturate")
	}
}

func TestSummaryIsOneSafeLine(t *testing.T) {
	i := Inventory{GPUs: []GPU{{Vendor: NVIDIA, Name: "evil\x1b[31m\nname\u202e"}}, VRAM: detected(1), RAM: detected(64 * gib)}
	if got, want := i.Summary(), "evil[31m name · 1 B · ram 64 GiB"; got != want {
		t.Errorf("%q", got)
	}
	for _, c := range []struct {
		i    Inventory
		want string
	}{
		{Inventory{}, "CPU only · ram unknown"},
		{Inventory{VRAM: detected(8 * gib)}, "GPU · 8.0 GiB · ram unknown"},
		{Inventory{GPUs: []GPU{{Vendor: AMD}}, RAM: detected(8 * gib)}, "AMD GPU · vram unknown · ram 8.0 GiB"},
		{Inventory{GPUs: []GPU{{Name: "X"}, {Name: "X"}}, VRAM: detected(2 * gib), VRAMFree: detected(900 * mib)}, "2 × X · 2.0 GiB (900.0 MiB free) · ram unknown"},
	} {
		if got := c.i.Summary(); got != c.want {
			t.Errorf("%q, want %q", got, c.want)
		}
	}
}

func FuzzParseSize(f *testing.F) {
	for _, s := range []string{"24GiB", "48GB", "64G", "1.5 TiB", "1e9G", "."} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		n, err := ParseSize(text)
		if err != nil {
			if !errors.Is(err, ErrSize) {
				t.Fatal(err)
			}
			return
		}
		if n > maxSize {
			t.Fatalf("%q: %d", text, n)
		}
		again, err := ParseSize(FormatSize(n))
		if err != nil || math.Abs(float64(again)-float64(n)) > 0.06*float64(n) {
			t.Fatalf("%q: %d is written as %q and read as %d, %v", text, n, FormatSize(n), again, err)
		}
	})
}

func FuzzClean(f *testing.F) {
	f.Add("NVIDIA\x1b[31m \n RTX")
	f.Add(strings.Repeat("é", 100))
	f.Fuzz(func(t *testing.T, s string) {
		c := clean(s)
		if len(c) > 160 || !utf8.ValidString(c) || c != clean(c) || strings.ContainsAny(c, "\n\r\x1b") {
			t.Fatalf("%q", c)
		}
	})
}
