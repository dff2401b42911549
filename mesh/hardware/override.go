package hardware

import (
	"errors"
	"fmt"
	"strings"
)

// Overrides are what a user says about the machine, by flag or config file.
// Zero fields leave the detected value. What a user says is marked Configured
// and survives every Refresh.
type Overrides struct {
	// GPU names the GPU to count: a vendor ("amd"), a model ("RTX 4090"), or
	// "none" to count no GPU at all.
	GPU string
	// VRAM is what models may use over all GPUs, in bytes.
	VRAM uint64
	// RAM is what the operating system has, in bytes.
	RAM uint64
	// Role is gpu, cpu or router. It is a label: what fits does not follow
	// from it.
	Role string
}

// ErrOverride is wrapped by every error of [Overrides.Validate].
var ErrOverride = errors.New("hardware: bad override")

// Validate reports the first value that makes no sense.
func (o Overrides) Validate() error {
	switch strings.ToLower(o.Role) {
	case "", RoleGPU, RoleCPU, RoleRouter:
	default:
		return fmt.Errorf("%w: role %q is none of gpu, cpu, router", ErrOverride, clean(o.Role))
	}
	if o.GPU != "" && clean(o.GPU) == "" {
		return fmt.Errorf("%w: gpu has no printable name", ErrOverride)
	}
	if o.VRAM > maxSize || o.RAM > maxSize {
		return fmt.Errorf("%w: more than %s of memory", ErrOverride, FormatSize(maxSize))
	}
	if noGPU(o.GPU) && o.VRAM > 0 {
		return fmt.Errorf("%w: vram is given, but gpu is none", ErrOverride)
	}
	return nil
}

// Apply returns i with the user's word in place of what was detected.
func (i Inventory) Apply(o Overrides) Inventory {
	i = i.clone()
	carved := sub(i.Pool.N, i.RAM.N) // what the firmware keeps outside RAM
	carvedFree := sub(i.PoolFree.N, i.RAMFree.N)
	if o.Role != "" {
		i.Role, i.RoleSource = strings.ToLower(o.Role), Configured
	}
	if o.RAM > 0 {
		used, ok := inUse(i.RAM, i.RAMFree)
		i.RAM, i.RAMFree = Bytes{N: o.RAM, Source: Configured}, remaining(o.RAM, used, ok)
	}
	switch {
	case noGPU(o.GPU):
		for k := range i.GPUs {
			i.GPUs[k].Unused = true
		}
	case o.GPU != "":
		i.choose(clean(o.GPU))
	}
	if o.VRAM > 0 && !noGPU(o.GPU) {
		i.spread(o.VRAM)
	}
	i.tally()
	if noGPU(o.GPU) { // known to be none, so that Learn does not find one
		i.VRAM, i.VRAMFree = Bytes{Source: Configured}, Bytes{Source: Configured}
	}
	if i.Unified {
		i.Pool, i.PoolFree = i.RAM, i.RAMFree
		if i.Pool.Known() {
			// A user who grants the GPU more than RAM knows of memory that
			// the operating system does not see.
			more := sub(i.VRAM.N, add(i.RAM.N, carved))
			i.Pool.N = add(i.Pool.N, add(carved, more))
			carvedFree = add(carvedFree, more)
		}
		if i.PoolFree.Known() {
			i.PoolFree.N = add(i.PoolFree.N, carvedFree)
		}
	}
	i.cap()
	return i
}

func noGPU(name string) bool {
	switch strings.ToLower(strings.TrimSpace(name)) {
	case "none", "no", "off", "cpu":
		return true
	}
	return false
}

// choose makes the named GPU the one that counts. A detected GPU of that vendor
// is taken, and renamed if the user gave another model; otherwise the GPU is
// added with nothing but its name.
func (i *Inventory) choose(name string) {
	vendor := vendorOf(name)
	model := !strings.EqualFold(name, string(vendor))
	chosen := i.matching(func(g GPU) bool { return vendor != "" && g.Vendor == vendor })
	if model && len(chosen) > 0 {
		named := i.matching(func(g GPU) bool { return g.Vendor == vendor && mentions(g.Name, name) })
		if len(named) == 0 {
			named = i.preferred(chosen)[:1]
			i.GPUs[named[0]].Name = name
		}
		chosen = named
	} else {
		chosen = i.preferred(chosen)
	}
	for k := range i.GPUs {
		i.GPUs[k].Unused = true
	}
	for _, k := range chosen {
		i.GPUs[k].Unused, i.GPUs[k].Source = false, Configured
	}
	if len(chosen) > 0 {
		return
	}
	g := GPU{Vendor: vendor, Name: name, Source: Configured, Integrated: vendor == Apple || sharesRAM(name)}
	if !model {
		g.Name = ""
	}
	i.GPUs = append(i.GPUs, g)
}

func (i *Inventory) matching(ok func(GPU) bool) (at []int) {
	for k, g := range i.GPUs {
		if ok(g) {
			at = append(at, k)
		}
	}
	return at
}

// preferred keeps the GPUs that count already, all if none does.
func (i *Inventory) preferred(at []int) []int {
	var used []int
	for _, k := range at {
		if !i.GPUs[k].Unused {
			used = append(used, k)
		}
	}
	if len(used) == 0 {
		return at
	}
	return used
}

func mentions(full, part string) bool {
	return strings.Contains(strings.ToLower(full), strings.ToLower(part))
}

// vendorOf guesses the vendor from a name a person would type.
func vendorOf(name string) Vendor {
	n := " " + strings.ToLower(name) + " "
	for _, v := range []struct {
		vendor Vendor
		words  []string
	}{
		{NVIDIA, []string{"nvidia", "geforce", "rtx", "gtx", "tesla", "quadro", "jetson", "orin", "gb10", "dgx", " a100", " h100", " h200", " l40", " l4 ", " v100"}},
		{AMD, []string{"amd", "radeon", "ryzen", "instinct", " rx", "strix"}},
		{Apple, []string{"apple", " m1", " m2", " m3", " m4", " m5"}},
		{Intel, []string{"intel", " arc", "iris"}},
	} {
		for _, w := range v.words {
			if strings.Contains(n, w) {
				return v.vendor
			}
		}
	}
	return ""
}

// sharesRAM knows the parts without memory of their own by name.
func sharesRAM(name string) bool {
	if onChip.MatchString(name) {
		return true
	}
	n := strings.ToLower(name)
	for _, w := range []string{"ryzen", "8060s", "8050s", "8040s", "890m", "880m", "860m", "780m", "760m", "680m", "jetson", "dgx spark", "iris", "uhd"} {
		if strings.Contains(n, w) {
			return true
		}
	}
	return false
}

// spread divides a configured total over the GPUs that count, in proportion to
// what was detected, evenly if nothing was. Without any GPU it makes one.
func (i *Inventory) spread(vram uint64) {
	var at []int
	var sum uint64
	everyKnown := true
	for k, g := range i.GPUs {
		if g.Unused {
			continue
		}
		at = append(at, k)
		sum = add(sum, g.VRAM.N)
		everyKnown = everyKnown && g.VRAM.Known()
	}
	if len(at) == 0 {
		i.GPUs = append(i.GPUs, GPU{Source: Configured, VRAM: Bytes{N: vram, Source: Configured}})
		return
	}
	given := uint64(0)
	for n, k := range at {
		g := &i.GPUs[k]
		part := vram / uint64(len(at))
		if everyKnown && sum > 0 {
			part = uint64(float64(vram) * (float64(g.VRAM.N) / float64(sum)))
		}
		if n == len(at)-1 {
			part = sub(vram, given)
		}
		part = min(part, sub(vram, given))
		given += part
		used, ok := inUse(g.VRAM, g.Free)
		g.VRAM, g.Free = Bytes{N: part, Source: Configured}, remaining(part, used, ok)
	}
}

// inUse is what is used of a total; ok is false if that is unknown.
func inUse(total, free Bytes) (used uint64, ok bool) {
	return sub(total.N, free.N), total.Known() && free.Known()
}

func remaining(total, used uint64, ok bool) Bytes {
	if !ok {
		return Bytes{}
	}
	return detected(sub(total, used))
}
