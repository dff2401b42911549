package hardware

// Source says where a number comes from. The empty Source means unknown.
type Source string

// The sources a value can have, from a person's word to what was observed.
const (
	Detected   Source = "detected"   // read from the machine
	Configured Source = "configured" // given by the user; always wins
	Learned    Source = "learned"    // proven by what Ollama has held in memory
)

// Bytes is an amount of memory and where it was learned. The zero value is
// unknown, which is not the same as known to be zero.
type Bytes struct {
	N      uint64 `json:"bytes"`
	Source Source `json:"source"`
}

// Known reports whether b holds an amount at all.
func (b Bytes) Known() bool { return b.Source != "" }

func detected(n uint64) Bytes { return Bytes{N: n, Source: Detected} }

// Vendor is who made a GPU, in lower case; empty if a user configured memory
// without saying whose.
type Vendor string

// The vendors whose GPUs Ollama can use.
const (
	NVIDIA Vendor = "nvidia"
	AMD    Vendor = "amd"
	Intel  Vendor = "intel"
	Apple  Vendor = "apple"
)

// GPU is one device that models could be placed on.
type GPU struct {
	Vendor Vendor `json:"vendor"`
	Name   string `json:"name,omitzero"`   // "NVIDIA GeForce RTX 4090"
	Arch   string `json:"arch,omitzero"`   // compute capability "8.9", "gfx1151"
	UUID   string `json:"uuid,omitzero"`   // the vendor's own, if it has one
	Bus    string `json:"bus,omitzero"`    // PCI address "0000:01:00.0"
	Driver string `json:"driver,omitzero"` // version or kernel driver name

	// Integrated GPUs share the machine's RAM.
	Integrated bool `json:"integrated,omitzero"`
	// Unused is set when Ollama would not place a model here (an integrated
	// GPU beside a discrete one, or one it skips by default). An unused GPU is
	// listed for people and counts for nothing.
	Unused bool `json:"unused,omitzero"`

	VRAM   Bytes  `json:"vram,omitzero"` // total; for integrated GPUs what the driver lets them use
	Free   Bytes  `json:"free,omitzero"` // at the last Detect or Refresh
	Source Source `json:"source"`        // of the device itself
}

// Roles a node can have.
const (
	RoleGPU    = "gpu"    // models run on a GPU
	RoleCPU    = "cpu"    // models run on the CPU
	RoleRouter = "router" // serves requests of others, runs no models
)

// Inventory is what one machine has. It is a value: methods return changed
// copies, and a published Inventory is never written to.
type Inventory struct {
	OS        string `json:"os"`   // runtime.GOOS
	Arch      string `json:"arch"` // runtime.GOARCH
	CPU       string `json:"cpu,omitzero"`
	Cores     int    `json:"cores,omitzero"` // logical, cgroup quota respected
	WSL       bool   `json:"wsl,omitzero"`
	Container bool   `json:"container,omitzero"`

	GPUs []GPU `json:"gpus,omitempty"`
	// Unified: GPU memory and RAM are the same bytes, so VRAM and RAM must
	// never be added; Pool is their sum counted once.
	Unified  bool  `json:"unified,omitzero"`
	VRAM     Bytes `json:"vram,omitzero"`      // usable by models over all used GPUs
	VRAMFree Bytes `json:"vram_free,omitzero"` // of that, free now
	RAM      Bytes `json:"ram,omitzero"`       // seen by the operating system, cgroup limit respected
	RAMFree  Bytes `json:"ram_free,omitzero"`  // available without swapping

	// Pool is, on unified machines only, RAM plus what the firmware took out
	// of RAM for the GPU alone (an APU's carve-out is invisible in RAM).
	Pool     Bytes `json:"pool,omitzero"`
	PoolFree Bytes `json:"pool_free,omitzero"`

	// GPUOverhead is OLLAMA_GPU_OVERHEAD in bytes per GPU, if it is set in our
	// environment too.
	GPUOverhead uint64 `json:"gpu_overhead,omitzero"`

	Role       string   `json:"role"` // RoleGPU, RoleCPU, RoleRouter, or what --role said
	RoleSource Source   `json:"role_source,omitzero"`
	Notes      []string `json:"notes,omitempty"` // what could not be read and why, one sentence each
}

// used returns the GPUs that models may be placed on.
func (i Inventory) used() []GPU {
	var gpus []GPU
	for _, g := range i.GPUs {
		if !g.Unused {
			gpus = append(gpus, g)
		}
	}
	return gpus
}

// GPUKind is the vendor whose GPUs would carry most of the models: "nvidia",
// "amd", "apple", "intel"; "gpu" if memory was configured without a vendor;
// "cpu" without any usable GPU.
func (i Inventory) GPUKind() string {
	best, most, any := Vendor(""), uint64(0), false
	for k, g := range i.GPUs {
		if g.Unused {
			continue
		}
		var sum uint64
		for _, other := range i.GPUs[k:min(len(i.GPUs), k+maxGPUs)] {
			if !other.Unused && other.Vendor == g.Vendor {
				sum = add(sum, other.VRAM.N)
			}
		}
		if !any || sum > most {
			best, most, any = g.Vendor, sum, true
		}
	}
	switch {
	case !any && !(i.VRAM.Known() && i.VRAM.N > 0):
		return RoleCPU
	case best == "":
		return RoleGPU
	}
	return string(best)
}

// tally recomputes every sum and the detected role from the GPU list.
func (i *Inventory) tally() {
	i.Unified = false
	i.VRAM, i.VRAMFree = Bytes{}, Bytes{}
	gpus := i.used()
	for _, g := range gpus {
		i.VRAM = plus(i.VRAM, g.VRAM)
		i.VRAMFree = plus(i.VRAMFree, g.Free)
		i.Unified = i.Unified || g.Integrated
	}
	if !i.Unified {
		i.Pool, i.PoolFree = Bytes{}, Bytes{}
	}
	if i.RoleSource == Configured {
		return
	}
	i.Role, i.RoleSource = RoleCPU, Detected
	if len(gpus) > 0 {
		i.Role = RoleGPU
	}
}

// plus adds what is known. The sum of a known and an unknown amount is the
// known one, a lower bound; the weaker source names the sum.
func plus(a, b Bytes) Bytes {
	switch {
	case !a.Known():
		return b
	case !b.Known():
		return a
	}
	sum := Bytes{N: add(a.N, b.N), Source: a.Source}
	if b.Source != Detected {
		sum.Source = b.Source
	}
	return sum
}

func (i *Inventory) note(sentences ...string) {
	for _, s := range sentences {
		if s = clean(s); s != "" {
			i.Notes = append(i.Notes, s)
		}
	}
}

// clone copies what the value shares with its original.
func (i Inventory) clone() Inventory {
	i.GPUs = append([]GPU(nil), i.GPUs...)
	i.Notes = append([]string(nil), i.Notes...)
	return i
}
