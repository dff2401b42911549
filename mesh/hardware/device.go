package hardware

// device is a GPU as one reading of the machine found it, with what only the
// sums need. VRAM and Free are raw here: what the driver said.
type device struct {
	GPU
	// carve is memory that the firmware set aside for this GPU: part of VRAM,
	// not part of RAM. Integrated GPUs only.
	carve, carveFree uint64
	// unified marks an integrated GPU that may use all of RAM, so that VRAM
	// and Free are to be taken from there.
	unified bool
}

// reading is one look at the machine's GPUs and RAM.
type reading struct {
	devices []device
	ram     memory
	notes   []string
}

// share gives GPUs that live in RAM their numbers from RAM, once that is read.
func (r *reading) share() {
	for k := range r.devices {
		d := &r.devices[k]
		if d.unified {
			d.VRAM, d.Free = r.ram.total, r.ram.free
		}
	}
}

// admit decides which GPUs count, the way Ollama does since 0.30: discrete
// ones first, and integrated ones only if there is no discrete one and either
// the integrated one is known to be good (CUDA, Metal, gfx1151) or
// OLLAMA_IGPU_ENABLE is set. Returns why GPUs were left out, for the notes.
func admit(devices []device, integratedEnabled bool) (why []string) {
	discrete := false
	for _, d := range devices {
		discrete = discrete || (!d.Integrated && !d.Unused)
	}
	for k := range devices {
		d := &devices[k]
		if !d.Integrated || d.Unused {
			continue
		}
		switch {
		case discrete:
			d.Unused = true
			why = append(why, d.Name+" is integrated and not counted beside a discrete GPU.")
		case d.Vendor == NVIDIA || d.Vendor == Apple || d.Arch == "gfx1151" || integratedEnabled:
		default:
			d.Unused = true
			why = append(why, d.Name+" is integrated; Ollama leaves it unused unless OLLAMA_IGPU_ENABLE=1 is set for Ollama and for us.")
		}
	}
	return why
}

// settle fills the inventory from one reading.
func (i *Inventory) settle(r reading, integratedEnabled bool) {
	r.share()
	why := admit(r.devices, integratedEnabled)
	i.RAM, i.RAMFree = r.ram.total, r.ram.free
	i.GPUs = nil
	for _, d := range r.devices {
		i.GPUs = append(i.GPUs, d.GPU)
	}
	i.tally()
	i.pool(r)
	i.cap()
	i.note(r.ram.notes...)
	i.note(r.notes...)
	i.note(why...)
	for _, g := range i.GPUs {
		switch {
		case g.Unused:
		case !g.VRAM.Known():
			i.note("Memory of " + g.Name + " is unknown; give it with --vram.")
		case !g.Free.Known():
			i.note("Free memory of " + g.Name + " cannot be read; what Ollama reports as loaded is subtracted instead.")
		}
	}
}

// pool sums what GPU and CPU of a unified machine share.
func (i *Inventory) pool(r reading) {
	i.Pool, i.PoolFree = Bytes{}, Bytes{}
	if !i.Unified {
		return
	}
	i.Pool, i.PoolFree = i.RAM, i.RAMFree
	for _, d := range r.devices {
		if d.Unused {
			continue
		}
		if i.Pool.Known() {
			i.Pool.N = add(i.Pool.N, d.carve)
		}
		if i.PoolFree.Known() {
			i.PoolFree.N = add(i.PoolFree.N, d.carveFree)
		}
	}
}

// cap keeps GPU memory within the memory there is: the sum over integrated
// GPUs cannot exceed the pool, nor free exceed total.
func (i *Inventory) cap() {
	for k := range i.GPUs {
		g := &i.GPUs[k]
		if g.Integrated && !g.Unused && i.Unified {
			g.VRAM = atMost(g.VRAM, i.Pool)
			g.Free = atMost(g.Free, i.PoolFree)
		}
		g.Free = atMost(g.Free, g.VRAM)
	}
	if i.Unified {
		i.VRAM = atMost(i.VRAM, i.Pool)
		i.VRAMFree = atMost(i.VRAMFree, i.PoolFree)
	}
	i.VRAMFree = atMost(i.VRAMFree, i.VRAM)
}

func atMost(b, limit Bytes) Bytes {
	if b.Known() && limit.Known() && b.N > limit.N {
		b.N = limit.N
	}
	return b
}
