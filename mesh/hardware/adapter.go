package hardware

import (
	"encoding/binary"
	"regexp"
	"strconv"
	"strings"
)

// Adapter is one display adapter as the Windows registry describes it, in the
// class key {4d36e968-e325-11ce-bfc1-08002be10318}.
type Adapter struct {
	Description string // DriverDesc
	DeviceID    string // MatchingDeviceId: PCI\VEN_1002&DEV_744C&...
	Version     string // DriverVersion
	// Memory is HardwareInformation.qwMemorySize as stored: eight bytes little
	// endian, nil if the value is absent. The 32-bit AdapterRAM of WMI and
	// HardwareInformation.MemorySize are of no use: every card of 4 GB and
	// more reads as just under 4 GB, or 2.
	Memory []byte
}

var pciID = regexp.MustCompile(`(?i)VEN_([0-9A-F]{4})&DEV_([0-9A-F]{4})`)

// adapterDevices turns adapters into GPUs; vendors whose GPUs Ollama cannot use
// (virtual displays, Qualcomm) are left out. Free memory is unknown: WDDM does
// not tell it without a running Direct3D device.
func adapterDevices(adapters []Adapter, withNVIDIA bool) (devices []device, notes []string) {
	for _, a := range adapters {
		m := pciID.FindStringSubmatch(a.DeviceID)
		if m == nil {
			continue
		}
		vendor, _ := strconv.ParseUint(m[1], 16, 32)
		id, _ := strconv.ParseUint(m[2], 16, 32)
		g := GPU{Name: adapterName(a.Description), Driver: clean(a.Version), Source: Detected}
		if len(a.Memory) == 8 {
			if n := binary.LittleEndian.Uint64(a.Memory); n > 0 && n <= maxSize {
				g.VRAM = detected(n)
			}
		}
		switch vendor {
		case pciNVIDIA:
			if !withNVIDIA {
				continue
			}
			g.Vendor = NVIDIA
		case pciAMD:
			g.Vendor = AMD
			if id == 0x1586 {
				g.Arch = "gfx1151"
			}
			_, apu, listed := amdKnown(id)
			g.Integrated = apu || (!listed && integratedRadeon(g.Name))
		case pciIntel:
			g.Vendor = Intel
			_, isCard := intelName(id)
			g.Integrated = !isCard && !strings.Contains(g.Name, "Arc A") && !strings.Contains(g.Name, "Arc B") && !strings.Contains(g.Name, "Arc Pro")
		default:
			continue
		}
		d := device{GPU: g}
		if g.Integrated {
			// The registry knows the carve-out alone; what Windows lends
			// beyond it (up to half of RAM) is not counted.
			d.carve = g.VRAM.N
			if g.Vendor == Intel {
				d.carve, d.VRAM = 0, Bytes{}
			}
			if g.Arch == "gfx1151" && g.VRAM.Known() {
				notes = append(notes, "Only the memory set aside for "+g.Name+" is counted ("+FormatSize(g.VRAM.N)+"); Windows may lend it more, give it with --vram.")
			}
		}
		devices = append(devices, d)
	}
	return devices, notes
}

func adapterName(description string) string {
	for _, word := range []string{"(R)", "(TM)", "(r)", "(tm)"} {
		description = strings.ReplaceAll(description, word, "")
	}
	if description = clean(description); description == "" {
		return "unnamed display adapter"
	}
	return description
}

// integratedRadeon knows APUs by what AMD calls them: "AMD Radeon Graphics",
// "AMD Radeon 780M Graphics", "AMD Radeon Vega 8 Graphics".
func integratedRadeon(name string) bool {
	return strings.HasSuffix(name, " Graphics") && !strings.Contains(name, " RX ") && !strings.Contains(name, " Pro ") && !strings.Contains(name, " PRO ")
}
