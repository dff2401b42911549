package hardware

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
)

const (
	kib = 1 << 10
	mib = 1 << 20
	gib = 1 << 30
	gb  = 1e9
)

// ErrSize is returned by [ParseSize] for text that is not an amount of memory.
var ErrSize = errors.New("hardware: not a memory size")

// maxSize bounds what a person can configure: 1 PiB, so that sums of a few
// sizes never overflow.
const maxSize = 1 << 50

// units in the order they must be tried; a bare letter is binary, as in
// Docker, systemd and the JVM, while KB, MB, GB and TB are decimal.
var units = []struct {
	suffix string
	bytes  float64
}{
	{"kib", 1 << 10},
	{"mib", 1 << 20},
	{"gib", 1 << 30},
	{"tib", 1 << 40},
	{"kb", 1e3},
	{"mb", 1e6},
	{"gb", 1e9},
	{"tb", 1e12},
	{"k", 1 << 10},
	{"m", 1 << 20},
	{"g", 1 << 30},
	{"t", 1 << 40},
	{"b", 1},
}

// ParseSize reads an amount of memory such as "24GiB", "48GB", "64G" or
// "1.5 TiB", case ignored. A unit is required: "24" would be bytes to one
// reader and gibibytes to another. Errors wrap [ErrSize].
func ParseSize(text string) (uint64, error) {
	t := strings.ToLower(strings.TrimSpace(text))
	for _, u := range units {
		number, ok := strings.CutSuffix(t, u.suffix)
		if !ok {
			continue
		}
		number = strings.TrimSpace(number)
		if number == "" || strings.Trim(number, "0123456789.") != "" {
			return 0, fmt.Errorf("%w: %q (write it like 24GiB)", ErrSize, text)
		}
		v, err := strconv.ParseFloat(number, 64)
		if err != nil || math.IsInf(v, 0) || v*u.bytes > maxSize {
			return 0, fmt.Errorf("%w: %q (write it like 24GiB)", ErrSize, text)
		}
		return uint64(math.Round(v * u.bytes)), nil
	}
	return 0, fmt.Errorf("%w: %q has no unit (write it like 24GiB)", ErrSize, text)
}

// FormatSize writes n bytes for people, in binary units with one decimal:
// "24.0 GiB", "512.0 MiB", "0 B".
func FormatSize(n uint64) string {
	v, unit := float64(n), "B"
	for _, next := range []string{"KiB", "MiB", "GiB", "TiB", "PiB", "EiB"} {
		if v < 1023.95 {
			break
		}
		v, unit = v/1024, next
	}
	if unit == "B" {
		return fmt.Sprintf("%d B", n)
	}
	return fmt.Sprintf("%.1f %s", v, unit)
}

// add, sub and scale saturate: inventories arrive over the network, and a
// wrapped sum would turn a hostile number into a small, plausible one.
func add(a, b uint64) uint64 {
	if a > math.MaxUint64-b {
		return math.MaxUint64
	}
	return a + b
}

func sub(a, b uint64) uint64 {
	if b > a {
		return 0
	}
	return a - b
}

func scale(n, by uint64) uint64 {
	if by != 0 && n > math.MaxUint64/by {
		return math.MaxUint64
	}
	return n * by
}
