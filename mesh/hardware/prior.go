package hardware

import "regexp"

// Bounds of what a prior says, in tokens per second. Tiny models are bound by
// fixed cost per token, not by memory: the formula gives a 3B model 104 tok/s
// on a Ryzen AI MAX+ 395 where 73 were measured.
const (
	maxDecode  = 400
	maxPrefill = 10000
	minRate    = 0.05
)

// priorWeights stands in for weights of unknown size: a 14B model in Q4.
const priorWeights = 9 * gb

// cpuEfficiency is the part of RAM bandwidth that llama.cpp's CPU code reaches,
// and cpuPrefill its prompt tokens per written token. Beside a GPU the layers
// in RAM are copied to it batch by batch while a prompt is read, which takes
// the time of about one written token per batch or less; assistedPrefill is
// taken low, for prompts much shorter than a batch.
const (
	cpuEfficiency   = 0.85
	cpuPrefill      = 4
	assistedPrefill = 12
)

// Prior is a first guess of how fast a model of the given size runs here, in
// tokens per second written (decode) and read (prefill), with share of the
// weights on the GPU as CouldRun returned it. For mixtures of experts pass the
// active part of the weights. It is an estimate to order nodes by until there
// are measurements, and nothing else.
//
// Writing a token reads all weights once, so with sizes in bytes and bandwidth
// in bytes per second
//
//	decode = 1 / (W_gpu / (e * BW_gpu) + W_cpu / (0.85 * BW_ram))
//
// where e is 0.95 for NVIDIA cards and less for others (see family). Checked
// against the measured seed cluster: RTX 4090 32B 48.2 (48.3 measured), 72B
// with half of it in DDR5 2.9 (2.8), Ryzen AI MAX+ 395 32B 10.2 (10), 72B 3.3
// to 4.3 by the unknown split (2.9). Prefill is bound by compute; it is the same formula with each
// part sped up by a measured ratio.
//
// What is unknown is taken low: an unlisted card has the bandwidth of a small
// one of its maker, an unlisted processor one memory channel. The results are
// always finite and above 0.
func Prior(i Inventory, weights uint64, share float64) (decode, prefill float64) {
	w := float64(weights)
	if weights == 0 {
		w = priorWeights
	}
	if !(share > 0) {
		share = 0
	}
	share = min(share, 1)

	gpu := i.gpuSpeed()
	ram := i.ramSpeed()
	onGPU := w * share / (gpu.efficiency * gpu.gbps * gb)
	onCPU := w * (1 - share) / (cpuEfficiency * ram * gb)
	decode = 1 / (onGPU + onCPU)
	cpu := float64(cpuPrefill)
	if share > 0 {
		cpu = assistedPrefill
	}
	prefill = 1 / (onGPU/gpu.prefill + onCPU/cpu)
	return clamp(decode, minRate, maxDecode), clamp(prefill, minRate, maxPrefill)
}

// gpuSpeed is what the GPUs of the main vendor do together. A model over
// several of them is read one after the other, so times add up, weighted by
// memory.
func (i Inventory) gpuSpeed() family {
	kind := Vendor(i.GPUKind())
	var seconds, size float64
	f := familyOf(GPU{})
	for _, g := range i.used() {
		if g.Vendor != kind {
			continue
		}
		f = familyOf(g)
		n := max(float64(g.VRAM.N), 1)
		seconds, size = seconds+n/g.bandwidth(), size+n
	}
	if seconds > 0 {
		f.gbps = size / seconds
	}
	return f
}

// migProfile finds the compute slices, of seven, in a MIG instance's name.
var migProfile = regexp.MustCompile(` MIG (?:\d+c\.)?(\d)g\.`)

// bandwidth is one GPU's, by name or by what is usual for its maker.
func (g GPU) bandwidth() float64 {
	gbps := familyOf(g).gbps
	if p, ok := partOf(g.Name); ok {
		gbps = p.gbps
	}
	if m := migProfile.FindStringSubmatch(g.Name); m != nil && m[1] != "0" {
		gbps *= float64(m[1][0]-'0') / 7
	}
	return gbps
}

// ramSpeed is the bandwidth the CPU has in GB/s.
func (i Inventory) ramSpeed() float64 {
	names := []string{i.CPU}
	if i.Unified {
		for _, g := range i.used() {
			names = append(names, g.Name)
		}
	}
	for _, name := range names {
		if p, ok := partOf(name); ok && p.unified {
			// The cores of a wide chip reach about half of what its GPU does;
			// those of an ordinary one all of it.
			return max(p.gbps/2, min(p.gbps, 83))
		}
	}
	return cpuBandwidth(i.CPU, i.Cores)
}

func clamp(v, low, high float64) float64 {
	if !(v >= low) {
		return low
	}
	return min(v, high)
}
