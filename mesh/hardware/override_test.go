package hardware

import (
	"errors"
	"reflect"
	"testing"
)

func TestApply(t *testing.T) {
	config := func(n uint64) Bytes { return Bytes{n, Configured} }
	for _, c := range []struct {
		name, fixture string
		o             Overrides
		summary       string
		vram, ram     Bytes
		role          string
		roleSource    Source
		class         Class
	}{
		{
			"nothing", "rtx4090",
			Overrides{},
			"NVIDIA RTX 4090 · 24.0 GiB (22.6 free) · ram 63 GiB",
			detected(24564 * mib), detected(65558268 * kib), "gpu", Detected, Partial,
		},
		{
			"vram: what is in use stays in use", "rtx4090",
			Overrides{VRAM: 48 * gib},
			"NVIDIA RTX 4090 · 48.0 GiB (46.6 free) · ram 63 GiB",
			config(48 * gib), detected(65558268 * kib), "gpu", Detected, Tight,
		},
		{
			"less vram", "rtx4090",
			Overrides{VRAM: 1 * gib},
			"NVIDIA RTX 4090 · 1.0 GiB (0 B free) · ram 63 GiB",
			config(1 * gib), detected(65558268 * kib), "gpu", Detected, Partial,
		},
		{
			"ram", "cpu",
			Overrides{RAM: 128 * gib},
			"Intel Core i5-8500 (6 cores) · ram 128 GiB",
			Bytes{},
			config(128 * gib), "cpu", Detected, CPU,
		},
		{
			"no gpu", "rtx4090",
			Overrides{GPU: "none"},
			"AMD Ryzen 9 7950X 16-Core (32 cores) · ram 63 GiB",
			Bytes{Source: Configured},
			detected(65558268 * kib), "cpu", Detected, CPU,
		},
		{
			"role", "rtx4090",
			Overrides{Role: "Router"},
			"NVIDIA RTX 4090 · 24.0 GiB (22.6 free) · ram 63 GiB",
			detected(24564 * mib), detected(65558268 * kib), "router", Configured, Partial,
		},
		{
			"unknown memory is filled", "driver_reload",
			Overrides{VRAM: 11 * gib},
			"NVIDIA RTX 2080 Ti · 11.0 GiB · ram 31 GiB",
			config(11 * gib), detected(32781092 * kib), "gpu", Detected, None,
		},
		{
			"gpu that was not seen", "cpu",
			Overrides{GPU: "NVIDIA L40S", VRAM: 45 * gib},
			"NVIDIA L40S · 45.0 GiB · ram 30 GiB",
			config(45 * gib), detected(30 * gib), "gpu", Detected, Partial,
		},
		{
			"vram without any gpu", "cpu",
			Overrides{VRAM: 60 * gib},
			"GPU · 60.0 GiB · ram 30 GiB",
			config(60 * gib), detected(30 * gib), "gpu", Detected, Full,
		},
		{
			"name of the one that is there", "rtx4090",
			Overrides{GPU: "RTX 4090 D"},
			"RTX 4090 D · 24.0 GiB (22.6 free) · ram 63 GiB",
			detected(24564 * mib), detected(65558268 * kib), "gpu", Detected, Partial,
		},
		{
			"the small one instead", "rtx4090",
			Overrides{GPU: "amd"},
			"AMD Radeon 610M · 31.8 GiB unified (31.7 free) · ram 63 GiB",
			detected(536870912 + 33565831168), detected(65558268 * kib), "gpu", Detected, Partial,
		},
		{
			"unified stays within its pool", "strix_512m",
			Overrides{VRAM: 96 * gib},
			"AMD Radeon 8060S · 96.0 GiB unified (95.4 free) · ram 125 GiB",
			config(96 * gib), detected(131030016 * kib), "gpu", Detected, Full,
		},
		{
			"unified, not detected", "cpu",
			Overrides{GPU: "AMD Ryzen AI MAX+ 395", VRAM: 48 * gib, RAM: 62 * gib},
			"AMD Ryzen AI MAX+ 395 · 48.0 GiB unified · ram 62 GiB",
			config(48 * gib), config(62 * gib), "gpu", Detected, Tight,
		},
		{
			"two gpus share it", "two_gpus",
			Overrides{VRAM: 40 * gib},
			"NVIDIA RTX 3090 + NVIDIA RTX 3090, OEM · 40.0 GiB (19.7 free) · ram 126 GiB",
			config(40 * gib), detected(131842368 * kib), "gpu", Detected, Partial,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := fixture(t, c.fixture)
			before := Detect(t.Context(), s)
			original := before.clone()
			i := before.Apply(c.o)
			if !reflect.DeepEqual(before, original) {
				t.Error("the original was changed")
			}
			class, _ := i.CouldRun(Reference72B())
			if i.Summary() != c.summary || i.VRAM != c.vram || i.RAM != c.ram || i.Role != c.role || i.RoleSource != c.roleSource || class != c.class {
				t.Errorf("%s\nvram %v ram %v role %s %s, 72B %v\n%+v", i.Summary(), i.VRAM, i.RAM, i.Role, i.RoleSource, class, i)
			}
			r := Refresh(t.Context(), s, i)
			if r.VRAM != i.VRAM || r.RAM != i.RAM || r.Role != i.Role {
				t.Errorf("refresh undid it: %+v", r)
			}
			if c.o.GPU == "" && (r.VRAMFree != i.VRAMFree || r.RAMFree != i.RAMFree) {
				t.Errorf("refresh: free %v %v, was %v %v", r.VRAMFree, r.RAMFree, i.VRAMFree, i.RAMFree)
			}
		})
	}
}

func TestValidate(t *testing.T) {
	for _, o := range []Overrides{{}, {GPU: "amd", VRAM: gib, RAM: gib, Role: "GPU"}, {GPU: "none"}, {Role: "router"}} {
		if err := o.Validate(); err != nil {
			t.Errorf("%+v: %v", o, err)
		}
	}
	for _, o := range []Overrides{{Role: "boss"}, {VRAM: maxSize + 1}, {RAM: maxSize + 1}, {GPU: "\x00\x1b"}, {GPU: "none", VRAM: gib}} {
		if err := o.Validate(); !errors.Is(err, ErrOverride) {
			t.Errorf("%+v: %v", o, err)
		}
	}
}

func TestVendorOf(t *testing.T) {
	for name, want := range map[string]Vendor{
		"RTX 4090": NVIDIA, "Tesla P40": NVIDIA, "H100 PCIe": NVIDIA, "amd": AMD, "RX 7900 XTX": AMD, "Strix Halo": AMD,
		"Apple M2 Max": Apple, "M4 Pro": Apple, "Arc A770": Intel, "intel": Intel, "mystery": "",
	} {
		if got := vendorOf(name); got != want {
			t.Errorf("%q: %q", name, got)
		}
	}
}

func TestLearn(t *testing.T) {
	learned := func(n uint64) Bytes { return Bytes{n, Learned} }
	arc := Inventory{GPUs: []GPU{{Vendor: Intel, VRAM: detected(16 * gib)}}, VRAM: detected(16 * gib), Role: "gpu", RoleSource: Detected}
	igpu := Inventory{
		GPUs: []GPU{{Vendor: AMD, Name: "AMD Radeon 780M", Integrated: true, Unused: true, VRAM: detected(16 * gib)}},
		RAM:  detected(32 * gib), RAMFree: detected(20 * gib), Role: "cpu", RoleSource: Detected,
	}
	apple := Inventory{
		Unified: true, GPUs: []GPU{{Vendor: Apple, Integrated: true, VRAM: detected(48 * gib), Free: detected(30 * gib)}},
		VRAM: detected(48 * gib), VRAMFree: detected(30 * gib), RAM: detected(64 * gib), RAMFree: detected(30 * gib), Pool: detected(64 * gib), PoolFree: detected(30 * gib),
	}
	lost := Inventory{GPUs: []GPU{{Vendor: NVIDIA}}, Role: "gpu", RoleSource: Detected}
	for _, c := range []struct {
		name           string
		i              Inventory
		resident, peak uint64
		vram, free     Bytes
		kind           string
	}{
		{"free by subtraction", arc, 6 * gib, 10 * gib, detected(16 * gib), learned(10 * gib), "intel"},
		{"nothing loaded", arc, 0, 0, detected(16 * gib), learned(16 * gib), "intel"},
		{"more than detected", arc, 0, 17 * gib, learned(17 * gib), learned(17 * gib), "intel"},
		{"unknown total", lost, 2 * gib, 9 * gib, learned(9 * gib), learned(7 * gib), "nvidia"},
		{"unknown, nothing seen", lost, 0, 0, Bytes{}, Bytes{}, "nvidia"},
		{"Metal's limit less what is loaded", apple, 40 * gib, 40 * gib, detected(48 * gib), learned(8 * gib), "apple"},
		{"Metal, host is what is short", apple, 2 * gib, 2 * gib, detected(48 * gib), detected(30 * gib), "apple"},
		{"integrated one is in use after all", igpu, 4 * gib, 4 * gib, detected(16 * gib), learned(12 * gib), "amd"},
		{"a GPU that we cannot see", Inventory{}, 4 * gib, 8 * gib, learned(8 * gib), learned(4 * gib), "gpu"},
		{"configured wins", arc.Apply(Overrides{VRAM: 8 * gib}), 0, 10 * gib, Bytes{8 * gib, Configured}, learned(8 * gib), "intel"},
		{"no GPU by the user's word", arc.Apply(Overrides{GPU: "none"}), 4 * gib, 4 * gib, Bytes{Source: Configured}, Bytes{Source: Configured}, "cpu"},
		{"a lie", lost, 0, 1 << 60, Bytes{}, Bytes{}, "nvidia"},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := c.i.clone()
			got := c.i.Learn(c.resident, c.peak)
			if got.VRAM != c.vram || got.VRAMFree != c.free || got.GPUKind() != c.kind {
				t.Errorf("vram %v free %v %s", got.VRAM, got.VRAMFree, got.GPUKind())
			}
			if len(got.used()) > 0 && got.Role != "" && got.Role != "gpu" {
				t.Errorf("role %q", got.Role)
			}
			if !reflect.DeepEqual(c.i.GPUs, before.GPUs) {
				t.Error("the original was changed")
			}
		})
	}
}

// TestGrantBeyondRAM: a user who gives a unified GPU more than RAM knows of a
// carve-out that the system does not show; it joins the pool, once.
func TestGrantBeyondRAM(t *testing.T) {
	i := Detect(t.Context(), fixture(t, "cpu")).Apply(Overrides{GPU: "Ryzen AI MAX+ 395", VRAM: 96 * gib})
	if i.Pool.N != 96*gib || i.PoolFree.N != 96*gib-30*gib+28311552*kib {
		t.Errorf("pool %v, free %v", i.Pool, i.PoolFree)
	}
}
