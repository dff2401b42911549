package hardware

import (
	"context"
	"errors"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestParseSMI(t *testing.T) {
	for _, c := range []struct {
		name, out string
		fields    []string
		rows      []smiRow
		bad       int
	}{
		{"nothing", "", smiFields, nil, 0},
		{
			"one", "0, GPU-1, 00000000:01:00.0, NVIDIA L4, 23034, 22563, 550.54, 8.9, [N/A]\n", smiFields,
			[]smiRow{{uuid: "GPU-1", bus: "0000:01:00.0", name: "NVIDIA L4", driver: "550.54", compute: "8.9", total: detected(23034 * mib), free: detected(22563 * mib)}},
			0,
		},
		{
			"comma in the name, quoted", `0, GPU-1, 00000000:01:00.0, "NVIDIA Thing, Mark 2", 10, 5, 1, 8.9, [N/A]`, smiFields,
			[]smiRow{{uuid: "GPU-1", bus: "0000:01:00.0", name: "NVIDIA Thing, Mark 2", driver: "1", compute: "8.9", total: detected(10 * mib), free: detected(5 * mib)}},
			0,
		},
		{
			"comma in the name, bare", `0, GPU-1, 00000000:01:00.0, NVIDIA Thing, Mark 2, 10, 5, 1, 8.9, [N/A]`, smiFields,
			[]smiRow{{uuid: "GPU-1", bus: "0000:01:00.0", name: "NVIDIA Thing, Mark 2", driver: "1", compute: "8.9", total: detected(10 * mib), free: detected(5 * mib)}},
			0,
		},
		{
			"lost card: unknown, not zero", "1, GPU-2, 00000000:02:00.0, NVIDIA GeForce RTX 3090, [GPU is lost], [GPU is lost], 550, [Unknown Error], [N/A]", smiFields,
			[]smiRow{{uuid: "GPU-2", bus: "0000:02:00.0", name: "NVIDIA GeForce RTX 3090", driver: "550"}},
			0,
		},
		{
			"old driver, units left in", "0, GPU-1, 00000000:01:00.0, GeForce GTX 1080, 8119 MiB, 8000 MiB, 390.1", smiOldFields,
			[]smiRow{{uuid: "GPU-1", bus: "0000:01:00.0", name: "NVIDIA GeForce GTX 1080", driver: "390.1", total: detected(8119 * mib), free: detected(8000 * mib)}},
			0,
		},
		{
			"MIG on", "0, GPU-1, 00000000:13:00.0, NVIDIA A100-SXM4-40GB, 40960, [N/A], 535, 8.0, Enabled", smiFields,
			[]smiRow{{uuid: "GPU-1", bus: "0000:13:00.0", name: "NVIDIA A100-SXM4-40GB", driver: "535", compute: "8.0", total: detected(40960 * mib), mig: true}},
			0,
		},
		{"warnings", "WARNING: infoROM is corrupted at gpu 0000:0A:00.0\n\nGPU, is, not, a, row, at, all, really, no\n", smiFields, nil, 2},
		{"no name", "0, GPU-1, 00000000:13:00.0, [N/A], 1, 1, 535, 8.0, [N/A]", smiFields, nil, 1},
		{
			"absurd memory", "0, GPU-1, 00000000:01:00.0, NVIDIA L4, 99999999999999, -3, 550.54, 8.9, [N/A]", smiFields,
			[]smiRow{{uuid: "GPU-1", bus: "0000:01:00.0", name: "NVIDIA L4", driver: "550.54", compute: "8.9"}},
			0,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			rows, bad := parseSMI(c.out, c.fields)
			if !reflect.DeepEqual(rows, c.rows) || bad != c.bad {
				t.Errorf("got  %+v, %d bad\nwant %+v, %d bad", rows, bad, c.rows, c.bad)
			}
		})
	}
}

func smiSays(rows ...string) System {
	return System{
		GOOS: "linux",
		Run: func(_ context.Context, _ string, args ...string) ([]byte, error) {
			if args[0] == "-L" {
				return nil, errors.New("exit status 1")
			}
			return []byte(strings.Join(rows, "\n")), nil
		},
		LookPath: func(string) (string, error) { return "nvidia-smi", nil },
	}
}

func TestNVIDIADevices(t *testing.T) {
	for _, c := range []struct {
		name, row        string
		integrated, used bool
		vram             Bytes
	}{
		{"card", "0, G, B, NVIDIA L4, 23034, 22563, 550, 8.9, [N/A]", false, true, detected(23034 * mib)},
		{"lost card keeps unknown memory", "0, G, B, NVIDIA GeForce RTX 3090, [N/A], [N/A], 550, 8.6, [N/A]", false, true, Bytes{}},
		{"Thor", "0, G, B, NVIDIA Thor, [N/A], [N/A], 580, 11.0, [N/A]", true, true, detected(1 * gib)},
		{"N1X reports a fraction", "0, G, B, NVIDIA N1X, 8128, 7929, 590, 12.1, [N/A]", true, true, detected(1 * gib)},
		{"too old", "0, G, B, Tesla K80, 11441, 11441, 470, 3.7, [N/A]", false, false, detected(11441 * mib)},
		{"MIG without instances", "0, G, B, NVIDIA A100-SXM4-40GB, 40960, 40000, 535, 8.0, Enabled", false, false, Bytes{}},
	} {
		t.Run(c.name, func(t *testing.T) {
			devices, _, ok := smiSays(c.row).nvidia(t.Context())
			if !ok || len(devices) != 1 {
				t.Fatalf("%+v, %v", devices, ok)
			}
			r := reading{devices: devices, ram: memory{total: detected(1 * gib)}}
			r.share()
			d := r.devices[0]
			if d.Integrated != c.integrated || d.Unused == c.used || d.VRAM != c.vram {
				t.Errorf("%+v", d)
			}
		})
	}
}

// TestHungDriver: nvidia-smi that never answers costs three seconds, the GPU is
// still named from /proc, and its memory is unknown.
func TestHungDriver(t *testing.T) {
	s := fixture(t, "driver_reload")
	synctest.Test(t, func(t *testing.T) {
		s.Run = func(ctx context.Context, _ string, _ ...string) ([]byte, error) {
			<-ctx.Done()
			return nil, context.Cause(ctx)
		}
		start := time.Now()
		i := Detect(t.Context(), s)
		if took := time.Since(start); took != smiTimeout {
			t.Errorf("took %v", took)
		}
		if len(i.GPUs) != 1 || i.GPUs[0].Name != "NVIDIA GeForce RTX 2080 Ti" || i.VRAM.Known() {
			t.Errorf("%+v", i)
		}
	})
}

func TestParseMIG(t *testing.T) {
	got := parseMIG("GPU 0: NVIDIA A100 (UUID: GPU-a)\n  MIG 1g.5gb      Device  0: (UUID: MIG-1)\n" +
		"GPU 1: NVIDIA A100 (UUID: GPU-b)\n  MIG 1c.3g.20gb  Device  1: (UUID: MIG-2)\n  MIG 1g.10gb+me  Device  2: (UUID: MIG-3)\n  MIG 0gb Device 0: (UUID: MIG-4)\n")
	want := []migSlice{
		{"GPU-a", "1g.5gb", "MIG-1", 5 * gb},
		{"GPU-b", "1c.3g.20gb", "MIG-2", 20 * gb},
		{"GPU-b", "1g.10gb+me", "MIG-3", 10 * gb},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v", got)
	}
}

func TestParseJetson(t *testing.T) {
	for _, c := range []struct {
		name, model, release, family string
		ok, used                     bool
		arch, driver                 string
	}{
		{"orin", "NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super\x00", "# R36 (release), REVISION: 4.4, GCID: 1", "Tegra", true, true, "8.7", "L4T R36.4.4"},
		{"thor, no release file", "NVIDIA Jetson AGX Thor Developer Kit\x00", "", "", true, true, "11.0", ""},
		{"nano with JetPack 4", "NVIDIA Jetson Nano Developer Kit\x00", "# R32 (release), REVISION: 7.1, GCID: 1", "Tegra", true, false, "5.3", "L4T R32.7.1"},
		{"container without device tree", "", "# R35 (release), REVISION: 5.0, X", "", true, true, "", "L4T R35.5.0"},
		{"raspberry pi", "Raspberry Pi 5 Model B Rev 1.0\x00", "", "", false, false, "", ""},
		{"other nvidia board", "NVIDIA DGX Spark\x00", "", "", false, false, "", ""},
		{"garbage release", "", "# Rxx (release)", "", false, false, "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			d, _, ok := parseJetson(c.model, c.release, c.family)
			if ok != c.ok || ok && (d.Unused == c.used || d.Arch != c.arch || d.Driver != c.driver || !d.unified) {
				t.Errorf("%+v, %v", d, ok)
			}
		})
	}
}

// TestCardBesideJetson: an IGX with a discrete card counts the card alone.
func TestCardBesideJetson(t *testing.T) {
	card := device{GPU: GPU{Vendor: NVIDIA, Name: "NVIDIA RTX 6000 Ada Generation", VRAM: detected(48 * gib)}}
	board, _, _ := parseJetson("NVIDIA IGX Orin Developer Kit", "# R36 (release), REVISION: 3.0", "")
	devices := withBoard([]device{card}, board)
	var i Inventory
	i.settle(reading{devices: devices, ram: memory{total: detected(64 * gib)}}, false)
	if len(i.GPUs) != 2 || i.Unified || i.VRAM.N != 48*gib {
		t.Errorf("%+v", i)
	}
}

func TestParseNVIDIAProc(t *testing.T) {
	g := parseNVIDIAProc("Model: \t\t NVIDIA GB10\nGPU UUID: \t GPU-????????-????-????-????-????????????\nBus Location: \t 000f:01:00.0\n")
	want := GPU{Vendor: NVIDIA, Name: "NVIDIA GB10", Bus: "000f:01:00.0", Integrated: true, Source: Detected}
	if g != want {
		t.Errorf("%+v", g)
	}
}

// TestNouveau: a card without NVIDIA's driver is named, and not counted.
func TestNouveau(t *testing.T) {
	s := systemOf(t, `
-- proc/meminfo --
MemTotal: 16000000 kB
MemAvailable: 15000000 kB
-- sys/bus/pci/devices/a/class --
0x030000
-- sys/bus/pci/devices/a/vendor --
0x10de
-- sys/bus/pci/devices/a/device --
0x2684
-- sys/bus/pci/devices/a/uevent --
DRIVER=nouveau
PCI_SLOT_NAME=0000:01:00.0
-- sys/bus/pci/devices/b/class --
0x040300
-- sys/bus/pci/devices/b/vendor --
0x10de
`)
	i := Detect(t.Context(), s)
	if len(i.GPUs) != 1 || !i.GPUs[0].Unused || i.GPUs[0].Bus != "0000:01:00.0" || i.GPUKind() != "cpu" {
		t.Errorf("%+v", i)
	}
	if len(i.Notes) != 1 || !strings.Contains(i.Notes[0], "NVIDIA GPU (0x2684) has no working NVIDIA driver") {
		t.Errorf("notes %q", i.Notes)
	}
}

func FuzzParseSMI(f *testing.F) {
	f.Add("0, GPU-1, 00000000:01:00.0, NVIDIA L4, 23034, 22563, 550.54, 8.9, [N/A]\n")
	f.Add("0, \"a\"b, , \"NVIDIA, x\", [N/A], 1 MiB, , , Enabled, 3\nWARNING: x")
	f.Fuzz(func(t *testing.T, out string) {
		for _, fields := range [][]string{smiFields, smiOldFields} {
			rows, bad := parseSMI(out, fields)
			if len(rows)+bad > strings.Count(out, "\n")+1 {
				t.Fatalf("%d rows and %d bad lines", len(rows), bad)
			}
			for _, r := range rows {
				if r.name == "" || r.name != clean(r.name) || r.total.N > maxSize {
					t.Fatalf("%+v", r)
				}
			}
		}
	})
}

func FuzzParseNVIDIAText(f *testing.F) {
	f.Add("GPU 0: NVIDIA A100 (UUID: GPU-a)\n  MIG 1g.5gb      Device  0: (UUID: MIG-1)\n")
	f.Add("# R36 (release), REVISION: 4.3, GCID: 1")
	f.Add("Model: NVIDIA GB10\nGPU UUID: GPU-1\nBus Location: 000f:01:00.0")
	f.Fuzz(func(t *testing.T, text string) {
		for _, s := range parseMIG(text) {
			if s.bytes == 0 || s.bytes > maxSize || s.uuid == "" {
				t.Fatalf("%+v", s)
			}
		}
		if d, _, ok := parseJetson(text, text, text); ok && (d.Name == "" || d.Name != clean(d.Name)) {
			t.Fatalf("%+v", d)
		}
		if g := parseNVIDIAProc(text); g.VRAM.Known() || g.Name != clean(g.Name) {
			t.Fatalf("%+v", g)
		}
	})
}
