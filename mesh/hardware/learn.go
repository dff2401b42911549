package hardware

// Learn takes in what Ollama itself proves, from the size_vram of /api/ps:
// resident is the sum over models loaded now, peak the largest such sum ever
// seen here. Call it after every Detect and Refresh; it changes a copy.
//
// peak is a lower bound for usable VRAM, so it fills an unknown total and
// raises one that was detected too low; never one that was configured. resident
// gives the free memory where no reading does (Windows, Intel: total minus
// resident) and lowers it where the reading cannot see GPU memory by itself
// (Metal: the limit minus resident, if that is less).
func (i Inventory) Learn(resident, peak uint64) Inventory {
	i = i.clone()
	peak = max(peak, resident)
	if peak > maxSize {
		return i // not a machine's memory: an API that lies
	}
	if i.VRAM.Source != Configured && peak > 0 && peak > i.VRAM.N {
		i.raise(peak)
	}
	if !i.VRAM.Known() {
		return i
	}
	left := sub(i.VRAM.N, resident)
	switch {
	case !i.VRAMFree.Known():
		i.setFree(left)
	case i.Unified && left < i.VRAMFree.N:
		i.setFree(left)
	}
	i.cap()
	return i
}

// raise lifts the total to what was seen to fit. On a machine where no GPU
// counts, something on a GPU proves that Ollama uses one: the first integrated
// one that we left out (OLLAMA_IGPU_ENABLE set for Ollama and not for us), or
// one that we could not see at all.
func (i *Inventory) raise(peak uint64) {
	used := i.matching(func(g GPU) bool { return !g.Unused })
	if len(used) == 0 {
		used = i.matching(func(g GPU) bool { return g.Integrated })
		if len(used) == 0 {
			i.GPUs = append(i.GPUs, GPU{Source: Learned})
			used = []int{len(i.GPUs) - 1}
		}
		used = used[:1]
		i.GPUs[used[0]].Unused = false
	}
	proven := Bytes{N: peak, Source: Learned}
	if g := &i.GPUs[used[0]]; len(used) == 1 && g.VRAM.N < peak {
		g.VRAM = proven
	}
	i.tally()
	if i.VRAM.N < peak { // with several GPUs it is unknown which held what
		i.VRAM = proven
	}
	if i.Unified && i.RAM.Known() {
		if !i.Pool.Known() {
			i.Pool, i.PoolFree = i.RAM, i.RAMFree
		}
		if i.Pool.N < i.VRAM.N {
			i.Pool = Bytes{N: i.VRAM.N, Source: Learned}
		}
	}
}

// setFree sets the free sum, and spreads it over the GPUs by their totals.
func (i *Inventory) setFree(free uint64) {
	i.VRAMFree = Bytes{N: free, Source: Learned}
	for k := range i.GPUs {
		g := &i.GPUs[k]
		if g.Unused || !g.VRAM.Known() || i.VRAM.N == 0 {
			continue
		}
		part := uint64(float64(free) * (float64(g.VRAM.N) / float64(i.VRAM.N)))
		g.Free = Bytes{N: min(part, free), Source: Learned}
	}
}
