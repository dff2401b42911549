package hardware

import (
	"math"
	"path"
	"strconv"
	"strings"
)

// limits is what a chain of cgroups allows.
type limits struct {
	max, free Bytes
	where     string // the cgroup with the lowest limit
	cpus      int    // quota rounded up, 0 = none
}

// cgroup returns the tightest limits that hold for Ollama, which is what
// counts, not for us: our own service may well be confined to a few hundred
// megabytes. Looked at are the root of what we see (inside a container that is
// the container's limit), the cgroups of every process named ollama, and our
// own if we are in a container, where Ollama usually is with us.
//
// Both generations are read, each from the leaf up to the root, since any
// level may hold the limit. Reclaimable page cache counts as free: a model's
// file that was read once fills it.
func (s System) cgroup(container bool) limits {
	var l limits
	for _, g := range s.cgroups(container) {
		for dir := g.v2; ; dir = path.Dir(dir) {
			s.limitV2(&l, dir)
			if dir == "/" {
				break
			}
		}
		for dir := g.memory; ; dir = path.Dir(dir) {
			s.limitV1(&l, dir)
			if dir == "/" {
				break
			}
		}
		s.quotaV1(&l, g.cpu)
	}
	return l
}

// member is where one process is in the hierarchies.
type member struct{ v2, memory, cpu string }

func (s System) cgroups(container bool) []member {
	groups := []member{{"/", "/", "/"}}
	if container {
		if text, ok := s.read("/proc/self/cgroup"); ok {
			groups = append(groups, parseCgroup(text))
		}
	}
	for _, pid := range s.list("/proc") {
		if strings.Trim(pid, "0123456789") != "" {
			continue
		}
		if comm, ok := s.read("/proc/" + pid + "/comm"); !ok || comm != "ollama" {
			continue
		}
		if text, ok := s.read("/proc/" + pid + "/cgroup"); ok {
			groups = append(groups, parseCgroup(text))
		}
	}
	return groups
}

// parseCgroup reads /proc/PID/cgroup. Paths are made absolute and free of ".."
// (a process outside our namespace shows them).
func parseCgroup(text string) member {
	m := member{"/", "/", "/"}
	for line := range strings.Lines(text) {
		parts := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(parts) != 3 {
			continue
		}
		dir := path.Clean("/" + parts[2])
		if parts[0] == "0" && parts[1] == "" {
			m.v2 = dir
		}
		for controller := range strings.SplitSeq(parts[1], ",") {
			switch controller {
			case "memory":
				m.memory = dir
			case "cpu":
				m.cpu = dir
			}
		}
	}
	return m
}

func (s System) limitV2(l *limits, dir string) {
	base := path.Join("/sys/fs/cgroup", dir)
	if limit, ok := s.readUint(base + "/memory.max"); ok { // "max" is no number
		used, known := s.readUint(base + "/memory.current")
		stat, _ := s.read(base + "/memory.stat")
		l.lower(dir, limit, sub(used, reclaimable(stat, "")), known)
	}
	text, _ := s.read(base + "/cpu.max")
	if quota, period, ok := strings.Cut(text, " "); ok {
		l.quota(quota, period)
	}
}

func (s System) limitV1(l *limits, dir string) {
	base := path.Join("/sys/fs/cgroup/memory", dir)
	if limit, ok := s.readUint(base + "/memory.limit_in_bytes"); ok {
		used, known := s.readUint(base + "/memory.usage_in_bytes")
		stat, _ := s.read(base + "/memory.stat")
		l.lower(dir, limit, sub(used, reclaimable(stat, "total_")), known)
	}
}

func (s System) quotaV1(l *limits, dir string) {
	for _, d := range []string{dir, "/"} {
		base := path.Join("/sys/fs/cgroup/cpu", d)
		quota, _ := s.read(base + "/cpu.cfs_quota_us")
		period, _ := s.read(base + "/cpu.cfs_period_us")
		l.quota(quota, period)
	}
}

// lower takes one level's limit in. Values near 2^63 mean "none" in v1.
func (l *limits) lower(dir string, limit, used uint64, known bool) {
	if limit == 0 || limit > maxSize {
		return
	}
	if !l.max.Known() || limit < l.max.N {
		l.max, l.where = detected(limit), dir
	}
	if free := sub(limit, used); known && (!l.free.Known() || free < l.free.N) {
		l.free = detected(free)
	}
}

func (l *limits) quota(quota, period string) {
	q, err := strconv.ParseFloat(quota, 64)
	p, err2 := strconv.ParseFloat(period, 64)
	if err != nil || err2 != nil || !(q > 0 && p > 0) {
		return
	}
	cpus := math.Ceil(q / p)
	if cpus >= 1 && cpus < 1<<20 && (l.cpus == 0 || int(cpus) < l.cpus) {
		l.cpus = int(cpus)
	}
}

// reclaimable adds the file-backed pages of a memory.stat, whose keys carry
// prefix in v1 for the sum over children.
func reclaimable(stat, prefix string) uint64 {
	var n uint64
	for line := range strings.Lines(stat) {
		fields := strings.Fields(line)
		if len(fields) != 2 {
			continue
		}
		switch fields[0] {
		case prefix + "inactive_file", prefix + "active_file":
			v, err := strconv.ParseUint(fields[1], 10, 64)
			if err == nil {
				n = add(n, v)
			}
		}
	}
	return n
}
