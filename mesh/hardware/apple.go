package hardware

import (
	"context"
	"regexp"
	"strconv"
	"strings"
)

// Absolute paths: a launchd job's PATH may lack /usr/sbin.
const (
	sysctlPath = "/usr/sbin/sysctl"
	vmstatPath = "/usr/bin/vm_stat"
)

// sysctlNames are asked in one call. macOS before 14 lacks the last and fails
// with status 1 after printing the others.
var sysctlNames = []string{
	"machdep.cpu.brand_string", "hw.memsize", "hw.logicalcpu", "hw.optional.arm64", "iogpu.wired_limit_mb",
}

// mac is what sysctl says of a Mac.
type mac struct {
	chip    string
	cores   int
	apple   bool   // Apple silicon, also under Rosetta
	memory  uint64 // bytes, 0 unknown
	limitMB uint64 // iogpu.wired_limit_mb, 0 = macOS decides
}

func (s System) mac(ctx context.Context) (mac, bool) {
	ctx, cancel := context.WithTimeout(ctx, smiTimeout)
	defer cancel()
	out, _ := s.run(ctx, sysctlPath, sysctlNames...)
	m := parseSysctl(string(out))
	return m, m.chip != "" || m.memory > 0
}

// parseSysctl reads "name: value" lines.
func parseSysctl(text string) mac {
	var m mac
	for line := range strings.Lines(text) {
		key, value, ok := strings.Cut(line, ":")
		if !ok {
			continue
		}
		value = clean(value)
		n, err := strconv.ParseUint(value, 10, 63)
		number := err == nil && n <= maxSize
		switch strings.TrimSpace(key) {
		case "machdep.cpu.brand_string":
			m.chip = cpuName(value)
		case "hw.memsize":
			if number {
				m.memory = n
			}
		case "hw.logicalcpu":
			if number && n < 1<<16 {
				m.cores = int(n)
			}
		case "hw.optional.arm64":
			m.apple = m.apple || value == "1"
		case "iogpu.wired_limit_mb":
			if number && n <= maxSize/mib {
				m.limitMB = n
			}
		}
	}
	m.apple = m.apple || strings.HasPrefix(m.chip, "Apple ")
	return m
}

// gpu is a Mac's GPU, its memory the part of RAM that Metal may wire.
//
// Without an explicit limit macOS grants two thirds of RAM up to 36 GiB and
// three quarters above, as people read it off recommendedMaxWorkingSetSize,
// which only Metal can tell; newer systems grant slightly more.
func (m mac) gpu() (g GPU, ok bool, note string) {
	if !m.apple {
		return GPU{}, false, "Ollama uses the CPU on Macs with Intel processors."
	}
	g = GPU{Vendor: Apple, Name: m.chip, Integrated: true, Source: Detected}
	if g.Name == "" {
		g.Name = "Apple silicon"
	}
	switch {
	case m.memory == 0:
		note = "GPU memory is unknown: hw.memsize cannot be read."
	case m.limitMB > 0:
		g.VRAM = detected(min(m.limitMB*mib, m.memory))
	default:
		share := m.memory / 3 * 2
		if m.memory > 36*gib {
			share = m.memory / 4 * 3
		}
		g.VRAM = detected(share)
		note = "The GPU's share of memory is macOS's default for this size (iogpu.wired_limit_mb is not set)."
	}
	return g, true, note
}

func (s System) darwinRAM(ctx context.Context) memory {
	m, _ := s.mac(ctx)
	if m.memory == 0 {
		return memory{notes: []string{"RAM is unknown: hw.memsize cannot be read."}}
	}
	r := memory{total: detected(m.memory)}
	ctx, cancel := context.WithTimeout(ctx, smiTimeout)
	defer cancel()
	out, _ := s.run(ctx, vmstatPath)
	if free, ok := parseVMStat(string(out)); ok {
		r.free = detected(min(free, m.memory))
	} else {
		r.notes = append(r.notes, "Free RAM is unknown: vm_stat cannot be read.")
	}
	return r
}

var pageSize = regexp.MustCompile(`page size of (\d+) bytes`)

// parseVMStat sums the pages that macOS can hand out without swapping: free,
// speculative (read-ahead, counted apart from free) and inactive.
func parseVMStat(text string) (free uint64, ok bool) {
	head := pageSize.FindStringSubmatch(text)
	if head == nil {
		return 0, false
	}
	size, err := strconv.ParseUint(head[1], 10, 32)
	if err != nil || size == 0 {
		return 0, false
	}
	var pages uint64
	for line := range strings.Lines(text) {
		key, value, _ := strings.Cut(line, ":")
		switch strings.TrimSpace(key) {
		case "Pages free", "Pages speculative", "Pages inactive":
			n, err := strconv.ParseUint(strings.TrimSuffix(strings.TrimSpace(value), "."), 10, 64)
			if err != nil {
				return 0, false
			}
			pages, ok = add(pages, n), true
		}
	}
	return scale(pages, size), ok
}
