package hardware

import (
	"reflect"
	"testing"
)

func TestParseMeminfo(t *testing.T) {
	for _, c := range []struct {
		name, text  string
		total, free Bytes
	}{
		{"usual", "MemTotal:       16 kB\nMemFree: 1 kB\nMemAvailable:   8 kB\n", detected(16 * kib), detected(8 * kib)},
		{"old kernel: MemFree is no substitute", "MemTotal: 16 kB\nMemFree: 8 kB\n", detected(16 * kib), Bytes{}},
		{"other unit", "MemTotal: 16 MB\n", Bytes{}, Bytes{}},
		{"zero", "MemTotal: 0 kB\n", Bytes{}, Bytes{}},
		{"absurd", "MemTotal: 99999999999999999 kB\nMemAvailable: -1 kB", Bytes{}, Bytes{}},
		{"empty", "", Bytes{}, Bytes{}},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := parseMeminfo(c.text)
			if m.total != c.total || m.free != c.free {
				t.Errorf("%+v", m)
			}
		})
	}
}

func TestCPUInfo(t *testing.T) {
	for _, c := range []struct {
		name, text, cpu string
		logical         int
	}{
		{"intel", "processor\t: 0\nmodel name\t: Intel(R) Core(TM) i7-9700K CPU @ 3.60GHz\n\nprocessor\t: 1\nmodel name\t: Intel(R) Core(TM) i7-9700K CPU @ 3.60GHz\n", "Intel Core i7-9700K", 2},
		{"raspberry pi", "processor\t: 0\nBogoMIPS\t: 108.00\n\nprocessor\t: 1\n\nModel\t\t: Raspberry Pi 5 Model B Rev 1.0\n", "Raspberry Pi 5 Model B Rev 1.0", 2},
		{"nothing", "", "", 0},
	} {
		if cpu, n := cpuInfo(c.text); cpu != c.cpu || n != c.logical {
			t.Errorf("%s: %q, %d", c.name, cpu, n)
		}
	}
}

func TestParseCgroup(t *testing.T) {
	for _, c := range []struct {
		text string
		want member
	}{
		{"0::/system.slice/ollama.service\n", member{"/system.slice/ollama.service", "/", "/"}},
		{"4:memory:/docker/a\n2:cpu,cpuacct:/docker/b\n0::/\n", member{"/", "/docker/a", "/docker/b"}},
		{"0::/../../etc\n", member{"/etc", "/", "/"}},
		{"1:name=systemd:/x\n3:cpuset:/y\nrubbish\n", member{"/", "/", "/"}},
		{"0::/with:colon\n", member{"/with:colon", "/", "/"}},
	} {
		if got := parseCgroup(c.text); got != c.want {
			t.Errorf("%q: %+v", c.text, got)
		}
	}
}

// TestTightestLevel: any level may hold the limit, and another one the least
// that is free.
func TestTightestLevel(t *testing.T) {
	s := systemOf(t, `
-- proc/7/comm --
ollama
-- proc/7/cgroup --
0::/kubepods/pod1/app
-- sys/fs/cgroup/kubepods/pod1/app/memory.max --
max
-- sys/fs/cgroup/kubepods/pod1/memory.max --
17179869184
-- sys/fs/cgroup/kubepods/pod1/memory.current --
1073741824
-- sys/fs/cgroup/kubepods/memory.max --
34359738368
-- sys/fs/cgroup/kubepods/memory.current --
32212254720
-- sys/fs/cgroup/kubepods/cpu.max --
max 100000
-- sys/fs/cgroup/kubepods/pod1/app/cpu.max --
350000 100000
`)
	got := s.cgroup(false)
	want := limits{max: detected(16 * gib), free: detected(2 * gib), where: "/kubepods/pod1", cpus: 4}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%+v", got)
	}
}

// TestNoLimitInV1 is a number near 2^63, not absence.
func TestNoLimitInV1(t *testing.T) {
	s := systemOf(t, `
-- sys/fs/cgroup/memory/memory.limit_in_bytes --
9223372036854771712
-- sys/fs/cgroup/memory/memory.usage_in_bytes --
1
-- sys/fs/cgroup/cpu/cpu.cfs_quota_us --
-1
-- sys/fs/cgroup/cpu/cpu.cfs_period_us --
100000
`)
	if got := s.cgroup(true); !reflect.DeepEqual(got, limits{}) {
		t.Errorf("%+v", got)
	}
}

func TestContainer(t *testing.T) {
	for name, text := range map[string]string{
		"docker":     "-- .dockerenv --\n\n",
		"podman":     "-- run/.containerenv --\n\n",
		"nspawn":     "-- run/systemd/container --\nlxc\n",
		"kubernetes": "-- proc/1/cgroup --\n1:name=systemd:/kubepods/besteffort/podx/y\n",
	} {
		if !systemOf(t, text).container() {
			t.Errorf("%s is not seen", name)
		}
	}
	if systemOf(t, "-- proc/1/cgroup --\n0::/init.scope\n").container() {
		t.Error("a host is taken for a container")
	}
	s := systemOf(t, "")
	s.Getenv = func(key string) string { return map[string]string{"container": "lxc"}[key] }
	if !s.container() {
		t.Error("lxc is not seen")
	}
}

func TestWSLKernel(t *testing.T) {
	for release, want := range map[string]bool{"5.15.153.1-microsoft-standard-WSL2": true, "4.4.0-19041-Microsoft": true, "6.8.0-45-generic": false, "": false} {
		if isWSL(release) != want {
			t.Errorf("%q", release)
		}
	}
}

func TestEnvironment(t *testing.T) {
	for value, want := range map[string]bool{"": false, "0": false, "false": false, "1": true, "true": true, "yes": true, " 1 ": true} {
		s := System{Getenv: func(string) string { return value }}
		if s.integratedEnabled() != want {
			t.Errorf("OLLAMA_IGPU_ENABLE=%q", value)
		}
	}
	for value, want := range map[string]uint64{"": 0, "536870912": 512 * mib, "lots": 0, "-1": 0} {
		s := System{Getenv: func(string) string { return value }}
		if got := s.gpuOverhead(); got != want {
			t.Errorf("OLLAMA_GPU_OVERHEAD=%q: %d", value, got)
		}
	}
}

func TestListSortsByNumber(t *testing.T) {
	s := systemOf(t, "-- d/card10 --\n-- d/card2 --\n-- d/card0 --\n")
	if got := s.list("/d"); !reflect.DeepEqual(got, []string{"card0", "card2", "card10"}) {
		t.Errorf("%q", got)
	}
}

func FuzzMemoryText(f *testing.F) {
	f.Add("MemTotal: 16 kB\nMemAvailable: 8 kB\n")
	f.Add("4:memory:/docker/a\n2:cpu,cpuacct:/docker/b\n0::/../x\n")
	f.Add("total_inactive_file 18446744073709551615\ntotal_active_file 7\n")
	f.Add("processor : 0\nmodel name : x @ y\n")
	f.Fuzz(func(t *testing.T, text string) {
		if m := parseMeminfo(text); m.total.N > maxSize || m.free.N > maxSize {
			t.Fatalf("%+v", m)
		}
		g := parseCgroup(text)
		for _, dir := range []string{g.v2, g.memory, g.cpu} {
			if dir == "" || dir[0] != '/' || (len(dir) >= 3 && dir[:3] == "/..") && (len(dir) == 3 || dir[3] == '/') {
				t.Fatalf("%q", dir)
			}
		}
		reclaimable(text, "total_")
		if name, n := cpuInfo(text); name != clean(name) || n < 0 {
			t.Fatalf("%q %d", name, n)
		}
		var l limits
		l.quota(text, "100000")
		if l.cpus < 0 || l.cpus > 1<<20 {
			t.Fatalf("%d", l.cpus)
		}
	})
}
