package hardware

import (
	"math"
	"testing"
)

// TestPriorAgainstMeasurements holds the prior to what was measured on real
// machines. The bounds are the error we accept of a first guess.
func TestPriorAgainstMeasurements(t *testing.T) {
	const w3B, w8B, w32B, w72B = 1_930_000_000, 4_920_000_000, 19_850_000_000, 47_400_000_000
	rtx := Inventory{CPU: "AMD Ryzen 9 7950X 16-Core", Cores: 32, GPUs: []GPU{{Vendor: NVIDIA, Name: "NVIDIA GeForce RTX 4090", VRAM: detected(24564 * mib)}}, VRAM: detected(24564 * mib), RAM: detected(62 * gib)}
	strix := unified(AMD, 63*gib, 31*gib)
	strix.GPUs[0].Name = "AMD Radeon 8060S Graphics"
	gpu := func(v Vendor, name string, integrated bool) Inventory {
		return Inventory{Unified: integrated, GPUs: []GPU{{Vendor: v, Name: name, Integrated: integrated, VRAM: detected(64 * gib)}}}
	}
	_, rtxShare := rtx.CouldRun(Reference72B())
	_, strixShare := strix.CouldRun(Reference72B())
	for _, c := range []struct {
		name      string
		i         Inventory
		weights   uint64
		share     float64
		measured  float64
		tolerance float64
	}{
		{"4090 32B", rtx, w32B, 1, 48.3, 0.03},
		{"4090 72B, half in DDR5", rtx, w72B, rtxShare, 2.8, 0.05},
		{"395 32B", strix, w32B, 1, 10, 0.05},
		{"395 72B, half of RAM for the GPU", strix, w72B, strixShare, 2.9, 0.15},
		{"395 72B, all on the GPU", strix, w72B, 1, 2.9, 0.50},
		{"395 3B: fixed cost dominates, a known miss", strix, w3B, 1, 73, 0.50},
		{"cpu node 3B", Inventory{CPU: "Intel Core i5-8500", Cores: 6}, w3B, 0, 8, 0.70},
		{"7900 XTX 8B", gpu(AMD, "AMD Radeon RX 7900 XTX", false), w8B, 1, 105, 0.15},
		{"A770 8B", gpu(Intel, "Intel Arc A770", false), w8B, 1, 25, 0.40},
		{"M1 Max 8B", gpu(Apple, "Apple M1 Max", true), w8B, 1, 46.2, 0.10},
		{"M4 8B", gpu(Apple, "Apple M4", true), w8B, 1, 20.9, 0.35},
		{"GB10 8B", gpu(NVIDIA, "NVIDIA GB10", true), w8B, 1, 38.7, 0.15},
		{"3090 8B", gpu(NVIDIA, "NVIDIA GeForce RTX 3090", false), 4_650_000_000, 1, 146, 0.40},
	} {
		decode, prefill := Prior(c.i, c.weights, c.share)
		t.Logf("%-45s %6.1f tok/s (measured %.1f), prefill %.0f", c.name, decode, c.measured, prefill)
		if math.Abs(decode-c.measured) > c.tolerance*c.measured {
			t.Errorf("%s: %.2f tok/s, measured %.2f", c.name, decode, c.measured)
		}
		if prefill < decode {
			t.Errorf("%s: prefill %.1f below decode %.1f", c.name, prefill, decode)
		}
	}
}

func TestPriorOfUnknowns(t *testing.T) {
	listed := func(name string) float64 {
		d, _ := Prior(Inventory{GPUs: []GPU{{Vendor: NVIDIA, Name: name}}}, 5*gb, 1)
		return d
	}
	if unlisted, small := listed("NVIDIA GeForce RTX 7777"), listed("NVIDIA GeForce RTX 3060"); unlisted >= small {
		t.Errorf("unlisted card %.1f, small card %.1f", unlisted, small)
	}
	if a, b := listed("NVIDIA A100-SXM4-40GB MIG 3g.20gb"), listed("NVIDIA A100-SXM4-40GB"); math.Abs(a/b-3.0/7) > 0.01 {
		t.Errorf("MIG slice %.1f of %.1f", a, b)
	}
	for _, share := range []float64{-1, 0, 1, 2, math.NaN(), math.Inf(1)} {
		for _, weights := range []uint64{0, 1, math.MaxUint64} {
			d, p := Prior(Inventory{}, weights, share)
			if !(d >= minRate && d <= maxDecode && p >= minRate && p <= maxPrefill) {
				t.Errorf("%v %v: %v %v", weights, share, d, p)
			}
		}
	}
	// A small virtual machine on a server does not get the server's channels.
	if got := cpuBandwidth("AMD EPYC 9654 96-Core", 2); got != 10 {
		t.Errorf("%v GB/s", got)
	}
}

func TestPartOf(t *testing.T) {
	for name, want := range map[string]float64{
		"NVIDIA GeForce RTX 4090":                           1008,
		"NVIDIA GeForce RTX 4090 Laptop GPU":                576,
		"NVIDIA GeForce RTX 4070 Ti SUPER":                  672,
		"NVIDIA A100-SXM4-80GB":                             2039,
		"NVIDIA A10":                                        600,
		"NVIDIA L4":                                         300,
		"NVIDIA L40S":                                       864,
		"NVIDIA H100 80GB HBM3":                             3350,
		"NVIDIA RTX 6000 Ada Generation":                    960,
		"NVIDIA RTX PRO 6000 Blackwell Workstation Edition": 1597,
		"NVIDIA Jetson AGX Orin Developer Kit":              204,
		"AMD Radeon RX 7900 XT":                             800,
		"AMD Radeon RX 7900 XTX":                            960,
		"AMD Ryzen AI MAX+ 395":                             256,
		"Intel(R) Arc(TM) A770 Graphics":                    560,
		"Apple M3 Max":                                      300,
		"Apple M3":                                          100,
		"Matrox G200":                                       0,
		"":                                                  0,
	} {
		if p, _ := partOf(name); p.gbps != want {
			t.Errorf("%q: %v, want %v", name, p.gbps, want)
		}
	}
}

func TestCPUBandwidth(t *testing.T) {
	for name, want := range map[string]float64{
		"AMD Ryzen 9 7950X 16-Core": 83, "AMD Ryzen 7 5700G with Radeon Graphics": 45, "13th Gen Intel Core i7-13700K": 60,
		"Intel Core i7-9700K": 38, "Intel Core Ultra 7 265K": 83, "Intel Xeon E5-2680 v4": 60, "Raspberry Pi 5 Model B Rev 1.0": 12, "": 20, "Loongson-3A6000": 20,
	} {
		if got := cpuBandwidth(name, 32); got != want {
			t.Errorf("%q: %v, want %v", name, got, want)
		}
	}
}

func TestTableHasNoDoubles(t *testing.T) {
	seen := map[string]bool{}
	for _, p := range parts {
		if seen[p.name] || p.gbps < 40 || p.gbps > 8000 || " "+p.name+" " != partName(p.name) {
			t.Errorf("%+v", p)
		}
		seen[p.name] = true
	}
	ids := map[[2]uint64]bool{}
	for _, n := range amdNames {
		k := [2]uint64{n.id, n.revision}
		if ids[k] {
			t.Errorf("%+v twice", n)
		}
		ids[k] = true
	}
	intel := map[uint64]bool{}
	for _, n := range intelNames {
		if intel[n.id] {
			t.Errorf("%+v twice", n)
		}
		intel[n.id] = true
	}
}

// TestPrefillBesideGPU: layers in RAM are read by the GPU while it takes in a
// prompt, so the same layers cost less there than without one.
func TestPrefillBesideGPU(t *testing.T) {
	i := machine(62*gib, 24*gib)
	_, alone := Prior(i, 40*gb, 0)
	_, beside := Prior(i, 40*gb, 0.001)
	if beside < 2*alone {
		t.Errorf("%.1f tok/s beside, %.1f alone", beside, alone)
	}
}
