package backend

import (
	"math"
	"slices"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh/hardware"
)

// Facts is everything that a node says of itself, gathered at one moment.
type Facts struct {
	State    *State
	Gate     Occupancy
	Hardware hardware.Inventory
	// Held is what models held of the machine's memory when Hardware's free
	// numbers were read: /api/ps knows of loads and unloads sooner.
	Held    Held
	Peak    uint64 // most bytes of models ever seen on the GPU
	Speed   func(digest string) Speed
	Foreign bool
}

// Report puts the facts together: the Card is what the node can do and changes
// rarely, the Load how busy it is. Node, Incarnation and Seq of the Load are
// left to the caller. Names that share a runner are reported each with the
// runner's numbers; Load.Running and Load.Waiting count every request once.
func Report(f Facts) (mesh.Card, mesh.Load) {
	held := HeldBy(f.State.Resident)
	hw := correct(f.Hardware, f.Held, held).Learn(held.VRAM, f.Peak)
	load := mesh.Load{
		Up: f.State.Up, Draining: f.Gate.Draining, Foreign: f.Foreign,
		Running: f.Gate.Running, Waiting: f.Gate.Waiting, Written: f.Gate.Written,
		FreeVRAM: known(hw.VRAMFree), FreeRAM: known(hw.RAMFree),
	}
	for _, key := range reported(f) {
		load.Models = append(load.Models, modelLoad(f, key))
	}
	slices.SortStableFunc(load.Models, func(a, b mesh.ModelLoad) int { return rank(a) - rank(b) })
	return mesh.Card{
		Hardware: static(hw), Catalog: f.State.Catalog, Ollama: f.State.Version,
		Parallel: f.Gate.Parallel, MaxLoad: f.Gate.MaxLoaded,
	}, load
}

// known writes an amount where 0 means unknown: what is known to be nothing is
// one byte.
func known(b hardware.Bytes) uint64 {
	if !b.Known() {
		return 0
	}
	return max(b.N, 1)
}

// rank orders models by how much others need to know of them: reports may be
// cut to fit a datagram.
func rank(m mesh.ModelLoad) int {
	switch {
	case m.Running+m.Waiting > 0:
		return 0
	case m.Resident || m.Loading:
		return 1
	}
	return 2
}

// reported lists the models worth a line: in memory, asked for, or measured.
func reported(f Facts) []string {
	keys := Reported(f.State, f.Speed)
	for key := range f.Gate.Models {
		if m := f.Gate.Models[key]; m.Running+m.Waiting > 0 && !slices.Contains(keys, key) {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	return keys
}

// Reported lists the models of s that a report speaks of whether or not
// somebody uses them: what is in memory, and what has been measured.
func Reported(s *State, speed func(digest string) Speed) []string {
	var keys []string
	for i := range s.Catalog {
		m := &s.Catalog[i]
		if m.Remote != "" {
			continue
		}
		if s.InMemory(m.Key) != nil {
			keys = append(keys, m.Key)
		} else if speed != nil {
			if v := speed(m.Digest); v.Samples > 0 || v.Cold > 0 {
				keys = append(keys, m.Key)
			}
		}
	}
	for _, r := range s.Resident {
		if !slices.Contains(keys, r.Key) {
			keys = append(keys, r.Key)
		}
	}
	return keys
}

func modelLoad(f Facts, key string) mesh.ModelLoad {
	g := f.Gate.Models[key]
	l := mesh.ModelLoad{
		Key: key, Loading: g.Loading, Slots: g.Slots, Running: g.Running, Waiting: g.Waiting,
		Start: round(g.Start.Seconds()), Rate: round(g.Rate),
	}
	if r := f.State.InMemory(key); r != nil {
		l.Resident = !g.Loading
		l.Size, l.SizeVRAM, l.Context, l.Expires = r.Size, r.SizeVRAM, r.Context, r.Expires
		l.Partial, l.Alias = r.partial(), r.Key != key
	}
	if m := f.State.Model(key); m != nil && f.Speed != nil {
		v := f.Speed(m.Digest).checked(g.clock)
		l.Decode, l.Prefill, l.Slope = round(v.Decode), round(v.Prefill), round(v.Slope)
		l.Cold, l.Output, l.Samples = round(v.Cold), round(v.Output), v.Samples
		if l.SizeVRAM == 0 && l.Size == 0 {
			l.Partial = v.Partial
		}
	}
	return l
}

// partial reports whether only a part of the runner is on the GPU. A runner
// without any is a CPU's, not a partial one.
func (r *Resident) partial() bool { return r.SizeVRAM > 0 && r.SizeVRAM < r.Size }

// round keeps four significant digits: more say nothing, and make every report
// a change.
func round(f float64) float64 {
	if f == 0 || math.IsInf(f, 0) || math.IsNaN(f) {
		return 0
	}
	unit := math.Pow(10, math.Floor(math.Log10(math.Abs(f)))-3)
	return math.Round(f/unit) * unit
}
