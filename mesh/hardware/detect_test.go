package hardware

import (
	"encoding/json"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

// TestDetect runs every fixture through the whole of Detect and compares what a
// user would notice.
func TestDetect(t *testing.T) {
	for _, c := range []struct {
		fixture        string
		kind, role     string
		cpu            string
		cores          int
		vram, free     uint64 // 0 = must be unknown
		ram, ramFree   uint64
		unified        bool
		pool           uint64
		wsl, container bool
		summary        string
		gpus, unused   int
		arch, driver   string   // of the first GPU that counts
		notes          []string // one for each note, in part
		capable72B     bool
		class72B       Class
	}{
		{
			fixture: "rtx4090", kind: "nvidia", role: "gpu", cpu: "AMD Ryzen 9 7950X 16-Core", cores: 32,
			vram: 24564 * mib, free: 23142 * mib, ram: 65558268 * kib, ramFree: 58211408 * kib,
			summary: "NVIDIA RTX 4090 · 24.0 GiB (22.6 free) · ram 63 GiB",
			gpus:    2, unused: 1, arch: "8.9", driver: "560.35.03",
			notes:      []string{"AMD Radeon 610M is integrated and not counted beside a discrete GPU."},
			capable72B: true, class72B: Partial,
		},
		{
			fixture: "two_gpus", kind: "nvidia", role: "gpu", cpu: "AMD Ryzen Threadripper 2950X 16-Core", cores: 32,
			vram: 2 * 24576 * mib, free: (24241 + 2113) * mib, ram: 131842368 * kib, ramFree: 121004412 * kib,
			summary: "NVIDIA RTX 3090 + NVIDIA RTX 3090, OEM · 48.0 GiB (25.7 free) · ram 126 GiB",
			gpus:    2, arch: "8.6", driver: "550.90.07",
			notes:      []string{"nvidia-smi printed 1 lines that could not be read."},
			capable72B: true, class72B: Partial, // 47.1 GiB less 2 GiB margin is short of 45.4
		},
		{
			fixture: "gb10", kind: "nvidia", role: "gpu", cpu: "", cores: 20,
			vram: 127600748 * kib, free: 120394112 * kib, ram: 127600748 * kib, ramFree: 120394112 * kib,
			unified: true, pool: 127600748 * kib,
			summary: "NVIDIA GB10 · 121.7 GiB unified (114.8 free) · ram 122 GiB",
			gpus:    1, arch: "12.1", driver: "580.126.09",
			capable72B: true, class72B: Full,
		},
		{
			fixture: "mig", kind: "nvidia", role: "gpu", cpu: "AMD EPYC 7742 64-Core", cores: 64,
			vram: 20 * gb, ram: 1056490748 * kib, ramFree: 1003321092 * kib,
			summary: "NVIDIA A100-SXM4-40GB MIG 3g.20gb · 18.6 GiB · ram 1008 GiB",
			gpus:    3, unused: 2, arch: "8.0", driver: "535.154.05",
			notes:      []string{"only the first of 3 is counted", "Free memory of NVIDIA A100-SXM4-40GB MIG 3g.20gb cannot be read"},
			capable72B: true, class72B: Partial,
		},
		{
			fixture: "driver_reload", kind: "nvidia", role: "gpu", cpu: "Intel Core i7-9700K", cores: 8,
			ram: 32781092 * kib, ramFree: 28110336 * kib,
			summary: "NVIDIA RTX 2080 Ti · vram unknown · ram 31 GiB",
			gpus:    1,
			notes:   []string{"nvidia-smi failed: Failed to initialize NVML: Driver/library version mismatch", "Memory of NVIDIA GeForce RTX 2080 Ti is unknown; give it with --vram."},
		},
		{
			fixture: "wsl", kind: "nvidia", role: "gpu", cpu: "12th Gen Intel Core i7-12700H", cores: 20, wsl: true,
			vram: 8192 * mib, free: 7001 * mib, ram: 16282304 * kib, ramFree: 14901120 * kib,
			summary: "NVIDIA RTX 3070 Laptop · 8.0 GiB (6.8 free) · ram 16 GiB",
			gpus:    1, driver: "466.77", notes: []string{"This is WSL"},
		},
		{
			fixture: "jetson_orin", kind: "nvidia", role: "gpu", cpu: "NVIDIA Jetson AGX Orin Developer Kit", cores: 12,
			vram: 64349284 * kib, free: 60132880 * kib, ram: 64349284 * kib, ramFree: 60132880 * kib,
			unified: true, pool: 64349284 * kib,
			summary: "NVIDIA Jetson AGX Orin Developer Kit · 61.4 GiB unified (57.3 free) · ram 61 GiB",
			gpus:    1, arch: "8.7", driver: "L4T R36.4.3",
			capable72B: true, class72B: Tight,
		},
		{
			fixture: "rx7900xtx", kind: "amd", role: "gpu", cpu: "13th Gen Intel Core i7-13700K", cores: 24,
			vram: 25753026560, free: 25753026560 - 1219674112, ram: 65670032 * kib, ramFree: 60988744 * kib,
			summary: "AMD Radeon RX 7900 XTX · 24.0 GiB (22.8 free) · ram 63 GiB",
			gpus:    2, unused: 1, arch: "gfx1100", driver: "amdgpu",
			notes:      []string{"Intel UHD Graphics 770 is integrated and not counted beside a discrete GPU."},
			capable72B: true, class72B: Partial,
		},
		{
			fixture: "strix_512m", kind: "amd", role: "gpu", cpu: "AMD RYZEN AI MAX+ 395 w/ Radeon 8060S", cores: 32,
			vram: 60*gib + 512*mib, free: 60*gib + 512*mib - 189440000 - 412876800,
			ram: 131030016 * kib, ramFree: 124318720 * kib,
			unified: true, pool: 131030016*kib + 512*mib,
			summary: "AMD Radeon 8060S · 60.5 GiB unified (59.9 free) · ram 125 GiB",
			gpus:    1, arch: "gfx1151", driver: "amdgpu",
			capable72B: true, class72B: Full, // 45.4 of 0.8 x 60.05
		},
		{
			fixture: "strix_96g", kind: "amd", role: "gpu", cpu: "AMD RYZEN AI MAX+ 395 w/ Radeon 8060S", cores: 32,
			vram: 112 * gib, free: 111*gib - 52428800, // GTT's free part is less than what RAM has left
			ram: 31877120 * kib, ramFree: 27262976 * kib,
			unified: true, pool: 31877120*kib + 96*gib,
			summary: "AMD Radeon 8060S · 112.0 GiB unified (111.0 free) · ram 30 GiB",
			gpus:    1, arch: "gfx1151", driver: "amdgpu",
			capable72B: true, class72B: Full,
		},
		{
			fixture: "arc_a770", kind: "intel", role: "gpu", cpu: "AMD Ryzen 5 5600X 6-Core", cores: 12,
			vram: 16 * gib, ram: 32772252 * kib, ramFree: 29880316 * kib,
			summary: "Intel Arc A770 · 16.0 GiB · ram 31 GiB",
			gpus:    1, driver: "i915",
			notes: []string{"Free memory of Intel Arc A770 cannot be read"},
		},
		{
			fixture: "intel_igpu", kind: "cpu", role: "cpu", cpu: "11th Gen Intel Core i7-1165G7", cores: 8,
			ram: 16131108 * kib, ramFree: 11902244 * kib,
			summary: "11th Gen Intel Core i7-1165G7 (8 cores) · ram 15 GiB",
			gpus:    1, unused: 1, driver: "i915",
			notes: []string{"OLLAMA_IGPU_ENABLE=1"},
		},
		{
			fixture: "m2max", kind: "apple", role: "gpu", cpu: "Apple M2 Max", cores: 12,
			vram: 48 * gib, free: (1901233 + 790110 + 15022) * 16384, ram: 64 * gib, ramFree: (1901233 + 790110 + 15022) * 16384,
			unified: true, pool: 64 * gib,
			summary: "Apple M2 Max · 48.0 GiB unified (41.3 free) · ram 64 GiB",
			gpus:    1, notes: []string{"macOS's default"},
			capable72B: true, class72B: Tight,
		},
		{
			fixture: "m2max_limit", kind: "apple", role: "gpu", cpu: "Apple M2 Max", cores: 12,
			vram: 56 * gib, free: (1901233 + 790110 + 15022) * 16384, ram: 64 * gib, ramFree: (1901233 + 790110 + 15022) * 16384,
			unified: true, pool: 64 * gib,
			summary: "Apple M2 Max · 56.0 GiB unified (41.3 free) · ram 64 GiB",
			gpus:    1, capable72B: true, class72B: Tight,
		},
		{
			fixture: "m1_old", kind: "apple", role: "gpu", cpu: "Apple M1", cores: 8,
			vram: 17179869184 / 3 * 2, free: (101233 + 290110 + 15022) * 16384, ram: 16 * gib, ramFree: (101233 + 290110 + 15022) * 16384,
			unified: true, pool: 16 * gib,
			summary: "Apple M1 · 10.7 GiB unified (6.2 free) · ram 16 GiB",
			gpus:    1, notes: []string{"macOS's default"},
		},
		{
			fixture: "container", kind: "cpu", role: "cpu", cpu: "Intel Xeon Gold 6338", cores: 2, container: true,
			ram: 8 * gib, ramFree: 8*gib - (3*gib - 1610612736 - 536870912),
			summary: "Intel Xeon Gold 6338 (2 cores) · ram 8.0 GiB",
			notes:   []string{"RAM is limited to 8.0 GiB by the cgroup /."},
		},
		{
			fixture: "container_v1", kind: "cpu", role: "cpu", cpu: "Intel Xeon E5-2680 v4", cores: 2, container: true,
			ram: 4 * gib, ramFree: 4*gib - (2*gib - 768*mib),
			summary: "Intel Xeon E5-2680 v4 (2 cores) · ram 4.0 GiB",
			notes:   []string{"RAM is limited to 4.0 GiB by the cgroup /."},
		},
		{
			fixture: "ollama_limited", kind: "cpu", role: "cpu", cpu: "AMD Ryzen 7 5700G with Radeon Graphics", cores: 16,
			ram: 20 * gib, ramFree: 19 * gib,
			summary: "AMD Ryzen 7 5700G with Radeon Graphics (16 cores) · ram 20 GiB",
			notes:   []string{"RAM is limited to 20.0 GiB by the cgroup /system.slice/ollama.service."},
		},
		{
			fixture: "cpu", kind: "cpu", role: "cpu", cpu: "Intel Core i5-8500", cores: 6,
			ram: 30 * gib, ramFree: 28311552 * kib,
			summary: "Intel Core i5-8500 (6 cores) · ram 30 GiB",
		},
	} {
		t.Run(c.fixture, func(t *testing.T) {
			s := fixture(t, c.fixture)
			i := Detect(t.Context(), s)
			check := func(what string, got, want any) {
				t.Helper()
				if !reflect.DeepEqual(got, want) {
					t.Errorf("%s = %v, want %v", what, got, want)
				}
			}
			check("kind", i.GPUKind(), c.kind)
			check("role", i.Role, c.role)
			check("role source", i.RoleSource, Detected)
			check("cpu", i.CPU, c.cpu)
			check("cores", i.Cores, c.cores)
			check("vram", i.VRAM, bytesOf(c.vram))
			check("vram free", i.VRAMFree, bytesOf(c.free))
			check("ram", i.RAM, bytesOf(c.ram))
			check("ram free", i.RAMFree, bytesOf(c.ramFree))
			check("unified", i.Unified, c.unified)
			check("pool", i.Pool, bytesOf(c.pool))
			check("wsl", i.WSL, c.wsl)
			check("container", i.Container, c.container)
			check("summary", i.Summary(), c.summary)
			check("gpus", len(i.GPUs), c.gpus)
			check("unused", len(i.GPUs)-len(i.used()), c.unused)
			if c.gpus > 0 && c.unused < c.gpus {
				check("arch", i.used()[0].Arch, c.arch)
				check("driver", i.used()[0].Driver, c.driver)
			}
			check("notes", len(i.Notes), len(c.notes))
			for _, n := range c.notes {
				if !strings.Contains(strings.Join(i.Notes, "\n"), n) {
					t.Errorf("no note says %q in:\n%s", n, strings.Join(i.Notes, "\n"))
				}
			}
			check("capable 72b", i.Capable72B(), c.capable72B)
			class, _ := i.CouldRun(Reference72B())
			check("class of 72b", class, c.class72B)
			if t.Failed() {
				text, _ := json.MarshalIndent(i, "", "  ")
				t.Logf("%s", text)
			}

			again := Refresh(t.Context(), s, i)
			check("refreshed", again, i)
		})
	}
}

func bytesOf(n uint64) Bytes {
	if n == 0 {
		return Bytes{}
	}
	return detected(n)
}

// TestEveryFixtureIsExpected fails when a fixture is added and forgotten.
func TestEveryFixtureIsExpected(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no fixtures: %v", err)
	}
	for _, f := range files {
		name := strings.TrimSuffix(filepath.Base(f), ".txt")
		i := Detect(t.Context(), fixture(t, name))
		if i.OS == "" || !i.RAM.Known() {
			t.Errorf("%s: nothing was read", name)
		}
		text, err := json.Marshal(i)
		if err != nil {
			t.Fatal(err)
		}
		var back Inventory
		if err := json.Unmarshal(text, &back); err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(back, i) {
			t.Errorf("%s: JSON does not round trip:\n%+v\n%+v", name, i, back)
		}
	}
}

func TestUnknownIsLeftOutOfJSON(t *testing.T) {
	text, err := json.Marshal(Inventory{OS: "linux", GPUs: []GPU{{Vendor: NVIDIA, Source: Detected}}})
	if err != nil {
		t.Fatal(err)
	}
	want := `{"os":"linux","arch":"","gpus":[{"vendor":"nvidia","source":"detected"}],"role":""}`
	if string(text) != want {
		t.Errorf("got  %s\nwant %s", text, want)
	}
}

// TestDetectHere is a smoke test on whatever machine runs the tests.
func TestDetectHere(t *testing.T) {
	s := NewSystem()
	i := Detect(t.Context(), s)
	t.Logf("%s", i.Summary())
	for _, n := range i.Notes {
		t.Logf("note: %s", n)
	}
	if i.OS != s.GOOS || i.Cores < 1 {
		t.Errorf("os %q, cores %d", i.OS, i.Cores)
	}
	switch s.GOOS {
	case "linux", "darwin", "windows":
		if !i.RAM.Known() || i.RAM.N < 64*mib {
			t.Errorf("ram %+v", i.RAM)
		}
		if !i.RAMFree.Known() || i.RAMFree.N > i.RAM.N {
			t.Errorf("ram free %+v of %+v", i.RAMFree, i.RAM)
		}
	}
	r := Refresh(t.Context(), s, i)
	if r.RAM != i.RAM || r.RAMFree.Known() != i.RAMFree.Known() {
		t.Errorf("refresh changed ram from %+v to %+v", i.RAM, r.RAM)
	}
}

// TestDetectNothing: a System without anything in it answers with unknowns.
func TestDetectNothing(t *testing.T) {
	for _, goos := range []string{"linux", "darwin", "windows", "plan9"} {
		i := Detect(t.Context(), System{Root: t.TempDir(), GOOS: goos})
		if i.RAM.Known() || i.VRAM.Known() || i.Cores != 0 || len(i.GPUs) != 0 {
			t.Errorf("%s: invented something: %+v", goos, i)
		}
		if len(i.Notes) == 0 {
			t.Errorf("%s: unknown without a note", goos)
		}
		if i.Capable72B() {
			t.Errorf("%s: unknown, and yet capable", goos)
		}
		Refresh(t.Context(), System{Root: t.TempDir(), GOOS: goos}, i)
	}
}
