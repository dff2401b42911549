package sim

import (
	"slices"
	"time"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh/hardware"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/backend"
)

// Rate is how fast a machine runs one model.
type Rate struct {
	Decode  float64 // tok/s of a lone request
	Prefill float64 // prompt tok/s
	Slope   float64 // each further request in the batch adds this share to a token's time
	Cold    float64 // seconds of a load
}

// Model is one model of a fleet.
type Model struct {
	mesh.Model
	Share          float64 // of all requests
	Prompt, Output float64 // mean tokens, log-normal
}

// Kind is a kind of machine.
type Kind struct {
	Name      string
	Hardware  hardware.Inventory
	Slots     int
	MaxLoaded int
	Rates     map[string]float64 // decode by model; the machine has these on disk
	Reads     float64            // prefill over decode
	Slope     float64
	Disk      float64 // bytes/s that models are loaded with

	card      *mesh.Card
	rates     []Rate
	footprint []uint64
	memory    uint64
}

// Fleet is machines and what is asked of them.
type Fleet struct {
	Name   string
	Models []Model
	Kinds  []*Kind // one per machine; equal machines share theirs
	Front  []int   // machines that a hand-written nginx would list
	// Turns is the mean number of turns of a conversation; 0: every request
	// stands alone.
	Turns float64
	Think float64 // mean seconds between an answer and the next turn

	capacity float64
}

const (
	gb  = 1e9
	gib = 1 << 30
)

func model(key string, size float64, layers, heads int, share, output float64) Model {
	return Model{
		Model: mesh.Model{
			Key: key, Name: key, Digest: key, Blob: key, Size: uint64(size * gb), Layers: layers, KVHeads: heads,
			HeadDim: 128, ContextLength: 32768,
		},
		Share: share, Prompt: 400, Output: output,
	}
}

func bytes(n float64) hardware.Bytes {
	return hardware.Bytes{N: uint64(n * gib), Source: hardware.Configured}
}

func gpu(vendor hardware.Vendor, name, processor string, vram, ram float64, unified bool) hardware.Inventory {
	i := hardware.Inventory{
		OS: "linux", Arch: "amd64", CPU: processor, Cores: 16, Role: "gpu", Unified: unified,
		GPUs: []hardware.GPU{{Vendor: vendor, Name: name, VRAM: bytes(vram), Free: bytes(vram), Source: hardware.Configured}},
		VRAM: bytes(vram), VRAMFree: bytes(vram), RAM: bytes(ram), RAMFree: bytes(ram - 4),
	}
	if unified {
		i.RAMFree = bytes(ram)
	}
	return i
}

func cpu(ram float64) hardware.Inventory {
	return hardware.Inventory{
		OS: "linux", Arch: "amd64", CPU: "8-core server", Cores: 8, Role: "cpu", RAM: bytes(ram), RAMFree: bytes(ram - 2),
	}
}

// The kinds of machines. Rates of 3B, 32B and 72B on the 4090, the Ryzen and
// the CPUs are the seed's measurements; the others are what such machines are
// reported to do, near to what memory bandwidth allows.
func rtx4090() *Kind {
	return &Kind{
		Name: "RTX 4090", Hardware: gpu("nvidia", "NVIDIA GeForce RTX 4090", "AMD Ryzen 9 7950X 16-Core Processor", 24, 64, false), Slots: 2, MaxLoaded: 3,
		Rates: map[string]float64{"3b": 190, "8b": 120, "14b": 75, "32b": 48, "72b": 2.8}, Reads: 20, Slope: 0.3, Disk: 3 * gb,
	}
}

func rtx3060() *Kind {
	return &Kind{
		Name: "RTX 3060", Hardware: gpu("nvidia", "NVIDIA GeForce RTX 3060", "AMD Ryzen 5 5600X 6-Core Processor", 12, 32, false), Slots: 2, MaxLoaded: 3,
		Rates: map[string]float64{"3b": 110, "8b": 60, "14b": 33}, Reads: 20, Slope: 0.3, Disk: 2 * gb,
	}
}

func ryzen395() *Kind {
	return &Kind{
		Name: "Ryzen AI MAX+ 395", Hardware: gpu("amd", "AMD Radeon 8060S", "AMD RYZEN AI MAX+ 395 w/ Radeon 8060S", 62, 64, true), Slots: 2, MaxLoaded: 3,
		Rates: map[string]float64{"3b": 73, "8b": 38, "14b": 21, "32b": 10, "72b": 2.9}, Reads: 12, Slope: 0.3, Disk: 3 * gb,
	}
}

func mac64() *Kind {
	return &Kind{
		Name: "Mac 64 GB", Hardware: gpu("apple", "Apple M2 Max", "Apple M2 Max", 48, 64, true), Slots: 2, MaxLoaded: 3,
		Rates: map[string]float64{"3b": 90, "8b": 55, "14b": 32, "32b": 15, "72b": 7}, Reads: 12, Slope: 0.4, Disk: 4 * gb,
	}
}

func cpu30() *Kind {
	return &Kind{
		Name: "CPU 30 GB", Hardware: cpu(30), Slots: 1, MaxLoaded: 3,
		Rates: map[string]float64{"3b": 8, "8b": 4, "14b": 2.2}, Reads: 5, Slope: 0.8, Disk: 1 * gb,
	}
}

func cpu14() *Kind {
	return &Kind{
		Name: "CPU 14 GB", Hardware: cpu(14), Slots: 1, MaxLoaded: 3,
		Rates: map[string]float64{"3b": 3, "8b": 1.6}, Reads: 5, Slope: 0.8, Disk: 0.5 * gb,
	}
}

func seedKinds() (a, b, c, d *Kind) {
	a, b, c, d = cpu30(), cpu14(), rtx4090(), ryzen395()
	delete(a.Rates, "8b")
	delete(a.Rates, "14b")
	delete(b.Rates, "8b")
	for _, k := range []*Kind{c, d} {
		delete(k.Rates, "8b")
		delete(k.Rates, "14b")
	}
	return a, b, c, d
}

// Seed4 is a household's four machines: two CPU servers, a gaming PC and an AMD
// box; its nginx knew only the two that run a 72B.
func Seed4() Fleet {
	a, b, c, d := seedKinds()
	return Fleet{
		Name: "seed4",
		Models: []Model{
			model("3b", 1.93, 36, 2, 0.50, 256), model("32b", 19.85, 64, 8, 0.42, 256), model("72b", 47.4, 80, 8, 0.08, 256),
		},
		Kinds: []*Kind{a, b, c, d}, Front: []int{2, 3},
	}
}

func mixed() []Model {
	return []Model{
		model("3b", 1.93, 36, 2, 0.35, 256), model("8b", 4.9, 32, 8, 0.30, 256), model("14b", 9, 48, 8, 0.15, 256),
		model("32b", 19.85, 64, 8, 0.15, 256), model("72b", 47.4, 80, 8, 0.05, 256),
	}
}

func unequal(counts [6]int) []*Kind {
	makes := [6]func() *Kind{rtx4090, ryzen395, mac64, rtx3060, cpu30, cpu14}
	var all []*Kind
	for i, n := range counts {
		k := makes[i]()
		for range n {
			all = append(all, k)
		}
	}
	return all
}

// Unequal16 is sixteen machines of six kinds and five models, 3B to 72B.
func Unequal16() Fleet {
	return Fleet{Name: "unequal16", Models: mixed(), Kinds: unequal([6]int{2, 2, 2, 3, 4, 3}), Front: []int{0, 2}}
}

// Mesh100 is a hundred machines in about the same proportions.
func Mesh100() Fleet {
	return Fleet{Name: "mesh100", Models: mixed(), Kinds: unequal([6]int{12, 13, 12, 19, 25, 19}), Front: []int{0, 12}}
}

// Equal8 is eight equal machines and one model: what herds, herds here.
func Equal8() Fleet {
	return Fleet{
		Name: "equal8", Models: []Model{model("8b", 4.9, 32, 8, 1, 256)},
		Kinds: unequal([6]int{0, 0, 0, 8, 0, 0}), Front: []int{0, 1, 2, 3, 4, 5, 6, 7},
	}
}

// Chats4 is four equal machines that lead conversations with long prompts.
func Chats4() Fleet {
	m := model("8b", 4.9, 32, 8, 1, 200)
	m.Prompt = 1500
	return Fleet{
		Name: "chats4", Models: []Model{m}, Kinds: unequal([6]int{0, 0, 0, 4, 0, 0}), Front: []int{0, 1, 2, 3},
		Turns: 6, Think: 20,
	}
}

// answering is the fleet where answers are so many times as long.
func (f Fleet) answering(times float64) Fleet {
	f.Models = slices.Clone(f.Models)
	for m := range f.Models {
		f.Models[m].Output *= times
	}
	f.capacity = 0
	return f
}

// prepare fills in what follows from a fleet's description. Equal machines
// share one Card, as only few kinds of cards are ever made.
func (f *Fleet) prepare() {
	for _, k := range f.Kinds {
		if k.card != nil && len(k.rates) == len(f.Models) {
			continue
		}
		k.memory = backend.ModelMemory(k.Hardware)
		k.rates = make([]Rate, len(f.Models))
		k.footprint = make([]uint64, len(f.Models))
		var catalog mesh.Catalog
		for i := range f.Models {
			m := &f.Models[i]
			decode, has := k.Rates[m.Key]
			if !has {
				continue
			}
			catalog = append(catalog, m.Model)
			k.rates[i] = Rate{decode, decode * k.Reads, k.Slope, 0.5 + float64(m.Size)/k.Disk}
			k.footprint[i] = m.Need(0, k.Slots).Total()
		}
		k.card = &mesh.Card{
			Hardware: k.Hardware, Catalog: catalog, Ollama: "0.33.0", Parallel: k.Slots, MaxLoad: k.MaxLoaded,
		}
	}
}

func (f *Fleet) prepared() *Fleet {
	f.prepare()
	return f
}

// holds reports whether machines of the kind have the model and can run it.
func (k *Kind) holds(model int) bool { return k.rates[model].Decode > 0 }

// work is the seconds of a machine that a mean request of the model takes, with
// all slots busy.
func (f *Fleet) work(k *Kind, model int) float64 {
	v, m, n := k.rates[model], &f.Models[model], float64(k.Slots)
	return m.Prompt/v.Prefill + m.Output/v.Decode*(1+v.Slope*(n-1))/n
}

// epoch is the simulated moment 0.
var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func moment(t float64) time.Time { return epoch.Add(time.Duration(t * float64(time.Second))) }
