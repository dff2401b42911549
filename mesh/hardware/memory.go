package hardware

import (
	"context"
	"strconv"
	"strings"
)

// memory is the machine's RAM as models may use it.
type memory struct {
	total, free Bytes
	notes       []string
}

// ram reads RAM in the operating system's own way. On Linux the cgroup limit
// counts, on the others there is none.
func (s System) ram(ctx context.Context, container bool) memory {
	switch s.GOOS {
	case "linux":
		return s.linuxRAM(container)
	case "darwin":
		return s.darwinRAM(ctx)
	case "windows":
		if s.Memory == nil {
			break
		}
		total, free, err := s.Memory()
		if err != nil {
			return memory{notes: []string{"RAM could not be read: " + err.Error() + "."}}
		}
		return memory{total: detected(total), free: detected(min(free, total))}
	}
	return memory{notes: []string{"RAM cannot be read on " + s.GOOS + "; give it with --ram."}}
}

func (s System) linuxRAM(container bool) memory {
	text, ok := s.read("/proc/meminfo")
	if !ok {
		return memory{notes: []string{"RAM is unknown: /proc/meminfo cannot be read."}}
	}
	m := parseMeminfo(text)
	if !m.total.Known() {
		m.notes = append(m.notes, "RAM is unknown: /proc/meminfo has no MemTotal.")
	} else if !m.free.Known() {
		m.notes = append(m.notes, "Free RAM is unknown: /proc/meminfo has no MemAvailable.")
	}
	limit := s.cgroup(container)
	if limit.max.Known() && (!m.total.Known() || limit.max.N < m.total.N) {
		m.total = limit.max
		m.notes = append(m.notes, "RAM is limited to "+FormatSize(limit.max.N)+" by the cgroup "+limit.where+".")
	}
	if limit.free.Known() && (!m.free.Known() || limit.free.N < m.free.N) {
		m.free = limit.free
	}
	if m.total.Known() && m.free.Known() {
		m.free.N = min(m.free.N, m.total.N)
	}
	return m
}

// parseMeminfo reads MemTotal and MemAvailable from /proc/meminfo. MemFree is
// of no use: the page cache, which a model's own file fills, counts as used
// there.
func parseMeminfo(text string) memory {
	var m memory
	for line := range strings.Lines(text) {
		key, rest, ok := strings.Cut(line, ":")
		if !ok {
			continue
		}
		fields := strings.Fields(rest)
		if len(fields) == 0 || (len(fields) > 1 && fields[1] != "kB") {
			continue
		}
		n, err := strconv.ParseUint(fields[0], 10, 64)
		if err != nil || n > maxSize/kib {
			continue
		}
		switch strings.TrimSpace(key) {
		case "MemTotal":
			m.total = detected(n * kib)
		case "MemAvailable":
			m.free = detected(n * kib)
		}
	}
	if m.total.Known() && m.total.N == 0 {
		m.total = Bytes{}
	}
	return m
}

// cpuInfo reads the processor's name and the number of logical processors from
// /proc/cpuinfo. Arm kernels give no name there.
func cpuInfo(text string) (name string, logical int) {
	for line := range strings.Lines(text) {
		key, value, ok := strings.Cut(line, ":")
		if !ok {
			continue
		}
		switch strings.TrimSpace(key) {
		case "processor":
			logical++
		case "model name", "Model", "cpu model":
			if name == "" {
				name = clean(value)
			}
		}
	}
	return cpuName(name), logical
}

// cpuName drops the words that vendors add to every processor's name.
func cpuName(name string) string {
	for _, word := range []string{"(R)", "(TM)", "(r)", "(tm)", " CPU", " Processor"} {
		name = strings.ReplaceAll(name, word, "")
	}
	name, _, _ = strings.Cut(name, " @ ")
	return clean(name)
}
