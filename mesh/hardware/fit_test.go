package hardware

import (
	"encoding/json"
	"errors"
	"math"
	"testing"
)

// TestNeed checks the published sizes of qwen2.5:72b Q4_K_M.
func TestNeed(t *testing.T) {
	n := Reference72B()
	n.Context = 1
	if got := n.KV(); got != 320*kib {
		t.Errorf("cache per token: %d KiB", got/kib)
	}
	for ctx, want := range map[int][2]float64{ // weights and cache, and all of it, in GiB
		2048: {44.8, 44.8}, 4096: {45.4, 45.4}, 8192: {46.6, 46.6 + 0.75}, 32768: {54.1, 54.1 + 0.75}, 32769: {54.1, 54.1 + 2},
	} {
		n.Context = ctx
		plain := float64(add(n.Weights, n.KV())) / gib
		total := float64(n.Total()) / gib
		if math.Abs(plain-want[0]) > 0.06 || math.Abs(total-want[1]) > 0.06 {
			t.Errorf("%d tokens: %.2f and %.2f GiB, want %v", ctx, plain, total, want)
		}
	}
	q8 := Reference72B()
	q8.KVBytes, q8.Parallel = 1, 2
	if q8.KV() != Reference72B().KV() {
		t.Error("half the bytes, twice the sequences")
	}
}

// TestNeedOfUnknownArchitecture: the estimate is not below what models with
// grouped-query attention take.
func TestNeedOfUnknownArchitecture(t *testing.T) {
	for _, c := range []struct {
		name               string
		weights            uint64
		layers, heads, dim int
	}{
		{"qwen3:0.6b", 522_000_000, 28, 8, 128},
		{"llama3.2:3b", 2_019_000_000, 28, 8, 128},
		{"qwen2.5:3b", 1_930_000_000, 36, 2, 128},
		{"llama3.1:8b", 4_920_000_000, 32, 8, 128},
		{"gemma2:9b", 5_443_000_000, 42, 8, 256},
		{"gemma2:27b", 15_600_000_000, 46, 16, 128},
		{"qwen2.5:32b", 19_850_000_000, 64, 8, 128},
		{"llama3.3:70b", 42_520_000_000, 80, 8, 128},
		{"qwen2.5:72b", 47_400_000_000, 80, 8, 128},
	} {
		real := Need{Weights: c.weights, Layers: c.layers, KVHeads: c.heads, HeadDim: c.dim}
		guess := Need{Weights: c.weights}
		if guess.KV() < real.KV() {
			t.Errorf("%s: estimated %s for %s", c.name, FormatSize(guess.KV()), FormatSize(real.KV()))
		}
		if float64(guess.Total()) > 1.35*float64(real.Total())+256*mib {
			t.Errorf("%s: estimated %s for %s in all", c.name, FormatSize(guess.Total()), FormatSize(real.Total()))
		}
	}
	if (Need{Weights: 1 * gb, KVBytes: math.NaN(), Layers: -1, Context: -5, Parallel: -2}).KV() != (Need{Weights: 1 * gb}).KV() {
		t.Error("nonsense is not taken as unknown")
	}
	if (Need{Weights: 1, Layers: math.MaxInt, KVHeads: math.MaxInt, HeadDim: math.MaxInt, Context: math.MaxInt}).Total() != math.MaxUint64 {
		t.Error("overflow")
	}
}

func machine(ram uint64, gpus ...uint64) Inventory {
	i := Inventory{RAM: bytesOf(ram), RAMFree: bytesOf(ram)}
	for _, v := range gpus {
		i.GPUs = append(i.GPUs, GPU{Vendor: NVIDIA, VRAM: detected(v), Free: detected(v)})
	}
	i.tally()
	return i
}

func unified(vendor Vendor, ram, vram uint64) Inventory {
	i := Inventory{
		RAM: detected(ram), RAMFree: detected(ram), Pool: detected(ram), PoolFree: detected(ram),
		GPUs: []GPU{{Vendor: vendor, Integrated: true, VRAM: detected(vram), Free: detected(vram)}},
	}
	i.tally()
	return i
}

// TestCouldRun72B is the rule against the machines it was made for.
func TestCouldRun72B(t *testing.T) {
	at := func(ctx int) Need {
		n := Reference72B()
		n.Context = ctx
		return n
	}
	for _, c := range []struct {
		name     string
		i        Inventory
		need     Need
		class    Class
		low, top float64 // share
	}{
		{"cpu, 30 GB", machine(30 * gib), at(4096), None, 0, 0},
		{"cpu, 14 GB", machine(14 * gib), at(4096), None, 0, 0},
		{"cpu, 64 GB", machine(62 * gib), at(4096), CPU, 0, 0},
		{"4090 and 64 GB", machine(62*gib, 24564*mib), at(4096), Partial, 0.48, 0.53},
		{"4090 and 16 GB", machine(16*gib, 24564*mib), at(4096), None, 0, 0},
		{"A6000 48 GB", machine(62*gib, 48*gib), at(4096), Tight, 1, 1},
		{"H100 80 GB", machine(62*gib, 80*gib), at(4096), Full, 1, 1},
		{"80 GB, RAM unknown", machine(0, 80*gib), at(4096), Full, 1, 1},
		{"24 GB, RAM unknown", machine(0, 24*gib), at(4096), None, 0, 0},
		{"four 24 GB", machine(62*gib, 24*gib, 24*gib, 24*gib, 24*gib), at(4096), Full, 1, 1},
		{"395, 64 GB, half for the GPU", unified(AMD, 63*gib, 31*gib), at(4096), Partial, 0.6, 0.7},
		{"395, 64 GB, 47 GiB for the GPU", unified(AMD, 63*gib, 47*gib), at(4096), Tight, 1, 1},
		{"395, 32 GB", unified(AMD, 31*gib, 16*gib), at(4096), None, 0, 0},
		{"Mac 64 GB at 4k", unified(Apple, 64*gib, 48*gib), at(4096), Tight, 1, 1},
		{"Mac 64 GB at 32k", unified(Apple, 64*gib, 48*gib), at(32768), Partial, 0.8, 0.9},
		{"Mac 64 GB at 128k", unified(Apple, 64*gib, 48*gib), at(131072), None, 0, 0},
		{"Mac 32 GB", unified(Apple, 32*gib, 21*gib), at(4096), None, 0, 0},
		{"GB10 leaves room for the system", unified(NVIDIA, 121*gib, 121*gib), at(262144), None, 0, 0},
		{"nothing known", Inventory{}, at(4096), None, 0, 0},
		{"size unknown", machine(500*gib, 80*gib), Need{}, None, 0, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			class, share := c.i.CouldRun(c.need)
			if class != c.class || share < c.low || share > c.top {
				t.Errorf("%v %.3f", class, share)
			}
			now, nowShare := c.i.CanRunNow(c.need, 0) // all is free
			if now != class || nowShare != share {
				t.Errorf("now %v %.3f", now, nowShare)
			}
			if c.need == Reference72B() && c.i.Capable72B() != (class != None) {
				t.Error("72B capable disagrees")
			}
		})
	}
}

func TestCanRunNow(t *testing.T) {
	free := func(i Inventory, ram uint64, gpus ...uint64) Inventory {
		i = i.clone()
		i.RAMFree, i.PoolFree = detected(ram), atMost(detected(ram), i.Pool)
		for k := range i.GPUs {
			i.GPUs[k].Free = detected(gpus[k])
		}
		pool := i.PoolFree
		i.tally()
		if i.Unified {
			i.PoolFree = pool
		}
		return i
	}
	eight := Need{Weights: 4_920_000_000, Layers: 32, KVHeads: 8, HeadDim: 128} // 5.1 GiB
	card := machine(32*gib, 24*gib)
	unknown := card.clone()
	unknown.GPUs[0].Free, unknown.RAMFree = Bytes{}, Bytes{}
	for _, c := range []struct {
		name      string
		i         Inventory
		n         Need
		evictable uint64
		class     Class
	}{
		{"idle", card, eight, 0, Full},
		{"busy", free(card, 20*gib, 6*gib), eight, 0, Partial},
		{"a bit more", free(card, 20*gib, 6800*mib), eight, 0, Tight},
		{"what is there can go", free(card, 20*gib, 6*gib), eight, 10 * gib, Full},
		{"more can go than is held: it was in RAM", free(card, 1*gib, 24*gib-256*mib), Reference72B(), 40 * gib, Partial},
		{"full GPU, RAM left", free(card, 20*gib, 0), eight, 0, CPU},
		{"nothing left", free(card, 1*gib, 0), eight, 0, None},
		{"nothing left, and it can go", free(card, 1*gib, 0), eight, 24 * gib, Full},
		{"free unknown", unknown, eight, 0, None},
		{"free unknown, but this much is known to be held and can go", unknown, eight, 12 * gib, Full},
		{"free unknown, RAM of it stays unknown", unknown, Reference72B(), math.MaxUint64, None},
		{"never more than the total", free(card, 20*gib, 24*gib), Reference72B(), math.MaxUint64, Partial},
		{"two GPUs, where the evictable sits is unknown", free(machine(8*gib, 8*gib, 8*gib), 2*gib, 2*gib, 2*gib), eight, 2500 * mib, Partial},
		{"two GPUs, both hold it", free(machine(8*gib, 8*gib, 8*gib), 2*gib, 2*gib, 2*gib), eight, 12 * gib, Full},
		{"unified, in use", free(unified(Apple, 64*gib, 48*gib), 20*gib, 20*gib), Reference72B(), 0, None},
		{"unified, can go", free(unified(Apple, 64*gib, 48*gib), 20*gib, 20*gib), Reference72B(), 40 * gib, Tight},
	} {
		t.Run(c.name, func(t *testing.T) {
			if class, share := c.i.CanRunNow(c.n, c.evictable); class != c.class {
				t.Errorf("%v %.3f", class, share)
			}
		})
	}
}

// TestVendorsAreNotAdded: a model is not spread over two makers' GPUs.
func TestVendorsAreNotAdded(t *testing.T) {
	i := Inventory{GPUs: []GPU{
		{Vendor: NVIDIA, VRAM: detected(24 * gib)},
		{Vendor: AMD, VRAM: detected(24 * gib)},
		{Vendor: Intel, VRAM: detected(400 * gib), Unused: true},
	}}
	i.tally()
	if i.VRAM.N != 48*gib {
		t.Errorf("vram %v", i.VRAM)
	}
	if class, _ := i.CouldRun(Reference72B()); class != None {
		t.Errorf("%v", class)
	}
	if class, _ := i.CouldRun(Need{Weights: 15 * gb}); class != Full {
		t.Errorf("%v", class)
	}
}

// TestSumWithoutList: an inventory that names a sum and no GPUs still fits.
func TestSumWithoutList(t *testing.T) {
	i := Inventory{VRAM: detected(80 * gib), VRAMFree: detected(10 * gib), RAM: detected(64 * gib), RAMFree: detected(60 * gib)}
	if class, _ := i.CouldRun(Reference72B()); class != Full {
		t.Errorf("%v", class)
	}
	if class, _ := i.CanRunNow(Reference72B(), 0); class != Partial {
		t.Errorf("%v", class)
	}
}

func TestGPUOverhead(t *testing.T) {
	i := machine(8*gib, 8*gib)
	n := Need{Weights: 6300 * mib, Layers: 1, KVHeads: 1, HeadDim: 1}
	if class, _ := i.CouldRun(n); class != Tight {
		t.Errorf("%v", class)
	}
	i.GPUOverhead = 4 * gib
	if class, _ := i.CouldRun(n); class != Partial {
		t.Errorf("with overhead %v", class)
	}
}

// TestFitIsMonotonic: more memory never fits worse, more need never better.
func TestFitIsMonotonic(t *testing.T) {
	var last Class
	for gpu := range uint64(80) {
		class, _ := machine(60*gib, gpu*gib).CouldRun(Reference72B())
		if class < last {
			t.Errorf("%d GiB: %v after %v", gpu, class, last)
		}
		last = class
	}
	last = Full
	for w := uint64(1); w < 120; w++ {
		class, share := machine(60*gib, 24*gib).CouldRun(Need{Weights: w * gib})
		if class > last || share < 0 || share > 1 {
			t.Errorf("%d GiB: %v %.2f after %v", w, class, share, last)
		}
		last = class
	}
	if last != None {
		t.Errorf("ends with %v", last)
	}
}

func TestClassText(t *testing.T) {
	for c := None; c <= Full; c++ {
		text, err := json.Marshal(map[string]Class{"c": c})
		var back map[string]Class
		if err != nil || json.Unmarshal(text, &back) != nil || back["c"] != c || string(text) != `{"c":"`+c.String()+`"}` {
			t.Errorf("%v: %s, %v", c, text, err)
		}
	}
	if _, err := Class(9).MarshalText(); !errors.Is(err, ErrClass) {
		t.Error(err)
	}
	var c Class
	if err := c.UnmarshalText([]byte("huge")); !errors.Is(err, ErrClass) || Class(-1).String() != "class(-1)" {
		t.Error(err)
	}
	if !(None < CPU && CPU < Partial && Partial < Tight && Tight < Full) {
		t.Error("order")
	}
}

// FuzzInventory: whatever a peer sends, the decisions neither crash nor leave
// their range.
func FuzzInventory(f *testing.F) {
	for _, name := range []string{"rtx4090", "strix_96g", "cpu"} {
		text, err := json.Marshal(Detect(f.Context(), fixture(f, name)))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text, uint64(47_400_000_000), 80, 8, 128, 4096, uint64(gib))
	}
	f.Add([]byte(`{"gpus":[{"vram":{"bytes":18446744073709551615,"source":"x"}},{"vram":{"bytes":18446744073709551615,"source":"x"},"free":{"bytes":1,"source":"y"}}],"unified":true}`),
		uint64(math.MaxUint64), math.MaxInt, 1, 1, -1, uint64(math.MaxUint64))
	f.Fuzz(func(t *testing.T, text []byte, weights uint64, layers, heads, dim, ctx int, evictable uint64) {
		var i Inventory
		if json.Unmarshal(text, &i) != nil {
			return
		}
		n := Need{Weights: weights, Layers: layers, KVHeads: heads, HeadDim: dim, Context: ctx}
		could, share := i.CouldRun(n)
		now, nowShare := i.CanRunNow(n, evictable)
		if now > could || !(share >= 0 && share <= 1) || !(nowShare >= 0 && nowShare <= 1) {
			t.Fatalf("could %v %v, now %v %v", could, share, now, nowShare)
		}
		decode, prefill := Prior(i, weights, share)
		if !(decode > 0 && decode <= maxDecode && prefill > 0 && prefill <= maxPrefill) {
			t.Fatalf("%v %v", decode, prefill)
		}
		if i.Summary() == "" || i.GPUKind() == "" {
			t.Fatal("nothing to show")
		}
		i.Learn(evictable, weights)
		i.Apply(Overrides{GPU: string(text), VRAM: weights, RAM: evictable})
	})
}
