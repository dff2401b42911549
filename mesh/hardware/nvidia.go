package hardware

import (
	"context"
	"encoding/csv"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// smiTimeout bounds one call of nvidia-smi. An idle GPU without persistence
// mode takes one to two seconds to wake; a hung driver never answers.
const smiTimeout = 3 * time.Second

// What we ask nvidia-smi, and what drivers before 470 understand of it.
var (
	smiFields    = []string{"index", "uuid", "pci.bus_id", "name", "memory.total", "memory.free", "driver_version", "compute_cap", "mig.mode.current"}
	smiOldFields = smiFields[:7]
)

// smiPaths are where nvidia-smi is when it is not in PATH: a service's PATH
// lacks WSL's directory, and containers get the file mounted anywhere.
var smiPaths = []string{
	"/usr/lib/wsl/lib/nvidia-smi",
	"/usr/bin/nvidia-smi",
	"/usr/local/nvidia/bin/nvidia-smi",
	"/run/current-system/sw/bin/nvidia-smi",
	"/opt/nvidia/bin/nvidia-smi",
}

// smi finds nvidia-smi, "" if there is none.
func (s System) smi() string {
	if s.LookPath != nil {
		if p, err := s.LookPath("nvidia-smi"); err == nil {
			return p
		}
	}
	if s.GOOS == "windows" {
		root := s.getenv("SystemRoot")
		if root == "" {
			root = `C:\Windows`
		}
		programs := s.getenv("ProgramFiles")
		if programs == "" {
			programs = `C:\Program Files`
		}
		for _, p := range []string{root + `\System32\nvidia-smi.exe`, programs + `\NVIDIA Corporation\NVSMI\nvidia-smi.exe`} {
			if s.exists(p) {
				return p
			}
		}
		return ""
	}
	for _, p := range smiPaths {
		if s.exists(p) {
			return p
		}
	}
	return ""
}

// nvidia reads NVIDIA's GPUs through nvidia-smi. ok is false if nvidia-smi is
// missing or failed, so that weaker sources are worth a look.
func (s System) nvidia(ctx context.Context) (devices []device, notes []string, ok bool) {
	smi := s.smi()
	if smi == "" {
		return nil, nil, false
	}
	fields := smiFields
	out, err := s.query(ctx, smi, fields)
	if err != nil && ctx.Err() == nil && strings.Contains(string(out)+err.Error(), "not a valid field") {
		fields = smiOldFields
		out, err = s.query(ctx, smi, fields)
	}
	said := firstLine(string(out))
	if strings.HasPrefix(said, "No devices were found") {
		return nil, nil, false
	}
	if err != nil {
		if said == "" {
			said = err.Error()
		}
		return nil, []string{"nvidia-smi failed: " + said}, false
	}
	rows, bad := parseSMI(string(out), fields)
	if bad > 0 {
		notes = append(notes, "nvidia-smi printed "+strconv.Itoa(bad)+" lines that could not be read.")
	}
	devices, more := s.smiDevices(ctx, smi, rows)
	return devices, append(notes, more...), len(rows) > 0
}

func (s System) query(ctx context.Context, smi string, fields []string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, smiTimeout)
	defer cancel()
	return s.run(ctx, smi, "--query-gpu="+strings.Join(fields, ","), "--format=csv,noheader,nounits")
}

// smiRow is one line of nvidia-smi's answer.
type smiRow struct {
	uuid, bus, name, driver, compute string
	total, free                      Bytes
	mig                              bool
}

// parseSMI reads nvidia-smi's CSV without header and units. Lines that are not
// rows (warnings go to standard output too) are counted, not fatal. A comma in
// a name is read whether or not nvidia-smi quoted it.
func parseSMI(out string, fields []string) (rows []smiRow, bad int) {
	name := slices.Index(fields, "name")
	for line := range strings.Lines(out) {
		if strings.TrimSpace(line) == "" {
			continue
		}
		r := csv.NewReader(strings.NewReader(line))
		r.TrimLeadingSpace, r.LazyQuotes, r.FieldsPerRecord = true, true, -1
		cells, err := r.Read()
		if err != nil || len(cells) < len(fields) {
			bad++
			continue
		}
		if extra := len(cells) - len(fields); extra > 0 && name >= 0 {
			joined := strings.Join(cells[name:name+extra+1], ", ")
			cells = slices.Concat(cells[:name], []string{joined}, cells[name+extra+1:])
		}
		var row smiRow
		index := ""
		for k, field := range fields {
			v := clean(cells[k])
			switch field {
			case "index":
				index = v
			case "uuid":
				row.uuid = known(v)
			case "pci.bus_id":
				row.bus = pciAddress(known(v))
			case "name":
				row.name = nvidiaName(v)
			case "memory.total":
				row.total = mebibytes(v)
			case "memory.free":
				row.free = mebibytes(v)
			case "driver_version":
				row.driver = known(v)
			case "compute_cap":
				row.compute = known(v)
			case "mig.mode.current":
				row.mig = v == "Enabled"
			}
		}
		if _, err := strconv.Atoi(index); err != nil || row.name == "" {
			bad++
			continue
		}
		rows = append(rows, row)
	}
	return rows, bad
}

// known turns nvidia-smi's many ways to say nothing into "": [N/A], N/A,
// [Not Supported], [Unknown Error], [GPU is lost], [Insufficient Permissions].
func known(v string) string {
	if v == "N/A" || strings.HasPrefix(v, "[") {
		return ""
	}
	return v
}

func mebibytes(v string) Bytes {
	n, err := strconv.ParseUint(strings.TrimSuffix(known(v), " MiB"), 10, 64)
	if err != nil || n > maxSize/mib {
		return Bytes{}
	}
	return detected(n * mib)
}

// pciAddress brings nvidia-smi's eight-digit domain to sysfs's four:
// 00000000:01:00.0 is 0000:01:00.0.
func pciAddress(bus string) string {
	bus = strings.ToLower(bus)
	if domain, rest, ok := strings.Cut(bus, ":"); ok && len(domain) == 8 && strings.HasPrefix(domain, "0000") {
		return domain[4:] + ":" + rest
	}
	return bus
}

func nvidiaName(v string) string {
	if v = known(v); v == "" || strings.HasPrefix(strings.ToUpper(v), "NVIDIA") {
		return v
	}
	return clean("NVIDIA " + v)
}

// onChip are the NVIDIA parts whose memory is the machine's RAM. nvidia-smi
// says [N/A] there or, on some, a fraction. A discrete card that says [N/A] is
// lost, and its memory unknown, so the list is of names.
var onChip = regexp.MustCompile(`\b(GB10|Thor|Orin|Xavier|Tegra|N1X?)\b`)

// smiDevices turns rows into GPUs.
func (s System) smiDevices(ctx context.Context, smi string, rows []smiRow) (devices []device, notes []string) {
	for _, row := range rows {
		g := GPU{
			Vendor: NVIDIA, Name: row.name, Arch: row.compute, UUID: row.uuid,
			Bus: row.bus, Driver: row.driver, VRAM: row.total, Free: row.free, Source: Detected,
		}
		switch {
		case onChip.MatchString(row.name):
			g.Integrated = true
			devices = append(devices, device{GPU: g, unified: true})
		case row.mig:
			slices, note := s.mig(ctx, smi, g)
			devices = append(devices, slices...)
			notes = append(notes, note...)
		default:
			devices = append(devices, device{GPU: g})
		}
	}
	notes = append(notes, firstSlice(devices)...)
	for k := range devices {
		if d := &devices[k]; tooOld(d.Arch) {
			d.Unused = true
			notes = append(notes, d.Name+" has compute capability "+d.Arch+"; Ollama needs 5.0.")
		}
	}
	return devices, notes
}

// tooOld reports a compute capability below 5.0, which Ollama does not serve.
func tooOld(compute string) bool {
	v, err := strconv.ParseFloat(compute, 64)
	return err == nil && v < 5
}

// nvidiaProc lists GPUs that the kernel module knows, for when nvidia-smi is
// not there or fails: names without memory.
func (s System) nvidiaProc() []device {
	var devices []device
	for _, dir := range s.list("/proc/driver/nvidia/gpus") {
		text, ok := s.read("/proc/driver/nvidia/gpus/" + dir + "/information")
		if !ok {
			continue
		}
		if g := parseNVIDIAProc(text); g.Name != "" {
			devices = append(devices, device{GPU: g, unified: g.Integrated})
		}
	}
	return devices
}

func parseNVIDIAProc(text string) GPU {
	g := GPU{Vendor: NVIDIA, Source: Detected}
	for line := range strings.Lines(text) {
		key, value, ok := strings.Cut(line, ":")
		if !ok {
			continue
		}
		value = clean(value)
		switch strings.TrimSpace(key) {
		case "Model":
			g.Name = nvidiaName(value)
		case "GPU UUID":
			if !strings.Contains(value, "?") { // "GPU-????????-..." until first use
				g.UUID = value
			}
		case "Bus Location":
			g.Bus = pciAddress(value)
		}
	}
	g.Integrated = onChip.MatchString(g.Name)
	return g
}
