package hardware

import (
	"strconv"
	"strings"
)

// intel reads Intel's GPUs from sysfs. Free memory of Arc cards is not to be
// had without privileges, so it stays unknown.
func (s System) intel() []device {
	var devices []device
	for _, c := range s.cards() {
		if c.vendor != pciIntel {
			continue
		}
		lmem, _ := s.readUint(c.dir + "/lmem_total_bytes") // i915
		for k := range 8 {                                 // xe, one per tile
			n, ok := s.readUint(c.dir + "/device/tile" + strconv.Itoa(k) + "/physical_vram_size_bytes")
			if !ok {
				break
			}
			lmem = add(lmem, n)
		}
		resource, _ := s.read(c.dir + "/device/resource")
		devices = append(devices, intelDevice(c, lmem, bar2(resource)))
	}
	return devices
}

// intelDevice judges whether a GPU is a card of its own. Card: local memory
// reported, a known card id, or a BAR 2 of 2 GiB or more; processor graphics
// sit at 00:02.0 and have a 256 MiB aperture there. A card without resizable
// BAR shows the same 256 MiB, and then its memory is unknown (an A770 has 8 or
// 16 GB).
func intelDevice(c card, lmem, aperture uint64) device {
	name, isCard := intelName(c.id)
	d := device{GPU: GPU{
		Vendor: Intel, Name: name, Bus: c.bus, Driver: c.driver, Source: Detected,
	}}
	onDie := strings.HasSuffix(c.bus, ":00:02.0")
	big := aperture >= 2*gib && aperture <= maxSize
	d.Integrated = !isCard && lmem == 0 && (onDie || !big)
	if d.Integrated {
		return d
	}
	switch {
	case lmem > 0 && lmem <= maxSize:
		d.VRAM = detected(lmem)
	case big:
		d.VRAM = detected(aperture)
	}
	return d
}

// bar2 is the size of a PCI device's BAR 2 from its sysfs resource file, whose
// lines are "start end flags" per BAR; 0 if absent.
func bar2(resource string) uint64 {
	k := 0
	for line := range strings.Lines(resource) {
		if k++; k != 3 {
			continue
		}
		fields := strings.Fields(line)
		if len(fields) < 2 {
			return 0
		}
		start, err := strconv.ParseUint(fields[0], 0, 64)
		end, err2 := strconv.ParseUint(fields[1], 0, 64)
		if err != nil || err2 != nil || end <= start {
			return 0
		}
		return add(end-start, 1)
	}
	return 0
}

// intelName names a GPU by PCI device id and says whether it is a card.
func intelName(id uint64) (name string, isCard bool) {
	for _, k := range intelNames {
		if k.id == id {
			return "Intel " + k.name, k.isCard
		}
	}
	return "Intel Graphics (" + hex4(id) + ")", false
}

// intelNames are the GPUs worth a name; facts as in Mesa's list of Intel ids.
var intelNames = []struct {
	id     uint64
	name   string
	isCard bool
}{
	{0x56a0, "Arc A770", true},
	{0x56a1, "Arc A750", true},
	{0x56a2, "Arc A580", true},
	{0x56a5, "Arc A380", true},
	{0x56a6, "Arc A310", true},
	{0x5690, "Arc A770M", true},
	{0x5691, "Arc A730M", true},
	{0x5692, "Arc A550M", true},
	{0x5693, "Arc A370M", true},
	{0x5694, "Arc A350M", true},
	{0x56b1, "Arc Pro A40/A50", true},
	{0x56b3, "Arc Pro A60", true},
	{0x56c0, "Data Center GPU Flex 170", true},
	{0x56c1, "Data Center GPU Flex 140", true},
	{0x4905, "Iris Xe MAX", true},
	{0xe20b, "Arc B580", true},
	{0xe20c, "Arc B570", true},
	{0xe202, "Arc B-series (0xe202)", true},
	{0xe20d, "Arc B-series (0xe20d)", true},
	{0xe210, "Arc B-series (0xe210)", true},
	{0xe211, "Arc Pro B60", true},
	{0xe212, "Arc Pro B50", true},
	{0x4680, "UHD Graphics 770", false},
	{0x4690, "UHD Graphics 770", false},
	{0xa780, "UHD Graphics 770", false},
	{0x4682, "UHD Graphics 730", false},
	{0x4692, "UHD Graphics 730", false},
	{0x3e92, "UHD Graphics 630", false},
	{0x3e9b, "UHD Graphics 630", false},
	{0x9bc5, "UHD Graphics 630", false},
	{0x3ea0, "UHD Graphics 620", false},
	{0x5917, "UHD Graphics 620", false},
	{0x9b41, "UHD Graphics", false},
	{0x5912, "HD Graphics 630", false},
	{0x5916, "HD Graphics 620", false},
	{0x1912, "HD Graphics 530", false},
	{0x1916, "HD Graphics 520", false},
	{0x9a40, "Iris Xe Graphics", false},
	{0x9a49, "Iris Xe Graphics", false},
	{0x46a6, "Iris Xe Graphics", false},
	{0x46a8, "Iris Xe Graphics", false},
	{0xa7a0, "Iris Xe Graphics", false},
	{0xa7a1, "Iris Xe Graphics", false},
	{0x46d0, "UHD Graphics (N-series)", false},
	{0x46d1, "UHD Graphics (N-series)", false},
	{0x46d2, "UHD Graphics (N-series)", false},
	{0x7d55, "Arc Graphics (Meteor Lake)", false},
	{0x7d45, "Graphics (Meteor Lake)", false},
	{0x7d51, "Arc Graphics (Arrow Lake)", false},
	{0x64a0, "Arc Graphics (Lunar Lake)", false},
}
