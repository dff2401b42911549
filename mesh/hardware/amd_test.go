package hardware

import (
	"reflect"
	"strings"
	"testing"
)

func TestParseKFD(t *testing.T) {
	for _, c := range []struct {
		text string
		want kfdNode
		ok   bool
	}{
		{"gfx_target_version 110501\nlocation_id 49920\ndomain 0\n", kfdNode{gfx: "gfx1151", location: 49920}, true},
		{"gfx_target_version 90010\nunique_id 1377012884928593821\n", kfdNode{gfx: "gfx90a", uuid: "GPU-131c21ec514dff9d"}, true},
		{"gfx_target_version 90402\ndomain 3\n", kfdNode{gfx: "gfx942", domain: 3}, true},
		{"gfx_target_version 120001\n", kfdNode{gfx: "gfx1201"}, true},
		{"gfx_target_version 0\nsimd_count 0\n", kfdNode{}, false},
		{"gfx_target_version 99999999\n", kfdNode{}, false},
		{"", kfdNode{}, false},
	} {
		got, ok := parseKFD(c.text)
		if ok != c.ok || got != c.want {
			t.Errorf("%q: %+v, %v", c.text, got, ok)
		}
	}
}

func TestAMDDevice(t *testing.T) {
	at := func(id, rev uint64) card { return card{id: id, revision: rev, driver: "amdgpu"} }
	for _, c := range []struct {
		name       string
		card       card
		gfx        string
		m          amdMemory
		want       string
		integrated bool
		vram, free Bytes
	}{
		{
			"card: GTT is not VRAM", at(0x744c, 0xcc), "gfx1100",
			amdMemory{vram: detected(20 * gib), vramUsed: detected(1 * gib), gtt: detected(16 * gib), gttUsed: detected(0)},
			"AMD Radeon RX 7900 XT", false, detected(20 * gib), detected(19 * gib),
		},
		{
			"card nobody knows", at(0x7fff, 0), "gfx1300",
			amdMemory{vram: detected(32 * gib), vramUsed: detected(1 * gib)},
			"AMD Radeon (0x7fff)", false, detected(32 * gib), detected(31 * gib),
		},
		{
			"known card, unknown revision", at(0x744c, 0x99), "",
			amdMemory{vram: detected(24 * gib), vramUsed: detected(0)},
			"AMD Radeon RX 7900 series", false, detected(24 * gib), detected(24 * gib),
		},
		{
			"APU with a large carve-out and no KFD", at(0x1586, 0xc1), "",
			amdMemory{vram: detected(96 * gib), vramUsed: detected(0), gtt: detected(16 * gib), gttUsed: detected(1 * gib)},
			"AMD Radeon 8060S Graphics", true, detected(112 * gib), detected(111 * gib),
		},
		{
			"APU nobody knows, by its memory", at(0x7ffe, 0), "",
			amdMemory{vram: detected(512 * mib), vramUsed: detected(0), gtt: detected(8 * gib), gttUsed: detected(0)},
			"AMD Radeon (0x7ffe)", true, detected(8*gib + 512*mib), detected(8*gib + 512*mib),
		},
		{
			"APU without GTT use: free unknown", at(0x1586, 0xc1), "gfx1151",
			amdMemory{vram: detected(1 * gib), vramUsed: detected(0), gtt: detected(8 * gib)},
			"AMD Radeon 8060S Graphics", true, detected(9 * gib),
			Bytes{},
		},
		{"no memory files", at(0x744c, 0xc8), "gfx1100", amdMemory{}, "AMD Radeon RX 7900 XTX", false, Bytes{}, Bytes{}},
		{
			"used more than total", at(0x744c, 0xc8), "gfx1100",
			amdMemory{vram: detected(1), vramUsed: detected(2)},
			"AMD Radeon RX 7900 XTX", false, detected(1), detected(0),
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := amdDevice(c.card, kfdNode{gfx: c.gfx}, c.m)
			if d.Name != c.want || d.Integrated != c.integrated || d.VRAM != c.vram || d.Free != c.free {
				t.Errorf("%+v", d)
			}
		})
	}
}

// TestSmallAPU: it is not counted, unless with OLLAMA_IGPU_ENABLE, as in Ollama.
func TestSmallAPU(t *testing.T) {
	m := amdMemory{vram: detected(512 * mib), vramUsed: detected(100 * mib), gtt: detected(15 * gib), gttUsed: detected(0)}
	for _, c := range []struct {
		gfx     string
		enabled bool
		kind    string
	}{
		{"gfx1103", false, "cpu"}, {"gfx1103", true, "amd"}, {"gfx1150", false, "cpu"}, {"gfx1151", false, "amd"},
	} {
		var i Inventory
		d := amdDevice(card{id: 0x15bf, revision: 1}, kfdNode{gfx: c.gfx}, m)
		i.settle(reading{devices: []device{d}, ram: memory{total: detected(31 * gib), free: detected(4 * gib)}}, c.enabled)
		if i.GPUKind() != c.kind || i.Unified != (c.kind == "amd") {
			t.Errorf("%+v: %s, unified %v", c, i.GPUKind(), i.Unified)
		}
		if c.kind == "amd" && (i.VRAM.N != 15*gib+512*mib || i.VRAMFree.N != 4*gib+412*mib || i.Pool.N != 31*gib+512*mib) {
			t.Errorf("%+v: vram %v free %v pool %v", c, i.VRAM, i.VRAMFree, i.Pool)
		}
	}
}

func TestLocation(t *testing.T) {
	for bus, want := range map[string]uint64{"0000:03:00.0": 768, "0000:c3:00.0": 49920, "0000:00:02.1": 17} {
		if _, got, ok := location(bus); !ok || got != want {
			t.Errorf("%s: %d, %v", bus, got, ok)
		}
	}
	if d, _, ok := location("000f:01:00.0"); !ok || d != 15 {
		t.Errorf("domain %d, %v", d, ok)
	}
	if _, _, ok := location("nonsense"); ok {
		t.Error("nonsense has a location")
	}
}

func TestParseUevent(t *testing.T) {
	driver, bus := parseUevent("DRIVER=amdgpu\nPCI_CLASS=30000\nPCI_SLOT_NAME=0000:03:00.0\nMODALIAS=x\n")
	if driver != "amdgpu" || bus != "0000:03:00.0" {
		t.Errorf("%q %q", driver, bus)
	}
}

func TestCardsSkipConnectors(t *testing.T) {
	var dirs []string
	for _, c := range fixture(t, "rtx4090").cards() {
		dirs = append(dirs, c.dir)
	}
	if !reflect.DeepEqual(dirs, []string{"/sys/class/drm/card0", "/sys/class/drm/card1"}) {
		t.Errorf("%q", dirs)
	}
}

func FuzzSysfsText(f *testing.F) {
	f.Add("gfx_target_version 110501\nlocation_id 49920\n")
	f.Add("DRIVER=amdgpu\nPCI_SLOT_NAME=0000:03:00.0\n")
	f.Add("0x0 0x1 0x2\n0x0 0x0 0x0\n0x4000000000 0x400fffffff 0x14220c\n")
	f.Fuzz(func(t *testing.T, text string) {
		if n, ok := parseKFD(text); ok && (!strings.HasPrefix(n.gfx, "gfx") || len(n.gfx) > 7) {
			t.Fatalf("%+v", n)
		}
		driver, bus := parseUevent(text)
		if driver != clean(driver) || bus != clean(bus) {
			t.Fatalf("%q %q", driver, bus)
		}
		location(bus)
		d := intelDevice(card{id: 0x1234, bus: bus}, 0, bar2(text))
		if d.VRAM.N > maxSize {
			t.Fatalf("%+v", d)
		}
	})
}
