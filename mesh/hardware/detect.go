package hardware

import (
	"context"
	"fmt"
	"strings"
)

// Detect looks at the machine once and returns what it found. It never fails:
// what cannot be read is unknown, with a sentence in Notes. It takes
// milliseconds, or a few seconds if a sleeping NVIDIA GPU must be woken; ctx
// ends it early.
func Detect(ctx context.Context, s System) Inventory {
	i := Inventory{OS: s.GOOS, Arch: s.GOARCH, Cores: s.CPUs, GPUOverhead: s.gpuOverhead()}
	switch s.GOOS {
	case "linux":
		i.linux(s)
	case "darwin":
		m, _ := s.mac(ctx)
		i.CPU = m.chip
		if m.cores > 0 {
			i.Cores = m.cores
		}
	case "windows":
		if s.CPUName != nil {
			i.CPU = cpuName(s.CPUName())
		}
	}
	i.settle(s.look(ctx, i.Container), s.integratedEnabled())
	if i.WSL {
		i.note("This is WSL: RAM is the virtual machine's share, and an Ollama on the Windows side would use the same GPU.")
	}
	return i
}

// look takes one reading of GPUs and RAM.
func (s System) look(ctx context.Context, container bool) reading {
	r := reading{ram: s.ram(ctx, container)}
	switch s.GOOS {
	case "linux":
		r.devices, r.notes = s.linuxGPUs(ctx)
	case "windows":
		r.devices, r.notes = s.windowsGPUs(ctx)
	case "darwin":
		m, ok := s.mac(ctx)
		if !ok {
			r.notes = append(r.notes, "The GPU is unknown: sysctl cannot be run.")
			break
		}
		g, ok, note := m.gpu()
		r.notes = append(r.notes, note)
		if ok {
			// What Metal has given out is not told. RAM in use is, and every
			// loaded model is part of that.
			g.Free = atMost(r.ram.free, g.VRAM)
			r.devices = append(r.devices, device{GPU: g})
		}
	default:
		r.notes = append(r.notes, "GPUs cannot be read on "+s.GOOS+"; give them with --gpu and --vram.")
	}
	return r
}

func (s System) linuxGPUs(ctx context.Context) (devices []device, notes []string) {
	devices, notes, ok := s.nvidia(ctx)
	if !ok {
		devices = append(devices, s.nvidiaProc()...)
		if len(devices) > 0 && len(notes) == 0 {
			notes = append(notes, "nvidia-smi was not found, so the NVIDIA GPU's memory cannot be read.")
		}
	}
	if board, more, ok := s.jetson(); ok {
		devices = withBoard(devices, board)
		notes = append(notes, more...)
	}
	if len(devices) == 0 {
		buses, ids := s.undriven()
		for k := range buses {
			name := "NVIDIA GPU (" + hex4(ids[k]) + ")"
			devices = append(devices, device{GPU: GPU{Vendor: NVIDIA, Name: name, Bus: buses[k], Unused: true, Source: Detected}})
			if len(notes) == 0 {
				notes = append(notes, name+" has no working NVIDIA driver, so Ollama cannot use it.")
			}
		}
	}
	amd, more := s.amd()
	devices, notes = append(devices, amd...), append(notes, more...)
	return append(devices, s.intel()...), notes
}

func (s System) windowsGPUs(ctx context.Context) (devices []device, notes []string) {
	devices, notes, ok := s.nvidia(ctx)
	if s.Adapters == nil {
		return devices, notes
	}
	adapters, err := s.Adapters()
	if err != nil {
		return devices, append(notes, fmt.Sprintf("Display adapters cannot be read: %v.", err))
	}
	more, why := adapterDevices(adapters, !ok)
	return append(devices, more...), append(notes, why...)
}

// linux fills what only Linux has to say about the machine around us.
func (i *Inventory) linux(s System) {
	text, _ := s.read("/proc/cpuinfo")
	name, logical := cpuInfo(text)
	if name == "" {
		model, _ := s.read("/proc/device-tree/model")
		name = clean(model)
	}
	i.CPU = name
	if i.Cores == 0 {
		i.Cores = logical
	}
	release, _ := s.read("/proc/sys/kernel/osrelease")
	i.WSL = isWSL(release)
	i.Container = s.container()
	if n := s.cgroup(i.Container).cpus; n > 0 && (i.Cores == 0 || n < i.Cores) {
		i.Cores = n
	}
}

func isWSL(release string) bool {
	release = strings.ToLower(release)
	return strings.Contains(release, "microsoft") || strings.Contains(release, "wsl")
}

// container reports whether we run in one: Docker and Podman leave a file,
// systemd-nspawn and LXC a variable, Kubernetes its service address.
func (s System) container() bool {
	if s.exists("/.dockerenv") || s.exists("/run/.containerenv") || s.exists("/run/systemd/container") {
		return true
	}
	if s.getenv("container") != "" || s.getenv("KUBERNETES_SERVICE_HOST") != "" {
		return true
	}
	text, _ := s.read("/proc/1/cgroup")
	for _, word := range []string{"/docker", "/kubepods", "/lxc/", "/containerd", "/libpod"} {
		if strings.Contains(text, word) {
			return true
		}
	}
	return false
}

// Refresh reads the free numbers again and returns i with them; everything else
// stays as Detect found it and Apply changed it. It costs a few file reads,
// plus one nvidia-smi or vm_stat where those are the source; every five to ten
// seconds is fine. A number that cannot be read this time becomes unknown:
// yesterday's free memory is worse than none.
//
// Where a total was configured, what is in use is measured and subtracted from
// the configured total. Free numbers that no reading can give (an adapter on
// Windows, an Intel card) are filled by [Inventory.Learn].
func Refresh(ctx context.Context, s System, i Inventory) Inventory {
	i = i.clone()
	var r reading
	if len(i.used()) > 0 {
		r = s.look(ctx, i.Container)
	} else {
		r.ram = s.ram(ctx, i.Container)
	}
	r.share()
	i.RAMFree = rest(i.RAM, r.ram.total, r.ram.free)

	matched := make([]bool, len(r.devices))
	for k := range i.GPUs {
		g := &i.GPUs[k]
		g.Free = Bytes{}
		for n, d := range r.devices {
			if matched[n] || !same(*g, d.GPU) {
				continue
			}
			matched[n] = true
			g.Free = rest(g.VRAM, d.VRAM, d.Free)
			r.devices[n].Unused = g.Unused
			break
		}
	}
	carved := sub(i.Pool.N, i.RAM.N)
	i.VRAMFree, i.PoolFree = Bytes{}, Bytes{}
	for _, g := range i.used() {
		i.VRAMFree = plus(i.VRAMFree, g.Free)
	}
	if i.Unified {
		i.PoolFree = i.RAMFree
		for n, d := range r.devices {
			if matched[n] && !d.Unused && i.PoolFree.Known() {
				i.PoolFree.N = add(i.PoolFree.N, min(d.carveFree, carved))
			}
		}
		i.PoolFree = atMost(i.PoolFree, i.Pool)
	}
	i.cap()
	return i
}

// rest is what is free of total, given one reading of the real total and free.
func rest(total, real, free Bytes) Bytes {
	if !free.Known() {
		return Bytes{}
	}
	if total.Source == Detected || !total.Known() || !real.Known() {
		return atMost(free, total)
	}
	return detected(sub(total.N, sub(real.N, free.N)))
}

// same reports whether two readings are of the same GPU.
func same(a, b GPU) bool {
	switch {
	case a.Vendor != b.Vendor:
		return false
	case a.UUID != "" && b.UUID != "":
		return a.UUID == b.UUID
	case a.Bus != "" && b.Bus != "":
		return a.Bus == b.Bus
	}
	return a.Name == b.Name || a.Source == Configured
}
