package ollamatest

import (
	"fmt"
	"math"
)

// KVBytes is the size of a model's KV cache for ctx tokens in each of parallel
// slots: keys and values, 2 bytes an element (f16), for every layer and KV
// head. It is the formula by which Ollama predicts memory before a load.
func KVBytes(m Model, ctx, parallel int) uint64 {
	return 2 * 2 * uint64(m.Layers) * uint64(m.KVHeads) * uint64(m.HeadDim) * uint64(ctx) * uint64(parallel)
}

// memory is what a server has, and what its runners take of it.
type memory struct {
	vram, ram uint64 // bytes; ram is MaxUint64 when not limited
}

func memoryOf(c Config) memory {
	m := memory{vram: c.VRAM, ram: c.RAM}
	if m.ram == 0 {
		m.ram = math.MaxUint64
	}
	return m
}

func (m memory) minus(o memory) memory {
	m.vram -= min(m.vram, o.vram)
	if m.ram != math.MaxUint64 {
		m.ram -= min(m.ram, o.ram)
	}
	return m
}

func (m memory) total() uint64 { return m.vram + m.ram }

// place decides where need bytes go, given the free memory. A GPU takes a
// model whole; only when nothing else is loaded may a model that is too large
// for the GPU be split between it and RAM. Without GPU all goes to RAM.
func place(need uint64, free memory, hasGPU, alone bool) (memory, bool) {
	switch {
	case !hasGPU:
		return memory{ram: need}, need <= free.ram
	case need <= free.vram:
		return memory{vram: need}, true
	case alone:
		split := memory{vram: free.vram, ram: need - free.vram}
		return split, split.ram <= free.ram
	}
	return memory{}, false
}

// noMemory is the error of a model that does not fit even alone.
func noMemory(need uint64, free memory) error {
	return &statusError{500, fmt.Sprintf("model requires more system memory (%s) than is available (%s)",
		humanBytes(need-min(need, free.vram)), humanBytes(free.ram))}
}

// humanBytes prints bytes as Ollama's error texts do.
func humanBytes(b uint64) string {
	switch {
	case b >= 1<<30:
		return fmt.Sprintf("%.1f GiB", float64(b)/(1<<30))
	case b >= 1<<20:
		return fmt.Sprintf("%.1f MiB", float64(b)/(1<<20))
	case b >= 1<<10:
		return fmt.Sprintf("%.1f KiB", float64(b)/(1<<10))
	}
	return fmt.Sprintf("%d B", b)
}
