package hardware

import "testing"

func TestIntelDevice(t *testing.T) {
	const integratedAt, cardAt = "0000:00:02.0", "0000:03:00.0"
	for _, c := range []struct {
		name           string
		id             uint64
		bus            string
		lmem, aperture uint64
		integrated     bool
		vram           Bytes
	}{
		{"i915 tells", 0x56a0, cardAt, 16225243136, 16 * gib, false, detected(16225243136)},
		{"BAR tells", 0x56a0, cardAt, 0, 16 * gib, false, detected(16 * gib)},
		{"card without resizable BAR", 0x56a0, cardAt, 0, 256 * mib, false, Bytes{}},
		{"unlisted card", 0xe2ff, cardAt, 0, 12 * gib, false, detected(12 * gib)},
		{"unlisted card, driver tells", 0xe2ff, cardAt, 12 * gib, 256 * mib, false, detected(12 * gib)},
		{"processor graphics", 0x9a49, integratedAt, 0, 256 * mib, true, Bytes{}},
		{"unlisted processor graphics with a large BAR", 0x7fff, integratedAt, 0, 4 * gib, true, Bytes{}},
		{"unlisted, nothing known", 0x7fff, cardAt, 0, 0, true, Bytes{}},
		{"absurd", 0xe2ff, cardAt, 1 << 60, 1 << 60, false, Bytes{}},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := intelDevice(card{id: c.id, bus: c.bus}, c.lmem, c.aperture)
			if d.Integrated != c.integrated || d.VRAM != c.vram || d.Free.Known() {
				t.Errorf("%+v", d)
			}
		})
	}
}

// TestXeTiles: the xe driver tells memory per tile.
func TestXeTiles(t *testing.T) {
	s := systemOf(t, `
-- sys/class/drm/card0/device/vendor --
0x8086
-- sys/class/drm/card0/device/device --
0xe20b
-- sys/class/drm/card0/device/uevent --
DRIVER=xe
PCI_SLOT_NAME=0000:04:00.0
-- sys/class/drm/card0/device/tile0/physical_vram_size_bytes --
0x00000002f8000000
-- sys/class/drm/card0/device/tile1/physical_vram_size_bytes --
0x8000000
`)
	devices := s.intel()
	if len(devices) != 1 || devices[0].VRAM.N != 12*gib || devices[0].Name != "Intel Arc B580" || devices[0].Driver != "xe" {
		t.Errorf("%+v", devices)
	}
}

func TestBAR2(t *testing.T) {
	for text, want := range map[string]uint64{
		"a\nb\n0x0000007800000000 0x0000007bffffffff 0x14220c\n": 16 * gib,
		"a\nb\n0x0 0x0 0x0\n": 0,
		"a\nb\n0x9 0x3 0x0\n": 0,
		"a\nb\n":              0,
		"a\nb\nc\n":           0,
		"":                    0,
	} {
		if got := bar2(text); got != want {
			t.Errorf("%q: %d", text, got)
		}
	}
}
