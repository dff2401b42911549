package sim

import (
	"math"
	"math/rand/v2"
	"slices"
)

// Capacity is the most requests per second that the fleet can answer if every
// machine keeps in memory what it has there, all slots are busy, and all is
// spread in the best proportions: over the choices of what each machine keeps,
// 1 / the least highest load. Load 1 is where even that would be overrun.
func (f *Fleet) Capacity() float64 {
	f.prepare()
	if f.capacity > 0 {
		return f.capacity
	}
	// Machines of a kind in groups: one each where there are few.
	type group struct {
		kind  *Kind
		count float64
	}
	var groups []group
	for _, k := range f.Kinds {
		if n := len(groups); len(f.Kinds) > 32 && n > 0 && groups[n-1].kind == k && groups[n-1].count < 4 {
			groups[n-1].count++
		} else {
			groups = append(groups, group{k, 1})
		}
	}
	kept := make([][]bool, len(groups)) // by group and model
	load := func(rounds int) float64 {
		somewhere := make([]bool, len(f.Models))
		for m := range somewhere {
			for i := range kept {
				somewhere[m] = somewhere[m] || kept[i][m]
			}
		}
		return balance(len(f.Models), len(groups), rounds, func(m, i int) float64 {
			k := groups[i].kind
			switch {
			case k.holds(m) && !somewhere[m]:
				return 1e4 // the search must be able to begin
			case !k.holds(m) || !kept[i][m]:
				return math.Inf(1)
			}
			return f.Models[m].Share * f.work(k, m) / groups[i].count
		})
	}
	options := map[*Kind][][]bool{}
	for _, k := range f.Kinds {
		if options[k] == nil {
			options[k] = f.together(k)
		}
	}
	// Changing one machine at a time, from several beginnings.
	random := rand.New(rand.NewPCG(1, 1))
	chosen, least := slices.Clone(kept), math.Inf(1)
	for range starts {
		for i, g := range groups {
			kept[i] = options[g.kind][random.IntN(len(options[g.kind]))]
		}
		best := load(300)
		for better := true; better; {
			better = false
			for i, g := range groups {
				old := kept[i]
				for _, option := range options[g.kind] {
					kept[i] = option
					if l := load(300); l < best*0.999 {
						best, old, better = l, option, true
					}
				}
				kept[i] = old
			}
		}
		if l := load(3000); l < least {
			least, chosen = l, slices.Clone(kept)
		}
	}
	kept = chosen
	f.capacity = 1 / load(20000)
	return f.capacity
}

// starts is how many beginnings the search for what machines keep has.
const starts = 8

// together lists which models a machine of the kind can have in memory at once,
// as large sets as there are.
func (f *Fleet) together(k *Kind) (sets [][]bool) {
	n := len(f.Models)
	var fits []int
	for mask := 1; mask < 1<<n; mask++ {
		used, count, ok := 0.0, 0, true
		for m := n - 1; m >= 0; m-- { // the largest first; the rest beside it
			if mask>>m&1 == 0 {
				continue
			}
			need := float64(k.footprint[m])
			ok = ok && k.holds(m) && (used == 0 || used+need/0.8 <= float64(k.memory))
			used, count = used+need, count+1
		}
		if ok && count <= k.MaxLoaded {
			fits = append(fits, mask)
		}
	}
	for _, a := range fits {
		largest := true
		for _, b := range fits {
			largest = largest && (a == b || a&b != a)
		}
		if largest {
			set := make([]bool, n)
			for m := range set {
				set[m] = a>>m&1 == 1
			}
			sets = append(sets, set)
		}
	}
	return sets
}

// balance shares out models over machines so that the highest load is least, and
// returns it; cost is the load that all of a model would be to one machine. The
// linear program is solved by multiplicative weights (Arora, Hazan, Kale 2012):
// a busy machine gets dearer, each model goes to the cheapest, and the mean of
// all rounds is the answer.
func balance(models, machines, rounds int, cost func(m, i int) float64) float64 {
	costs := make([]float64, models*machines)
	price, busy, now := make([]float64, machines), make([]float64, machines), make([]float64, machines)
	worst := 0.0
	for i := range price {
		price[i] = 1
		sum := 0.0
		for m := range models {
			c := cost(m, i)
			costs[m*machines+i] = c
			if c < 1e3 {
				sum += c
			}
		}
		worst = max(worst, sum)
	}
	step := math.Sqrt(math.Log(float64(machines)+1)/float64(rounds)) / worst * 2
	for range rounds {
		clear(now)
		for m := range models {
			best, least := 0, math.Inf(1)
			for i, p := range price {
				if c := p * costs[m*machines+i]; c < least {
					best, least = i, c
				}
			}
			now[best] += costs[m*machines+best]
		}
		sum := 0.0
		for i := range price {
			busy[i] += now[i] / float64(rounds)
			price[i] *= math.Exp(step * min(now[i], worst))
			sum += price[i]
		}
		for i := range price {
			price[i] /= sum
		}
	}
	most := 0.0
	for _, b := range busy {
		most = max(most, b)
	}
	return most
}
