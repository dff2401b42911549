package hardware

import (
	"fmt"
	"slices"
)

// amd reads AMD's GPUs from sysfs: memory from the amdgpu driver, the
// architecture from the compute driver's (KFD) topology.
func (s System) amd() (devices []device, notes []string) {
	var nodes []kfdNode
	for _, c := range s.cards() {
		if c.vendor != pciAMD {
			continue
		}
		if nodes == nil {
			nodes = s.kfd()
		}
		node := nodeAt(nodes, c.bus)
		m := s.amdMemory(c.dir)
		d := amdDevice(c, node, m)
		devices = append(devices, d)
		switch {
		case c.driver != "" && c.driver != "amdgpu":
			notes = append(notes, d.Name+" runs on the driver "+c.driver+", which reports no memory.")
		case !m.vram.Known():
			notes = append(notes, "The amdgpu driver reports no memory for "+d.Name+".")
		}
	}
	return devices, notes
}

// amdMemory is what the amdgpu driver says of one card. GTT is RAM that the
// GPU may map.
type amdMemory struct {
	vram, vramUsed, gtt, gttUsed Bytes
}

func (s System) amdMemory(dir string) amdMemory {
	get := func(name string) Bytes {
		n, ok := s.readUint(dir + "/device/" + name)
		if !ok || n > maxSize {
			return Bytes{}
		}
		return detected(n)
	}
	return amdMemory{
		vram: get("mem_info_vram_total"), vramUsed: get("mem_info_vram_used"),
		gtt: get("mem_info_gtt_total"), gttUsed: get("mem_info_gtt_used"),
	}
}

// amdDevice puts one card together. A discrete card has its VRAM. An APU has
// the firmware's carve-out (VRAM) and what the driver may map of RAM (GTT):
// counting one of them alone showed a 128 GB Ryzen AI MAX+ 395 as 512 MiB, or
// as 16 GiB of 112, in Ollama, nvtop and LocalAI.
func amdDevice(c card, node kfdNode, m amdMemory) device {
	d := device{GPU: GPU{
		Vendor: AMD, Name: amdName(c.id, c.revision), Arch: node.gfx, UUID: node.uuid,
		Bus: c.bus, Driver: c.driver, Source: Detected,
	}}
	d.Integrated = isAPU(c.id, node.gfx, m)
	d.VRAM, d.Free = m.vram, left(m.vram, m.vramUsed)
	if !d.Integrated {
		return d
	}
	d.carve, d.carveFree = m.vram.N, d.Free.N
	d.VRAM = plus(m.vram, m.gtt)
	gttFree := left(m.gtt, m.gttUsed)
	if d.Free.Known() && gttFree.Known() {
		d.Free = plus(d.Free, gttFree)
	} else {
		d.Free = Bytes{}
	}
	return d
}

func left(total, used Bytes) Bytes {
	if !total.Known() || !used.Known() {
		return Bytes{}
	}
	return detected(sub(total.N, used.N))
}

// apuChips are the architectures that exist only inside a processor.
var apuChips = []string{
	"gfx902", "gfx909", "gfx90c", "gfx1013", "gfx1033", "gfx1035", "gfx1036", "gfx1037",
	"gfx1103", "gfx1150", "gfx1151", "gfx1152", "gfx1153",
}

// isAPU judges by architecture, then by device id, then by the shape of the
// memory: GTT many times VRAM is an APU with a small carve-out. The last rule
// alone misses large carve-outs (96 GiB VRAM, 16 GiB GTT).
func isAPU(id uint64, gfx string, m amdMemory) bool {
	if gfx != "" {
		return slices.Contains(apuChips, gfx)
	}
	if _, integrated, ok := amdKnown(id); ok {
		return integrated
	}
	return m.vram.Known() && m.gtt.Known() && m.vram.N > 0 && m.gtt.N/8 >= m.vram.N
}

// kfdNode is one GPU of /sys/class/kfd/kfd/topology/nodes.
type kfdNode struct {
	gfx, uuid        string
	domain, location uint64
}

func (s System) kfd() []kfdNode {
	const dir = "/sys/class/kfd/kfd/topology/nodes"
	nodes := []kfdNode{}
	for _, name := range s.list(dir) {
		text, _ := s.read(dir + "/" + name + "/properties")
		if n, ok := parseKFD(text); ok {
			nodes = append(nodes, n)
		}
	}
	return nodes
}

// parseKFD reads one node's properties; false for CPU nodes. The version is
// decimal major*10000 + minor*100 + step, and the name writes minor and step
// as single hex digits: 110501 is gfx1151, 90010 is gfx90a.
func parseKFD(text string) (kfdNode, bool) {
	p := properties(text)
	v := p["gfx_target_version"]
	if v == 0 || v > 999999 || v/100%100 > 15 || v%100 > 15 {
		return kfdNode{}, false
	}
	n := kfdNode{
		gfx:    fmt.Sprintf("gfx%d%x%x", v/10000, v/100%100, v%100),
		domain: p["domain"], location: p["location_id"],
	}
	if id := p["unique_id"]; id != 0 {
		n.uuid = fmt.Sprintf("GPU-%016x", id)
	}
	return n, true
}

func nodeAt(nodes []kfdNode, bus string) kfdNode {
	domain, loc, ok := location(bus)
	if ok {
		for _, n := range nodes {
			if n.location == loc && n.domain == domain {
				return n
			}
		}
	}
	return kfdNode{}
}

// amdName names a card by PCI device and revision, or says what it is by
// number: a wrong name would be worse than none.
func amdName(id, revision uint64) string {
	for _, k := range amdNames {
		if k.id == id && (k.revision == anyRevision || k.revision == revision) {
			return "AMD " + k.name
		}
	}
	if name, _, ok := amdKnown(id); ok {
		return "AMD " + name
	}
	return "AMD Radeon (" + hex4(id) + ")"
}

// amdKnown finds what all revisions of a device have in common.
func amdKnown(id uint64) (name string, integrated, ok bool) {
	for _, f := range amdFamilies {
		if f.id == id {
			return f.name, f.apu, true
		}
	}
	return "", false, false
}
