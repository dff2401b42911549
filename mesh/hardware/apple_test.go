package hardware

import "testing"

func TestMacGPU(t *testing.T) {
	for _, c := range []struct {
		name, text string
		ok         bool
		vram       Bytes
	}{
		{"16 GB", "machdep.cpu.brand_string: Apple M4\nhw.memsize: 17179869184\n", true, detected(17179869184 / 3 * 2)},
		{"36 GB is the last with two thirds", "machdep.cpu.brand_string: Apple M3 Max\nhw.memsize: 38654705664\n", true, detected(24 * gib)},
		{"64 GB", "machdep.cpu.brand_string: Apple M2 Max\nhw.memsize: 68719476736\niogpu.wired_limit_mb: 0\n", true, detected(48 * gib)},
		{"limit", "machdep.cpu.brand_string: Apple M2 Max\nhw.memsize: 68719476736\niogpu.wired_limit_mb: 61440\n", true, detected(60 * gib)},
		{"limit above memory", "machdep.cpu.brand_string: Apple M2 Max\nhw.memsize: 68719476736\niogpu.wired_limit_mb: 999999\n", true, detected(64 * gib)},
		{"Rosetta", "machdep.cpu.brand_string: VirtualApple @ 2.50GHz\nhw.memsize: 17179869184\nhw.optional.arm64: 1\n", true, detected(17179869184 / 3 * 2)},
		{"Intel", "machdep.cpu.brand_string: Intel(R) Core(TM) i9-9880H CPU @ 2.30GHz\nhw.memsize: 34359738368\nhw.optional.arm64: 0\n", false, Bytes{}},
		{"no memory", "machdep.cpu.brand_string: Apple M2\n", true, Bytes{}},
	} {
		t.Run(c.name, func(t *testing.T) {
			g, ok, _ := parseSysctl(c.text).gpu()
			if ok != c.ok || g.VRAM != c.vram {
				t.Errorf("%+v, %v", g, ok)
			}
		})
	}
}

func TestIntelMacIsCPU(t *testing.T) {
	s := systemOf(t, "-- $ "+sysctlPath+" machdep.cpu.brand_string hw.memsize hw.logicalcpu hw.optional.arm64 iogpu.wired_limit_mb --\n"+
		"machdep.cpu.brand_string: Intel(R) Core(TM) i9-9880H CPU @ 2.30GHz\nhw.memsize: 34359738368\nhw.logicalcpu: 16\n")
	i := Detect(t.Context(), s)
	if i.GPUKind() != "cpu" || i.Unified || i.RAM.N != 32*gib || i.CPU != "Intel Core i9-9880H" || i.Cores != 16 || i.RAMFree.Known() {
		t.Errorf("%+v", i)
	}
}

func TestParseVMStat(t *testing.T) {
	free, ok := parseVMStat("Mach Virtual Memory Statistics: (page size of 4096 bytes)\nPages free: 10.\nPages inactive: 5.\nPages speculative: 1.\nPages wired down: 99.\n")
	if !ok || free != 16*4096 {
		t.Errorf("%d, %v", free, ok)
	}
	for _, bad := range []string{"", "page size of 0 bytes\nPages free: 1.", "page size of 4096 bytes\n", "page size of 4096 bytes\nPages free: x.\n"} {
		if _, ok := parseVMStat(bad); ok {
			t.Errorf("%q was read", bad)
		}
	}
}

func FuzzAppleText(f *testing.F) {
	f.Add("machdep.cpu.brand_string: Apple M2 Max\nhw.memsize: 68719476736\niogpu.wired_limit_mb: 57344\n")
	f.Add("Mach Virtual Memory Statistics: (page size of 16384 bytes)\nPages free: 10.\n")
	f.Fuzz(func(t *testing.T, text string) {
		m := parseSysctl(text)
		g, ok, _ := m.gpu()
		if ok && g.VRAM.N > m.memory {
			t.Fatalf("%d of %d", g.VRAM.N, m.memory)
		}
		parseVMStat(text)
	})
}
