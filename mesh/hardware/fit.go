package hardware

// What Ollama and llama.cpp keep back, in bytes (Ollama 0.33: server/sched.go,
// llm/llama_server.go).
const (
	gpuReserve   = 457 * mib // per GPU, for the runner itself
	metalReserve = 512 * mib
	fitMargin    = 1 * gib // per GPU, llama.cpp's margin when it fits layers
)

// Room is the memory a model could be put into, of one library (GPUs of one
// vendor: a model is never spread over two). All amounts in bytes, unknown
// ones 0, so that what is unknown cannot be promised.
type Room struct {
	GPUs    []uint64 // open to a model on each GPU for certain, before reserves
	Sum     uint64   // open over all GPUs, if that is more than the sum of GPUs
	Reserve uint64   // kept back on each GPU, OLLAMA_GPU_OVERHEAD included
	RAM     uint64   // open to a model
	Keep    uint64   // of RAM or Pool, for everything else on the machine

	Unified bool   // RAM and GPU memory are the same bytes
	Pool    uint64 // unified: open to a model over CPU and GPU
}

// Fit says how well the model fits, and which share of it would be on the GPU
// (1 for Full and Tight, 0 for CPU and None).
//
// With V the largest room on one GPU (Ollama prefers one), or else the sum, and
// R the RAM after what is kept:
//
//	FULL     need <= 0.8 V                  Ollama loads it beside others
//	TIGHT    need <= V - 1 GiB per GPU
//	PARTIAL  need <= sum of V + R           discrete
//	         need <= Pool - Keep            unified, never V + R
//	CPU      need <= R                      no room on a GPU
//
// A unified machine's V is bounded by Pool - Keep too: the driver of a GB10
// would hand out all of RAM.
func (r Room) Fit(n Need) (Class, float64) {
	need := n.Total()
	if n.Weights == 0 {
		return None, 0 // the size is unknown
	}
	ram, pool := sub(r.RAM, r.Keep), sub(r.Pool, r.Keep)
	var best, sum, count uint64
	for _, open := range r.GPUs {
		v := sub(open, r.Reserve)
		if v == 0 {
			continue
		}
		best, sum, count = max(best, v), add(sum, v), count+1
	}
	gpus := uint64(len(r.GPUs))
	if all := sub(r.Sum, scale(r.Reserve, gpus)); all > sum {
		sum, count = all, gpus
	}
	if r.Unified && r.Pool > 0 {
		best, sum = min(best, pool), min(sum, pool)
	}
	best = min(best, sum)

	switch {
	case need <= best/5*4, need <= sum/5*4:
		return Full, 1
	case need <= sub(best, fitMargin), need <= sub(sum, scale(fitMargin, count)):
		return Tight, 1
	}
	reach := add(sum, ram)
	if r.Unified {
		reach = pool
	}
	switch {
	case need > reach:
		return None, 0
	case sum == 0:
		return CPU, 0
	}
	return Partial, min(1, float64(sum)/float64(need))
}

// CouldRun says whether this machine could run the model with nothing else
// loaded, from totals: its capacity, for placement and for what a node may
// claim. Unknown totals contribute nothing.
func (i Inventory) CouldRun(n Need) (Class, float64) {
	return i.best(n, false, 0)
}

// CanRunNow says whether the model can be loaded now, into what is free plus
// evictable: bytes of idle models that Ollama would unload for it, size_vram of
// /api/ps where there is a GPU, size where there is none. Unknown free numbers
// contribute nothing, so call [Inventory.Learn] first. It never exceeds
// CouldRun, whatever the free numbers say.
func (i Inventory) CanRunNow(n Need, evictable uint64) (Class, float64) {
	could, could1 := i.best(n, false, 0)
	now, share := i.best(n, true, evictable)
	if now > could {
		return could, could1
	}
	return now, share
}

// Capable72B reports whether the machine could run a 72B model in Q4 at 4,096
// tokens in any way.
func (i Inventory) Capable72B() bool {
	class, _ := i.CouldRun(Reference72B())
	return class != None
}

// best tries every library and returns the best fit.
func (i Inventory) best(n Need, now bool, evictable uint64) (Class, float64) {
	var room [8]slot
	slots := i.slots(room[:0], now)
	if len(slots) == 0 {
		return i.room("", nil, now, evictable).Fit(n)
	}
	class, share := None, 0.0
	for k, s := range slots {
		if tried(slots[:k], s.vendor) {
			continue
		}
		c, sh := i.room(s.vendor, slots, now, evictable).Fit(n)
		if c > class || (c == class && sh > share) {
			class, share = c, sh
		}
	}
	return class, share
}

// slot is one GPU's total and what is open on it.
type slot struct {
	vendor      Vendor
	total, open uint64
}

func tried(slots []slot, v Vendor) bool {
	for _, s := range slots {
		if s.vendor == v {
			return true
		}
	}
	return false
}

// maxGPUs bounds what is looked at: more are a peer's invention.
const maxGPUs = 64

// slots appends the GPUs that count and whose memory is known; one for the sum
// if an inventory has a sum without a list.
func (i Inventory) slots(slots []slot, now bool) []slot {
	for k := range i.GPUs {
		g := &i.GPUs[k]
		if g.Unused || !g.VRAM.Known() {
			continue
		}
		s := slot{g.Vendor, g.VRAM.N, g.VRAM.N}
		if now {
			s.open = min(g.Free.N, s.total) // unknown is 0
		}
		if slots = append(slots, s); len(slots) == maxGPUs {
			break
		}
	}
	if len(slots) == 0 && i.VRAM.Known() && i.VRAM.N > 0 {
		s := slot{"", i.VRAM.N, i.VRAM.N}
		if now {
			s.open = min(i.VRAMFree.N, s.total)
		}
		slots = append(slots, s)
	}
	return slots
}

// room puts the numbers for one library together. Where evictable models sit is
// unknown, so one GPU can only count on what the others cannot be holding; the
// sum counts it once, and what is more than the GPUs hold must be in RAM.
func (i Inventory) room(v Vendor, slots []slot, now bool, evictable uint64) Room {
	r := Room{Reserve: add(i.GPUOverhead, gpuReserve), Unified: i.Unified}
	if v == Apple {
		r.Reserve = add(i.GPUOverhead, metalReserve)
	}
	var held uint64
	for _, s := range slots {
		if s.vendor == v {
			held = add(held, s.total-s.open)
		}
	}
	for _, s := range slots {
		if s.vendor != v {
			continue
		}
		own := s.total - s.open
		r.GPUs = append(r.GPUs, s.open+min(own, sub(evictable, held-own)))
		r.Sum = add(r.Sum, s.open)
	}
	r.Sum = add(r.Sum, min(held, evictable))

	pool, poolFree := i.Pool, i.PoolFree
	if !pool.Known() { // a machine that told no pool
		pool, poolFree = i.RAM, i.RAMFree
	}
	r.RAM = open(i.RAM, i.RAMFree, now, sub(evictable, held))
	r.Keep = max(2*gib, i.RAM.N/10)
	if i.Unified {
		r.Pool = open(pool, poolFree, now, evictable)
		r.Keep = max(4*gib, pool.N/10)
	}
	return r
}

// open is what a model may have of total: all of it, or what is free now plus
// extra. Unknown is nothing, however much extra there is.
func open(total, free Bytes, now bool, extra uint64) uint64 {
	switch {
	case !now:
		return total.N
	case !free.Known():
		return 0
	}
	return min(add(free.N, extra), total.N)
}
