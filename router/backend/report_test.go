package backend

import (
	"reflect"
	"testing"
	"time"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh/hardware"
)

const gib = 1 << 30

func detected(n uint64) hardware.Bytes { return hardware.Bytes{N: n, Source: hardware.Detected} }

// gpu is a machine with one 24 GiB card of which 23 GiB are free, and 64 GiB of
// RAM of which 50 are.
func gpu() hardware.Inventory {
	return hardware.Inventory{
		GPUs: []hardware.GPU{{Vendor: hardware.NVIDIA, Name: "RTX 4090", VRAM: detected(24 * gib), Free: detected(23 * gib), Source: hardware.Detected}},
		VRAM: detected(24 * gib), VRAMFree: detected(23 * gib), RAM: detected(64 * gib), RAMFree: detected(50 * gib), Role: hardware.RoleGPU,
	}
}

func TestReport(t *testing.T) {
	expires := t0.Add(time.Minute)
	state := disk(0, "busy", "cold", "idle", "measured", "never", "twin1", "twin2")
	state.Catalog.Find("never").Remote = "https://ollama.com"
	state.Resident = []Resident{
		{Key: "idle", Digest: "idle", Size: 6 * gib, SizeVRAM: 6 * gib, Context: 8192, Expires: expires},
		{Key: "twin1", Digest: "twin1", Size: 10 * gib, SizeVRAM: 4 * gib},
	}
	speeds := map[string]Speed{
		"measured": {Decode: 48.34567, Prefill: 1234.567, Slope: 0.3, Cold: 12.34567, Output: 99.99, Samples: 3, Partial: true},
		"never":    {Decode: 1, Samples: 3},
	}
	card, load := Report(Facts{
		State: state, Hardware: gpu(), Speed: func(d string) Speed { return speeds[d] }, Foreign: true,
		Gate: Occupancy{
			Parallel: 2, MaxLoaded: 3, Running: 1, Waiting: 2, Draining: true,
			Models: map[string]ModelOccupancy{
				"busy":     {Slots: 2, Running: 1, Waiting: 2, Loading: true, Start: 12345678 * time.Microsecond},
				"idle":     {Slots: 2},
				"twin1":    {Slots: 1},
				"measured": {Slots: 2, Start: time.Second},
			},
		},
	})
	want := mesh.Load{
		Up: true, Draining: true, Foreign: true, Running: 1, Waiting: 2,
		FreeVRAM: 13 * gib, FreeRAM: 44 * gib,
		Models: []mesh.ModelLoad{
			{Key: "busy", Loading: true, Slots: 2, Running: 1, Waiting: 2, Start: 12.35},
			{Key: "idle", Resident: true, Size: 6 * gib, SizeVRAM: 6 * gib, Context: 8192, Expires: expires, Slots: 2},
			{Key: "twin1", Resident: true, Size: 10 * gib, SizeVRAM: 4 * gib, Slots: 1, Partial: true},
			{Key: "twin2", Resident: true, Size: 10 * gib, SizeVRAM: 4 * gib, Partial: true, Alias: true},
			{Key: "measured", Slots: 2, Start: 1, Decode: 48.35, Prefill: 1235, Slope: 0.3, Cold: 12.35, Output: 99.99, Samples: 3, Partial: true},
		},
	}
	if len(load.Models) == len(want.Models) {
		for i := range want.Models {
			if !nearly(load.Models[i], want.Models[i]) {
				t.Errorf("model %d: %+v\nwant %+v", i, load.Models[i], want.Models[i])
			}
		}
	} else {
		t.Errorf("models %+v", load.Models)
	}
	load.Models, want.Models = nil, nil
	if !reflect.DeepEqual(load, want) {
		t.Errorf("load %+v\nwant %+v", load, want)
	}
	if card.Ollama != "0.33.0" || card.Parallel != 2 || card.MaxLoad != 3 || len(card.Catalog) != 7 {
		t.Errorf("card %+v", card)
	}
	if hw := card.Hardware; hw.VRAMFree.Known() || hw.RAMFree.Known() || hw.GPUs[0].Free.Known() || !hw.VRAM.Known() {
		t.Errorf("a card carries no numbers that change by the second: %+v", hw)
	}
}

// nearly compares with floats as rounding leaves them.
func nearly(a, b mesh.ModelLoad) bool {
	for _, p := range [][2]*float64{{&a.Start, &b.Start}, {&a.Decode, &b.Decode}, {&a.Prefill, &b.Prefill}, {&a.Cold, &b.Cold}, {&a.Slope, &b.Slope}, {&a.Output, &b.Output}} {
		if d := *p[0] - *p[1]; d > 1e-9 || d < -1e-9 {
			return false
		}
		*p[0] = *p[1]
	}
	return reflect.DeepEqual(a, b)
}

func TestReportOfANodeWithoutOllama(t *testing.T) {
	card, load := Report(Facts{State: &State{}, Gate: Occupancy{Parallel: 1}, Hardware: hardware.Inventory{}})
	if load.Up || load.Models != nil || load.FreeVRAM != 0 || load.FreeRAM != 0 || card.Ollama != "" || card.Catalog != nil || card.Parallel != 1 {
		t.Errorf("card %+v, load %+v", card, load)
	}
}

func TestFreeMemoryFollowsWhatModelsHold(t *testing.T) {
	unified := gpu()
	unified.Unified, unified.Pool, unified.PoolFree = true, detected(64*gib), detected(50*gib)
	full := gpu()
	full.VRAMFree = detected(0)
	unknown := gpu()
	unknown.VRAMFree, unknown.RAMFree = hardware.Bytes{}, hardware.Bytes{}
	for name, c := range map[string]struct {
		hw        hardware.Inventory
		then, now Held
		vram, ram uint64
	}{
		"nothing changed":             {gpu(), Held{5 * gib, 1 * gib}, Held{5 * gib, 1 * gib}, 23 * gib, 50 * gib},
		"loaded since":                {gpu(), Held{}, Held{20 * gib, 30 * gib}, 3 * gib, 20 * gib},
		"unloaded since":              {gpu(), Held{1 * gib, 2 * gib}, Held{}, 24 * gib, 52 * gib},
		"never above the total":       {gpu(), Held{9 * gib, 40 * gib}, Held{}, 24 * gib, 64 * gib},
		"never below nothing":         {gpu(), Held{}, Held{90 * gib, 90 * gib}, 0, 0},
		"unified memory is one":       {unified, Held{}, Held{20 * gib, 2 * gib}, 1 * gib, 28 * gib},
		"full is full, not unknown":   {full, Held{}, Held{}, 0, 50 * gib},
		"unknown stays unknown":       {unknown, Held{}, Held{1 * gib, 1 * gib}, 0, 0},
		"more than everything leaves": {gpu(), Held{1 << 63, 1 << 63}, Held{1 << 63, 1 << 63}, 23 * gib, 50 * gib},
	} {
		t.Run(name, func(t *testing.T) {
			got := correct(c.hw, c.then, c.now)
			if got.VRAMFree.N != c.vram || got.RAMFree.N != c.ram {
				t.Errorf("free %d and %d GiB, want %d and %d", got.VRAMFree.N/gib, got.RAMFree.N/gib, c.vram/gib, c.ram/gib)
			}
			if got.VRAMFree.Known() != c.hw.VRAMFree.Known() {
				t.Error("unknown became known, or known unknown")
			}
		})
	}
	if known(hardware.Bytes{}) != 0 || known(detected(0)) == 0 {
		t.Error("known nothing and unknown look alike")
	}
}

func TestModelMemory(t *testing.T) {
	apu := hardware.Inventory{
		GPUs: []hardware.GPU{{VRAM: detected(60 * gib), Integrated: true}}, Unified: true,
		VRAM: detected(60 * gib), RAM: detected(60 * gib), Pool: detected(62 * gib),
	}
	two := gpu()
	two.GPUs = append(two.GPUs, two.GPUs[0], hardware.GPU{Unused: true})
	two.VRAM, two.GPUOverhead = detected(48*gib), gib
	for name, c := range map[string]struct {
		hw   hardware.Inventory
		want uint64
	}{
		"unknown":      {hardware.Inventory{}, 0},
		"one card":     {gpu(), 24*gib - 457<<20},
		"two cards":    {two, 48*gib - 2*(457<<20+gib)},
		"cpu":          {hardware.Inventory{RAM: detected(30 * gib)}, 27 * gib},
		"small cpu":    {hardware.Inventory{RAM: detected(1 * gib)}, 0},
		"unified pool": {apu, 62*gib - 62*gib/10},
	} {
		if got := ModelMemory(c.hw); got != c.want {
			t.Errorf("%s: %d MiB, want %d", name, got>>20, c.want>>20)
		}
	}
}

func TestForeign(t *testing.T) {
	look := func(at, expires float64, keys ...string) *State {
		s := &State{Up: true, Polled: t0.Add(time.Duration(at * float64(time.Second)))}
		for _, k := range keys {
			s.Resident = append(s.Resident, Resident{Key: k, Digest: k, Expires: t0.Add(time.Duration(expires * float64(time.Second)))})
		}
		return s
	}
	for name, c := range map[string]struct {
		prev, next *State
		touched    float64 // own request began or ended, s; -1000 never
		want       bool
	}{
		"nothing in memory":            {look(10, 0), look(11, 0), -1000, false},
		"nothing happened":             {look(10, 300, "m"), look(11, 300, "m"), -1000, false},
		"keep-alive renewed":           {look(10, 300, "m"), look(11, 311, "m"), -1000, true},
		"renewed by our own request":   {look(10, 300, "m"), look(11, 311, "m"), 10.5, false},
		"our own ended a while ago":    {look(10, 300, "m"), look(11, 311, "m"), 3, true},
		"loaded by somebody":           {look(10, 0), look(11, 311, "m"), -1000, true},
		"loaded by us":                 {look(10, 0), look(11, 311, "m"), 9, false},
		"a load that our request left": {look(10, 0), look(11, 311, "m"), 8.5, false},
		"keep-alive shortened":         {look(10, 300, "m"), look(11, 20, "m"), -1000, false},
		"rounding":                     {look(10, 300, "m"), look(11, 300.2, "m"), -1000, false},
		"first look":                   {&State{}, look(11, 311, "m"), -1000, false},
		"back after an outage":         {&State{Polled: t0}, look(11, 311, "m"), -1000, false},
		"the same look again":          {look(10, 300, "m"), look(10, 300, "m"), -1000, false},
		"unloaded":                     {look(10, 300, "m"), look(11, 0), -1000, false},
	} {
		t.Run(name, func(t *testing.T) {
			touched := t0.Add(time.Duration(c.touched * float64(time.Second)))
			if got := foreign(c.prev, c.next, func(string) time.Time { return touched }); got != c.want {
				t.Errorf("foreign = %v, want %v", got, c.want)
			}
		})
	}
}

func TestRound(t *testing.T) {
	for in, want := range map[float64]float64{0: 0, 48.34567: 48.35, 1234.5: 1235, 0.000123456: 0.0001235, 99999: 100000} {
		if got := round(in); !near(got, want, 1e-9) && got != want {
			t.Errorf("round(%v) = %v, want %v", in, got, want)
		}
	}
}
