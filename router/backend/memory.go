package backend

import (
	"slices"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh/hardware"
)

// Held is memory that models in Ollama hold, in bytes.
type Held struct{ VRAM, RAM uint64 }

// HeldBy sums what the residents hold.
func HeldBy(residents []Resident) Held {
	var h Held
	for _, r := range residents {
		h.VRAM += r.SizeVRAM
		h.RAM += r.Size - min(r.Size, r.SizeVRAM)
	}
	return h
}

// correct brings free numbers that were read when models held then up to what
// they hold now. Where GPU memory is RAM, so is what a model gives back.
func correct(i hardware.Inventory, then, now Held) hardware.Inventory {
	if then == now {
		return i
	}
	if i.Unified {
		all := func(h Held) uint64 { return h.VRAM + h.RAM }
		i.VRAMFree = shift(i.VRAMFree, i.VRAM, all(then), all(now))
		i.RAMFree = shift(i.RAMFree, i.RAM, all(then), all(now))
		i.PoolFree = shift(i.PoolFree, i.Pool, all(then), all(now))
		return i
	}
	i.VRAMFree = shift(i.VRAMFree, i.VRAM, then.VRAM, now.VRAM)
	i.RAMFree = shift(i.RAMFree, i.RAM, then.RAM, now.RAM)
	return i
}

// shift moves a known free number by what changed, within 0 and the total.
func shift(free, total hardware.Bytes, then, now uint64) hardware.Bytes {
	if !free.Known() {
		return free
	}
	sum := free.N + then
	free.N = sum - min(sum, now)
	if total.Known() {
		free.N = min(free.N, total.N)
	}
	return free
}

// static drops the numbers that change by the second: they travel in the Load,
// and a Card that changed with them would be fetched again and again.
func static(i hardware.Inventory) hardware.Inventory {
	i.VRAMFree, i.RAMFree, i.PoolFree = hardware.Bytes{}, hardware.Bytes{}, hardware.Bytes{}
	i.GPUs = slices.Clone(i.GPUs)
	for k := range i.GPUs {
		i.GPUs[k].Free = hardware.Bytes{}
	}
	return i
}

// ModelMemory is how many bytes models may fill at once on this machine: the
// GPUs' memory less what Ollama keeps back on each (457 MiB and
// OLLAMA_GPU_OVERHEAD), or RAM less what everything else needs (2 GiB or a
// tenth). 0 is unknown.
func ModelMemory(i hardware.Inventory) uint64 {
	const mib, gib = 1 << 20, 1 << 30
	less := func(n, keep uint64) uint64 { return n - min(n, keep) }
	if i.VRAM.N > 0 {
		var gpus uint64
		for _, g := range i.GPUs {
			if !g.Unused {
				gpus++
			}
		}
		open := less(i.VRAM.N, max(gpus, 1)*(457*mib+i.GPUOverhead))
		if i.Unified && i.Pool.N > 0 {
			open = min(open, less(i.Pool.N, max(4*gib, i.Pool.N/10)))
		}
		return open
	}
	if i.RAM.N > 0 {
		return less(i.RAM.N, max(2*gib, i.RAM.N/10))
	}
	return 0
}
