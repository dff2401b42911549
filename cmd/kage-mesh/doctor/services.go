package doctor

import (
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh/hardware"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/admin"
)

func ollama(f Facts) []Finding {
	o := f.Ollama
	switch {
	case o.Loop:
		return []Finding{failed("kage-mesh join --ollama 127.0.0.1:11434", "The node would send its work in a circle.",
			"a kage-mesh answers at %s, where Ollama should", o.URL)}
	case o.Error == "":
		return passed("%s at %s", orUnknown(o.Version), o.URL)
	case f.self().Role == hardware.RoleRouter:
		return passed("none at %s; this node has the role router and needs none", o.URL)
	case o.Refused:
		return []Finding{failed(startOllama(f.OS), "This node can only pass requests on to others until its own Ollama runs. If it listens elsewhere, say so with --ollama.",
			"nothing listens at %s", o.URL)}
	}
	return []Finding{failed(restartOllama(f.OS), "It listens, and does not answer within its time: it hangs, or another program has its port.",
		"no answer at %s: %s", o.URL, o.Error)}
}

func orUnknown(version string) string {
	if version == "" {
		return "unknown version"
	}
	return version
}

// holes are the known holes of Ollama that matter most to a mesh, by the
// version that closed each.
var holes = []struct {
	fixed [3]int
	text  string
}{
	{[3]int{0, 1, 34}, "CVE-2024-37032, code from a malicious registry, fixed in 0.1.34"},
	{[3]int{0, 17, 1}, "CVE-2026-7482, a crafted model reads other users' prompts, fixed in 0.17.1"},
}

// hole names the hole that a version has, "" for none known. Versions that say
// nothing (0.0.0, of a build by hand) have none.
func hole(version string) string {
	v, ok := release(version)
	if !ok || v == [3]int{} {
		return ""
	}
	for _, h := range holes {
		if slices.Compare(v[:], h.fixed[:]) < 0 {
			return h.text
		}
	}
	return ""
}

// release reads "0.33.0-rc2" or "v0.1.34".
func release(s string) (v [3]int, ok bool) {
	s, _, _ = strings.Cut(strings.TrimPrefix(s, "v"), "-")
	parts := strings.Split(s, ".")
	if len(parts) != 3 {
		return v, false
	}
	for i, p := range parts {
		n, err := strconv.Atoi(p)
		if err != nil || n < 0 {
			return v, false
		}
		v[i] = n
	}
	return v, true
}

func ollamaVersions(f Facts) (out []Finding) {
	add := func(version, os, on string) {
		if h := hole(version); h != "" {
			w := warning(updateOllama(os), "Whoever reaches that Ollama can use the hole. Ollama on loopback is reached by programs on its machine and by the mesh.",
				"Ollama %s has a known hole: %s", version, h)
			w.On = on
			out = append(out, w)
		}
	}
	add(f.Ollama.Version, f.OS, "")
	for _, m := range f.alive() {
		if !m.Self {
			add(m.Ollama, f.osOf(m), m.Name)
		}
	}
	if out == nil && f.Ollama.Version != "" {
		return passed("no known hole in the Ollama versions here")
	}
	return out
}

func ollamaExposed(f Facts) []Finding {
	if len(f.Ollama.Exposed) > 0 {
		return []Finding{warning(unexposeOllama(f.OS),
			"Everybody on the network can use, change and delete its models, past the mesh and its keys. The mesh needs it on loopback only.",
			"Ollama answers the network at %s", strings.Join(f.Ollama.Exposed, ", "))}
	}
	if f.Ollama.Error == "" {
		return passed("Ollama answers this machine only")
	}
	return nil
}

func ports(f Facts) []Finding {
	if f.Node != nil {
		c := f.Node.Checkup
		return passed("clients %s, peers %s, gossip %s, all of this node (pid %d)", c.API, c.Peer, c.Gossip, c.PID)
	}
	var out []Finding
	var free []string
	for _, p := range f.Ports {
		_, port, _ := net.SplitHostPort(p.Addr)
		flag := fmt.Sprintf("kage-mesh join --%s-listen :0", p.What)
		switch {
		case p.Free:
			free = append(free, p.Network+" "+port)
		case p.PID > 0:
			out = append(out, failed(kill(f.OS, p.PID)+"   # or: "+flag, "A node cannot start while another program has one of its ports.",
				"%s port %s (%s) is taken by %s, pid %d", p.What, port, p.Network, p.Process, p.PID))
		default:
			out = append(out, failed(whoHas(f.OS, p.Network, port)+"   # shows who has it\n"+flag, "A node cannot start while another program has one of its ports.",
				"%s port %s (%s): %s", p.What, port, p.Network, p.Error))
		}
	}
	if out == nil && free != nil {
		return passed("free for a node: %s", strings.Join(free, ", "))
	}
	return out
}

func gpus(f Facts) (out []Finding) {
	loaded := 0
	for _, m := range f.alive() {
		if m.GPU == "" || m.GPU == hardware.RoleCPU || m.VRAMTotal == 0 {
			continue
		}
		for _, model := range m.Models {
			if !model.Loaded || model.Cloud {
				continue
			}
			loaded++
			finding := Finding{Level: Passed}
			gpu := m.GPUName
			if gpu == "" {
				gpu = m.GPU + " GPU"
			}
			switch {
			case model.SizeVRAM == 0:
				finding = failed(cpuFix(f.osOf(m), m.GPU), "Ollama did not find the GPU when it started: a driver that was updated or that slept, or missing rights on its device. Answers take ten times as long.",
					"%s: %s runs on the CPU, though there is a %s with %s", m.Name, model.Name, gpu, hardware.FormatSize(m.VRAMTotal))
			case model.SizeVRAM < model.Size/100*95:
				finding = warning("OLLAMA_HOST=127.0.0.1:11434 ollama stop "+model.Name+"   # then load it with a smaller num_ctx, or a smaller quantization",
					"What is not on the GPU runs on the CPU and slows every token.",
					"%s: only %s of %s (%s at least) is on the %s", m.Name, hardware.FormatSize(model.SizeVRAM), model.Name, hardware.FormatSize(model.Size), gpu)
			}
			if finding.Level != Passed {
				finding.On = on(m)
				out = append(out, finding)
			}
		}
	}
	switch self := f.self(); {
	case out != nil:
		return out
	case loaded > 0:
		return passed("every model in memory is on its GPU")
	case self.GPU != "" && self.GPU != hardware.RoleCPU:
		return passed("%s, nothing in memory now", self.GPU)
	}
	return nil
}

func cpuFix(os, vendor string) string {
	if os == "linux" && vendor == string(hardware.NVIDIA) {
		return "sudo systemctl restart ollama   # not enough after a suspend: sudo rmmod nvidia_uvm && sudo modprobe nvidia_uvm, then again"
	}
	if os == "linux" {
		return "sudo usermod -aG render,video ollama && sudo systemctl restart ollama"
	}
	return restartOllama(os)
}

func config(f Facts) (out []Finding) {
	c := f.Config
	if c.Error != "" {
		out = append(out, failed(c.Fix, "A node cannot start with this configuration, or be reloaded.", "%s", c.Error))
	}
	for _, s := range c.Strange {
		name, near, _ := strings.Cut(s, "=")
		fix := "unset " + name
		if near != "" {
			fix = "unset " + name + "; export " + near + "=..."
		}
		out = append(out, warning(fix, "It looks like a setting, and nobody reads it.", "nothing reads the environment variable %s", name))
	}
	for _, s := range staleSettings(f) {
		out = append(out, warning(byOS(f.OS, "sudo systemctl reload-or-restart kage-mesh", restartNode("darwin"), restartNode("windows")),
			"The file was changed after the node started.", "%s", s))
	}
	if out != nil {
		return out
	}
	from := map[string]int{}
	for _, s := range c.Settings {
		switch kind, _, _ := strings.Cut(s.Origin, " "); {
		case s.Name == "config" || s.Origin == "default":
		case kind == "environment":
			from["the environment"]++
		case kind == "flag":
			from["flags"]++
		default:
			from[c.Path]++
		}
	}
	if len(from) == 0 {
		return passed("all defaults, no configuration file")
	}
	var parts []string
	for where, n := range from {
		parts = append(parts, fmt.Sprintf("%d from %s", n, where))
	}
	slices.Sort(parts)
	return passed("settings: %s", strings.Join(parts, ", "))
}

// staleSettings compares what the file says now with what the node runs with,
// where both read the same file.
func staleSettings(f Facts) (out []string) {
	if f.Node == nil || f.Config.Path == "" {
		return nil
	}
	running := map[string]admin.Setting{}
	for _, s := range f.Node.Checkup.Settings {
		running[s.Name] = s
	}
	if running["config"].Value != f.Config.Path {
		return nil
	}
	ofFile := func(s admin.Setting) bool { return strings.HasPrefix(s.Origin, f.Config.Path+":") }
	for _, s := range f.Config.Settings {
		r, ok := running[s.Name]
		if ok && r.Value != s.Value && (ofFile(s) || ofFile(r)) && (ofFile(r) || r.Origin == "default") && (ofFile(s) || s.Origin == "default") {
			out = append(out, fmt.Sprintf("%s is %q in %s, the node runs with %q", s.Name, s.Value, f.Config.Path, r.Value))
		}
	}
	return out
}

// Room that a disk should have, bytes: below the first a pull of the smallest
// useful model fails, below the second one of a common size does.
const (
	diskFull = 1 << 30
	diskLow  = 8 << 30
	stateLow = 16 << 20
)

func disks(f Facts) (out []Finding) {
	var good []string
	for _, d := range f.Disks {
		low := uint64(diskLow)
		if d.What == "state" {
			low = stateLow
		}
		text := fmt.Sprintf("%s free for the %s in %s", hardware.FormatSize(d.Free), d.What, d.Dir)
		fix := byOS(f.OS, "ollama rm MODEL   # 'ollama list' shows their sizes; or: sudo du -xh --max-depth=1 "+d.Dir, "ollama rm MODEL   # 'ollama list' shows their sizes", "ollama rm MODEL   & rem 'ollama list' shows their sizes")
		switch {
		case d.Free == 0: // unknown
		case d.Free >= low:
			good = append(good, text)
		case d.What == "state" || d.Free < diskFull:
			out = append(out, failed(fix, "Pulls fail, and the node cannot keep what it must remember.", "only %s", text))
		default:
			out = append(out, warning(fix, "The next larger model will not fit.", "only %s", text))
		}
	}
	if f.Node != nil {
		for _, n := range f.Node.Models.Nodes {
			if !n.Self && n.FreeDisk > 0 && n.FreeDisk < diskFull {
				w := failed("ollama rm MODEL   # 'ollama list' shows their sizes", "Pulls fail there.", "%s: only %s free for models", n.Name, hardware.FormatSize(n.FreeDisk))
				w.On = n.Name
				out = append(out, w)
			}
		}
	}
	if out == nil && good != nil {
		return passed("%s", strings.Join(good, ", "))
	}
	return out
}

// fewDescriptors is when to warn: each stream through a node takes two, each
// idle client one.
const fewDescriptors = 4096

func descriptors(f Facts) []Finding {
	if f.Node == nil || f.Node.Checkup.DescriptorLimit == 0 {
		return nil
	}
	n := f.Node.Checkup.DescriptorLimit
	if n >= fewDescriptors {
		return passed("the node may open %d files and connections", n)
	}
	return []Finding{warning(
		byOS(f.OS,
			"ulimit -Hn 65536 && kage-mesh join   # as a service: LimitNOFILE=65536 by 'sudo systemctl edit kage-mesh', then sudo systemctl restart kage-mesh",
			"sudo launchctl limit maxfiles 65536 200000   # then start the node again",
			""),
		"Each stream takes two; a node that has none left refuses clients.",
		"the node may open %d files and connections only", n)}
}

func versions(f Facts) (out []Finding) {
	self := f.self()
	if self.Name == "" {
		return nil
	}
	for _, m := range f.alive() {
		if m.Self || m.Version == self.Version {
			continue
		}
		older, where := "", ""
		if compareReleases(m.Version, self.Version) < 0 {
			older, where = m.Name, m.Name
		} else {
			older = "this node"
		}
		w := warning("go install github.com/AI-Prompt-Ops-Kitchen/kage-mesh/cmd/kage-mesh@latest   # or its package, then start the node again",
			"Nodes of neighbouring versions work together; what is new works only where both have it.",
			"%s runs kage-mesh %s, this node %s: update %s", m.Name, orUnknown(m.Version), orUnknown(self.Version), older)
		w.On = where
		out = append(out, w)
	}
	if out == nil {
		return passed("every node runs kage-mesh %s", self.Version)
	}
	return out
}

// compareReleases orders versions; what is no release counts as newest, as a
// build from the sources is.
func compareReleases(a, b string) int {
	x, okX := release(a)
	y, okY := release(b)
	switch {
	case okX && okY:
		return slices.Compare(x[:], y[:])
	case okX:
		return -1
	case okY:
		return 1
	}
	return 0
}

func names(f Facts) (out []Finding) {
	same := map[string][]admin.Member{}
	for _, m := range f.alive() {
		if base, ok := strings.CutSuffix(m.Name, "-"+mesh.NodeID(m.ID).Short()); ok {
			same[base] = append(same[base], m)
		}
	}
	for base, all := range same {
		if len(all) < 2 {
			continue
		}
		last := all[len(all)-1]
		w := warning(fmt.Sprintf("kage-mesh join --name %s-2   # or 'name: %s-2' in its configuration", base, base),
			"Both are told apart by letters of their ids, which nobody remembers; X-Kage-Node needs the whole name.",
			"%d nodes call themselves %s: %s and %s", len(all), base, all[0].Address, last.Address)
		w.On = on(last)
		out = append(out, w)
	}
	slices.SortFunc(out, func(a, b Finding) int { return strings.Compare(a.Evidence, b.Evidence) })
	if out == nil && len(f.alive()) > 1 {
		return passed("every node has a name of its own")
	}
	return out
}
