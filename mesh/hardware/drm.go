package hardware

import (
	"fmt"
	"path"
	"regexp"
	"strconv"
	"strings"
)

// card is one display device that the kernel's DRM subsystem knows.
type card struct {
	dir      string // /sys/class/drm/card0
	vendor   uint64 // PCI: 0x1002 AMD, 0x8086 Intel, 0x10de NVIDIA
	id       uint64 // PCI device id
	revision uint64
	bus      string // PCI address
	driver   string // amdgpu, i915, xe, nouveau, ...
}

// PCI vendor numbers.
const (
	pciAMD    = 0x1002
	pciIntel  = 0x8086
	pciNVIDIA = 0x10de
)

var cardName = regexp.MustCompile(`^card\d+$`)

// cards lists display devices. card0-DP-1 and the like are connectors.
func (s System) cards() []card {
	var cards []card
	for _, name := range s.list("/sys/class/drm") {
		if !cardName.MatchString(name) {
			continue
		}
		c := card{dir: "/sys/class/drm/" + name}
		var ok bool
		if c.vendor, ok = s.readUint(c.dir + "/device/vendor"); !ok {
			continue // not on a PCI bus
		}
		c.id, _ = s.readUint(c.dir + "/device/device")
		c.revision, _ = s.readUint(c.dir + "/device/revision")
		text, _ := s.read(c.dir + "/device/uevent")
		c.driver, c.bus = parseUevent(text)
		cards = append(cards, c)
	}
	return cards
}

// parseUevent reads a device's driver and PCI address.
func parseUevent(text string) (driver, bus string) {
	for line := range strings.Lines(text) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		switch key {
		case "DRIVER":
			driver = clean(value)
		case "PCI_SLOT_NAME":
			bus = clean(value)
		}
	}
	return driver, bus
}

// location packs a PCI address the way KFD's location_id does: bus, device and
// function in 16 bits.
func location(bus string) (domain, id uint64, ok bool) {
	var d, b, dev, fn uint64
	if n, err := fmt.Sscanf(bus, "%x:%x:%x.%x", &d, &b, &dev, &fn); n != 4 || err != nil {
		return 0, 0, false
	}
	return d, b<<8 | dev<<3 | fn, true
}

// undriven finds NVIDIA display devices on the PCI bus, for the note that a
// driver is missing; it reads no memory.
func (s System) undriven() (buses []string, ids []uint64) {
	for _, dir := range s.list("/sys/bus/pci/devices") {
		base := path.Join("/sys/bus/pci/devices", dir)
		class, _ := s.readUint(base + "/class")
		vendor, _ := s.readUint(base + "/vendor")
		if class>>16 != 0x03 || vendor != pciNVIDIA {
			continue
		}
		id, _ := s.readUint(base + "/device")
		text, _ := s.read(base + "/uevent")
		_, bus := parseUevent(text)
		buses, ids = append(buses, bus), append(ids, id)
	}
	return buses, ids
}

func hex4(id uint64) string { return "0x" + fmt.Sprintf("%04x", id) }

// properties reads lines of "key number", as in KFD's topology.
func properties(text string) map[string]uint64 {
	m := map[string]uint64{}
	for line := range strings.Lines(text) {
		key, value, ok := strings.Cut(strings.TrimSpace(line), " ")
		if !ok {
			continue
		}
		if n, err := strconv.ParseUint(strings.TrimSpace(value), 10, 64); err == nil {
			m[key] = n
		}
	}
	return m
}
