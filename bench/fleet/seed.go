package fleet

import (
	"fmt"
	"time"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh/hardware"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/ollamatest"
)

const gib = 1 << 30

// Household is n machines of the four kinds of [Seed].
func Household(n int, speed float64) []Spec {
	var specs []Spec
	for i := range n {
		spec := Seed(speed)[i%4]
		if i >= 4 {
			spec.Name = fmt.Sprintf("%s-%d", spec.Name, i/4+1)
			spec.Ollama.Name = spec.Name
		}
		specs = append(specs, spec)
	}
	return specs
}

// Seed is a household's four machines: two CPU servers, a gaming PC with an
// RTX 4090 and an AMD box with 64 GB of unified memory. The speeds are the
// ones measured on such machines: 72B at 2.8 and 2.9 tok/s, 32B at 48 and 10,
// 3B at 73 on the 4090 and 3 to 8 on the CPUs.
//
// speed multiplies all of them, so that a demonstration does not take minutes.
func Seed(speed float64) []Spec {
	detected := func(n uint64) hardware.Bytes { return hardware.Bytes{N: n, Source: hardware.Configured} }
	cpu := func(ram uint64) hardware.Inventory {
		return hardware.Inventory{
			OS: "linux", Arch: "amd64", CPU: "8-core server", Cores: 8, Role: "cpu",
			RAM: detected(ram), RAMFree: detected(ram - 4*gib),
		}
	}
	mobile := hardware.Inventory{
		OS: "linux", Arch: "amd64", CPU: "16-core desktop", Cores: 16, Role: "gpu",
		GPUs: []hardware.GPU{{
			Vendor: "nvidia", Name: "NVIDIA GeForce RTX 4090", VRAM: detected(24 * gib), Free: detected(23 * gib),
			Source: hardware.Configured,
		}},
		VRAM: detected(24 * gib), VRAMFree: detected(23 * gib),
		RAM: detected(64 * gib), RAMFree: detected(56 * gib),
	}
	primary := hardware.Inventory{
		OS: "linux", Arch: "amd64", CPU: "AMD RYZEN AI MAX+ 395", Cores: 16, Role: "gpu", Unified: true,
		GPUs: []hardware.GPU{{
			Vendor: "amd", Name: "AMD Radeon 8060S", Arch: "gfx1151", Integrated: true,
			VRAM: detected(62 * gib), Free: detected(58 * gib), Source: hardware.Configured,
		}},
		VRAM: detected(62 * gib), VRAMFree: detected(58 * gib),
		RAM: detected(64 * gib), RAMFree: detected(58 * gib),
	}
	node := func(name string, i hardware.Inventory, models ...ollamatest.Model) Spec {
		c := &ollamatest.Config{Name: name, Models: models, Speed: speed, RAM: i.RAM.N, Parallel: 2, Batching: 0.3}
		if len(i.GPUs) > 0 {
			c.VRAM = i.VRAM.N
		}
		if i.Unified {
			c.RAM = i.RAM.N - i.VRAM.N // the same bytes are not there twice
		}
		return Spec{Name: name, Hardware: i, Ollama: c}
	}
	small := func(rate float64) ollamatest.Model {
		return ollamatest.Model{
			Name: "qwen2.5:3b", Size: 1_929_912_432, ParameterSize: "3.1B", Layers: 36, KVHeads: 2,
			Decode: rate, Prefill: rate * 20, Load: time.Second,
		}
	}
	middle := func(rate float64) ollamatest.Model {
		return ollamatest.Model{
			Name: "qwen2.5:32b", Size: 19_851_349_669, ParameterSize: "32.8B", Layers: 64,
			Decode: rate, Prefill: rate * 20, Load: 6 * time.Second,
		}
	}
	large := func(rate float64) ollamatest.Model {
		return ollamatest.Model{
			Name: "qwen2.5:72b", Size: 47_415_724_625, ParameterSize: "72.7B", Layers: 80,
			Decode: rate, Prefill: rate * 20, Load: 15 * time.Second,
		}
	}
	return []Spec{
		node("cpu-1", cpu(30*gib), small(8)),
		node("cpu-2", cpu(14*gib), small(3)),
		node("gpu-mobile", mobile, small(73), middle(48), large(2.8)),
		node("gpu-primary", primary, small(40), middle(10), large(2.9)),
	}
}
