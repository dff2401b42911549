package hardware

import (
	"context"
	"regexp"
	"strconv"
	"strings"
)

// A GPU in MIG mode is cut into instances with memory of their own; nvidia-smi
// still reports the whole card, whose memory no single model can have. The
// list (-L) names the instances by profile, and the profile names the memory:
// "3g.20gb" has 19,968 MiB. We take the decimal gigabytes of the name, which
// is the lower bound for every profile (20e9 of 20.9e9).
var (
	migParent   = regexp.MustCompile(`^GPU \d+: .*\(UUID: (GPU-[^)]+)\)`)
	migInstance = regexp.MustCompile(`^MIG (\S*?(\d+)gb\S*)\s+Device\s+\d+: \(UUID: (MIG-[^)]+)\)`)
)

// migSlice is one MIG instance in the output of nvidia-smi -L.
type migSlice struct {
	parent, profile, uuid string
	bytes                 uint64
}

// parseMIG reads nvidia-smi -L.
func parseMIG(out string) []migSlice {
	var slices []migSlice
	parent := ""
	for line := range strings.Lines(out) {
		line = strings.TrimSpace(line)
		if m := migParent.FindStringSubmatch(line); m != nil {
			parent = clean(m[1])
		}
		m := migInstance.FindStringSubmatch(line)
		if m == nil {
			continue
		}
		n, err := strconv.ParseUint(m[2], 10, 32)
		if err != nil || n == 0 || n > 1<<12 {
			continue
		}
		slices = append(slices, migSlice{parent: parent, profile: clean(m[1]), uuid: clean(m[3]), bytes: n * gb})
	}
	return slices
}

// mig returns the instances of one GPU in MIG mode, with free memory unknown.
func (s System) mig(ctx context.Context, smi string, whole GPU) (devices []device, notes []string) {
	ctx, cancel := context.WithTimeout(ctx, smiTimeout)
	defer cancel()
	out, err := s.run(ctx, smi, "-L")
	if err == nil {
		for _, slice := range parseMIG(string(out)) {
			if slice.parent != whole.UUID {
				continue
			}
			g := whole
			g.Name, g.UUID = clean(whole.Name+" MIG "+slice.profile), slice.uuid
			g.VRAM, g.Free = detected(slice.bytes), Bytes{}
			devices = append(devices, device{GPU: g})
		}
	}
	if len(devices) > 0 {
		return devices, nil
	}
	whole.Unused = true
	whole.VRAM, whole.Free = Bytes{}, Bytes{}
	return []device{{GPU: whole}}, []string{whole.Name + " is in MIG mode and has no instance that can be seen."}
}

// firstSlice leaves only the first MIG instance in use: a CUDA process sees
// one instance, whatever the machine has.
func firstSlice(devices []device) (notes []string) {
	seen := 0
	for k := range devices {
		if !strings.HasPrefix(devices[k].UUID, "MIG-") {
			continue
		}
		if seen++; seen > 1 {
			devices[k].Unused = true
		}
	}
	if seen > 1 {
		notes = append(notes, "A process sees one MIG instance; only the first of "+strconv.Itoa(seen)+" is counted.")
	}
	return notes
}
