package hardware

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Summary is the machine in one line for people:
//
//	NVIDIA RTX 4090 · 24.0 GiB (22.6 free) · ram 64 GiB
//	2 × NVIDIA RTX 3090 · 48.0 GiB (46.9 free) · ram 126 GiB
//	Apple M2 Max · 48.0 GiB unified (40.1 free) · ram 64 GiB
//	AMD Ryzen 7 5700G (16 cores) · ram 31 GiB
//
// Control characters are removed: an Inventory may come from another node.
func (i Inventory) Summary() string {
	parts := []string{i.device()}
	if len(i.used()) > 0 || (i.VRAM.Known() && i.VRAM.N > 0) {
		parts = append(parts, i.memory())
	}
	ram := "ram unknown"
	if i.RAM.Known() {
		ram = "ram " + whole(i.RAM.N)
	}
	return strings.Join(append(parts, ram), " · ")
}

// device names what models run on.
func (i Inventory) device() string {
	var names []string
	count := map[string]int{}
	for _, g := range i.used() {
		n := shortName(g)
		if count[n] == 0 {
			names = append(names, n)
		}
		count[n]++
	}
	for k, n := range names {
		if count[n] > 1 {
			names[k] = fmt.Sprintf("%d × %s", count[n], n)
		}
	}
	if len(names) > 0 {
		return strings.Join(names, " + ")
	}
	if i.VRAM.Known() && i.VRAM.N > 0 {
		return "GPU"
	}
	cpu := clean(i.CPU)
	if cpu == "" {
		cpu = "CPU only"
	}
	if i.Cores > 0 {
		cpu = fmt.Sprintf("%s (%d cores)", cpu, i.Cores)
	}
	return cpu
}

// memory says how much of it models may use.
func (i Inventory) memory() string {
	if !i.VRAM.Known() {
		return "vram unknown"
	}
	s := FormatSize(i.VRAM.N)
	if i.Unified {
		s += " unified"
	}
	if i.VRAMFree.Known() {
		s += " (" + strings.TrimSuffix(FormatSize(i.VRAMFree.N), unitOf(i.VRAM.N)) + " free)"
	}
	return s
}

// unitOf is the unit with which FormatSize writes n, with the space before it,
// so that it need not be said twice: "24.0 GiB (22.6 free)".
func unitOf(n uint64) string {
	s := FormatSize(n)
	return s[strings.IndexByte(s, ' '):]
}

// whole rounds to GiB, the way memory is sold: "64 GiB".
func whole(n uint64) string {
	if n < 10*gib {
		return FormatSize(n)
	}
	return fmt.Sprintf("%d GiB", add(n, gib/2)/gib)
}

// shortName drops the words that carry nothing in one line of text.
func shortName(g GPU) string {
	name := clean(g.Name)
	if name == "" {
		if g.Vendor == "" {
			return "GPU"
		}
		return strings.ToUpper(clean(string(g.Vendor))) + " GPU"
	}
	for _, word := range []string{"GeForce ", " Graphics", "(R)", "(TM)"} {
		name = strings.ReplaceAll(name, word, "")
	}
	return strings.TrimSpace(strings.TrimSuffix(name, " GPU"))
}

// clean makes text from outside safe for one line of a terminal or a log: no
// control characters, single spaces, at most 160 bytes of valid UTF-8.
func clean(s string) string {
	s = strings.Map(func(r rune) rune {
		switch {
		case r == utf8.RuneError:
			return -1
		case unicode.IsSpace(r):
			return ' '
		case !unicode.IsPrint(r):
			return -1
		}
		return r
	}, s)
	s = strings.Join(strings.Fields(s), " ")
	if len(s) > 160 {
		cut := 160
		for cut > 0 && !utf8.RuneStart(s[cut]) {
			cut--
		}
		s = strings.TrimSpace(s[:cut])
	}
	return s
}
