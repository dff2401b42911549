package hardware

import (
	"encoding/binary"
	"errors"
	"testing"
)

func le(n uint64) []byte { return binary.LittleEndian.AppendUint64(nil, n) }

func TestAdapters(t *testing.T) {
	for _, c := range []struct {
		name       string
		adapters   []Adapter
		summary    string
		vram       Bytes
		gpus, used int
	}{
		{
			"card",
			[]Adapter{{"AMD Radeon RX 7900 XTX", `PCI\VEN_1002&DEV_744C&REV_C8`, "31.0", le(24 * gib)}},
			"AMD Radeon RX 7900 XTX · 24.0 GiB · ram 64 GiB", detected(24 * gib), 1, 1,
		},
		{"processor and card", []Adapter{
			{"AMD Radeon(TM) Graphics", `PCI\VEN_1002&DEV_164E&REV_C9`, "31.0", le(512 * mib)},
			{"AMD Radeon RX 7900 XTX", `pci\ven_1002&dev_744c`, "31.0", le(24 * gib)},
		}, "AMD Radeon RX 7900 XTX · 24.0 GiB · ram 64 GiB", detected(24 * gib), 2, 1},
		{"Arc beside UHD", []Adapter{
			{"Intel(R) UHD Graphics 770", `PCI\VEN_8086&DEV_A780`, "32.0", le(128 * mib)},
			{"Intel(R) Arc(TM) A770 Graphics", `PCI\VEN_8086&DEV_56A0`, "32.0", le(16 * gib)},
		}, "Intel Arc A770 · 16.0 GiB · ram 64 GiB", detected(16 * gib), 2, 1},
		{
			"NVIDIA without nvidia-smi",
			[]Adapter{{"NVIDIA GeForce RTX 4090", `PCI\VEN_10DE&DEV_2684`, "32.0", le(25757220864)}},
			"NVIDIA RTX 4090 · 24.0 GiB · ram 64 GiB", detected(25757220864), 1, 1,
		},
		{
			"laptop with 780M",
			[]Adapter{{"AMD Radeon 780M Graphics", `PCI\VEN_1002&DEV_15BF`, "31.0", le(4 * gib)}},
			"CPU only · ram 64 GiB",
			Bytes{},
			1, 0,
		},
		{"card and processor that are not listed", []Adapter{
			{"AMD Radeon 990M Graphics", `PCI\VEN_1002&DEV_7FFE`, "33.0", le(8 * gib)},
			{"AMD Radeon RX 10090 XT", `PCI\VEN_1002&DEV_7FFF`, "33.0", le(32 * gib)},
		}, "AMD Radeon RX 10090 XT · 32.0 GiB · ram 64 GiB", detected(32 * gib), 2, 1},
		{
			"Ryzen AI MAX",
			[]Adapter{{"AMD Radeon(TM) 8060S Graphics", `PCI\VEN_1002&DEV_1586`, "32.0", le(96 * gib)}},
			"AMD Radeon 8060S · 96.0 GiB unified · ram 64 GiB", detected(96 * gib), 1, 1,
		},
		{
			"32-bit value is not believed",
			[]Adapter{{"AMD Radeon RX 7900 XTX", `PCI\VEN_1002&DEV_744C`, "", []byte{0, 0, 0xf0, 0xff}}},
			"AMD Radeon RX 7900 XTX · vram unknown · ram 64 GiB",
			Bytes{},
			1, 1,
		},
		{"others", []Adapter{
			{"Microsoft Basic Display Adapter", `PCI\CC_0300`, "", nil},
			{"Parsec Virtual Display", `root\parsec`, "", nil},
			{"Qualcomm Adreno", `ACPI\VEN_QCOM&DEV_0C36`, "", le(gib)},
		}, "CPU only · ram 64 GiB", Bytes{}, 0, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := System{
				GOOS:     "windows",
				Adapters: func() ([]Adapter, error) { return c.adapters, nil },
				Memory:   func() (uint64, uint64, error) { return 64 * gib, 50 * gib, nil },
			}
			i := Detect(t.Context(), s)
			if i.Summary() != c.summary || i.VRAM != c.vram || len(i.GPUs) != c.gpus || len(i.used()) != c.used || i.VRAMFree.Known() {
				t.Errorf("%s\n%+v", i.Summary(), i)
			}
			if r := Refresh(t.Context(), s, i); r.VRAMFree.Known() || r.RAMFree.N != 50*gib {
				t.Errorf("refreshed: %+v", r)
			}
		})
	}
}

func TestWindowsErrorsAreNotes(t *testing.T) {
	i := Detect(t.Context(), System{
		GOOS:     "windows",
		Adapters: func() ([]Adapter, error) { return nil, errors.New("access denied") },
		Memory:   func() (uint64, uint64, error) { return 0, 0, errors.New("no such call") },
		CPUName:  func() string { return "Intel(R) Core(TM) i7-9700K CPU @ 3.60GHz" },
	})
	if len(i.Notes) != 2 || i.RAM.Known() || i.CPU != "Intel Core i7-9700K" {
		t.Errorf("%+v", i)
	}
}

func FuzzAdapters(f *testing.F) {
	f.Add("AMD Radeon RX 7900 XTX", `PCI\VEN_1002&DEV_744C`, le(24*gib))
	f.Add("x", `PCI\VEN_8086&DEV_56A0`, []byte{1})
	f.Fuzz(func(t *testing.T, description, id string, memory []byte) {
		devices, _ := adapterDevices([]Adapter{{description, id, "", memory}}, true)
		for _, d := range devices {
			if d.Name == "" || d.Name != clean(d.Name) || d.VRAM.N > maxSize || d.Vendor == "" {
				t.Fatalf("%+v", d)
			}
		}
	})
}
