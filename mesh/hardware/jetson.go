package hardware

import (
	"strconv"
	"strings"
)

// jetson returns the GPU of an NVIDIA Jetson or IGX board, whose memory is all
// of RAM. JetPack 5 has no nvidia-smi, JetPack 6 has one that says [N/A] to
// nearly everything; the device tree knows the board.
func (s System) jetson() (d device, notes []string, ok bool) {
	model, _ := s.read("/proc/device-tree/model")
	release, _ := s.read("/etc/nv_tegra_release")
	family, _ := s.read("/sys/devices/soc0/family")
	d, notes, ok = parseJetson(model, release, family)
	return d, notes, ok
}

// parseJetson judges by the device tree's model, /etc/nv_tegra_release and the
// SoC family.
func parseJetson(model, release, family string) (d device, notes []string, ok bool) {
	model = clean(strings.TrimRight(model, "\x00"))
	board := strings.HasPrefix(model, "NVIDIA ") && jetsonChip(model) != ""
	l4t := parseL4T(release)
	if !board && l4t == "" && family != "Tegra" {
		return device{}, nil, false
	}
	if model == "" {
		model = "NVIDIA Jetson"
	}
	g := GPU{Vendor: NVIDIA, Name: model, Arch: jetsonChip(model), Integrated: true, Source: Detected}
	if l4t != "" {
		g.Driver = "L4T " + l4t
	}
	if major, _, _ := strings.Cut(strings.TrimPrefix(l4t, "R"), "."); major != "" {
		// R35 is JetPack 5, R36 is 6, R38 is 7; Ollama has libraries from 5 on.
		if n, err := strconv.Atoi(major); err == nil && n < 35 {
			g.Unused = true
			notes = append(notes, "L4T "+l4t+" is older than JetPack 5, which Ollama needs to use the GPU.")
		}
	}
	return device{GPU: g, unified: true}, notes, true
}

// jetsonChip is the compute capability by the board's name.
func jetsonChip(model string) string {
	for _, chip := range []struct{ name, compute string }{
		{"Thor", "11.0"}, {"Orin", "8.7"}, {"Xavier", "7.2"}, {"TX2", "6.2"}, {"Nano", "5.3"}, {"TX1", "5.3"},
	} {
		if strings.Contains(model, chip.name) {
			return chip.compute
		}
	}
	return ""
}

// parseL4T reads "# R36 (release), REVISION: 4.3, GCID: ..." as "R36.4.3".
func parseL4T(text string) string {
	line := firstLine(text)
	rest, ok := strings.CutPrefix(line, "# R")
	if !ok {
		return ""
	}
	major, rest, _ := strings.Cut(rest, " ")
	if _, err := strconv.ParseUint(major, 10, 16); err != nil {
		return ""
	}
	_, rest, ok = strings.Cut(rest, "REVISION: ")
	if !ok {
		return "R" + major
	}
	revision, _, _ := strings.Cut(rest, ",")
	return "R" + major + "." + clean(revision)
}

// withBoard merges nvidia-smi's view of a board with the device tree's: one
// GPU, named after the board. A discrete card in an IGX stays beside it.
func withBoard(devices []device, board device) []device {
	for k := range devices {
		if d := &devices[k]; d.Integrated {
			d.Name = board.Name
			d.Unused = d.Unused || board.Unused
			if d.Arch == "" {
				d.Arch = board.Arch
			}
			if board.Driver != "" {
				d.Driver = board.Driver
			}
			return devices
		}
	}
	return append(devices, board)
}
