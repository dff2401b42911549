package router

import (
	"time"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh/hardware"
)

// Tune is for experiments.
var Tune = struct {
	Slow, Stall, Share, Evict, Block, Queue, Jitter, JitterAge, Band float64
}{1, 1, 1, 1, 1, 0, 0.05, 0, 0}

// defaultOutput stands for the length of an answer, tokens, while nobody has
// seen one of the model.
const defaultOutput = 256

type estimator struct {
	q   *Request
	s   *Snapshot
	out float64 // tokens to be written, as expected
}

func newEstimator(q *Request, s *Snapshot, holders []mesh.Holder) estimator {
	e := estimator{q: q, s: s}
	if q.Embedding {
		return e
	}
	var sum, n float64
	for i := range holders {
		if ml := holders[i].Member.Load.Model(q.Key); ml != nil && ml.Output > 0 {
			k := float64(max(1, ml.Samples))
			sum += k * ml.Output
			n += k
		}
	}
	e.out = defaultOutput
	if n > 0 {
		e.out = sum / n
	}
	if q.OutputTokens > 0 {
		e.out = min(e.out, float64(q.OutputTokens))
	}
	return e
}

func (e *estimator) candidate(h *mesh.Holder) (Candidate, Reason) {
	m := h.Member
	switch {
	case m.Status != mesh.Alive:
		return Candidate{}, ReasonGone
	case h.Model.Remote != "":
		return Candidate{}, ReasonRemote
	case m.Draining():
		return Candidate{}, ReasonDraining
	case !m.Serving():
		return Candidate{}, ReasonNoOllama
	}
	load := m.Load
	var ml *mesh.ModelLoad
	if load != nil {
		ml = load.Model(e.q.Key)
	}
	need := h.Model.Need(e.q.Context, m.Parallel())
	class, share := m.Card.Hardware.CouldRun(need)
	if class == hardware.None && (ml == nil || !ml.Resident) {
		return Candidate{}, ReasonTooBig
	}
	est := e.estimate(h, ml, class, share, need.Total())
	return Candidate{Member: m, Model: h.Model, Estimate: est, rank: e.rank(m, est)}, ""
}

// others is what a node does beside the model in question.
type others struct {
	active  int     // models that compute
	running float64 // their requests
	waiting float64
	left    float64 // mean seconds that one of their running requests still takes
	idle    float64 // bytes of idle resident models
	busy    float64 // bytes of busy ones
	worth   float64 // seconds that it would cost, on expectation, to evict idle ones
	wanting float64 // requests that wait for a model that is not in memory
}

func (e *estimator) estimate(h *mesh.Holder, ml *mesh.ModelLoad, class hardware.Class, share float64, bytes uint64) Estimate {
	m := h.Member
	load := m.Load
	slots := float64(m.Parallel())
	var blank mesh.ModelLoad
	if ml == nil {
		ml = &blank
	}
	if ml.Slots > 0 {
		slots = float64(ml.Slots)
	}
	decode, prefill := ml.Decode, ml.Prefill
	if decode == 0 || prefill == 0 {
		d, p := hardware.Prior(m.Card.Hardware, h.Model.Size, share)
		if decode == 0 {
			decode = d
		}
		if prefill == 0 {
			prefill = p
		}
	}
	slope := ml.Slope
	cold := ml.Cold
	if cold == 0 {
		cold = 1 + float64(h.Model.Size)/1.5e9
	}
	age := 0.0
	if load != nil {
		age = max(0, e.s.Now.Sub(m.Heard).Seconds())
	}
	prompt := float64(e.q.PromptTokens)
	if len(e.s.Cached) > 0 {
		prompt = max(0, prompt-float64(e.s.Cached[m.ID]))
	}
	lonePrefill, loneDecode := prompt/prefill, e.out/decode

	// Own work that the report cannot have counted.
	running, waiting := float64(ml.Running), float64(ml.Waiting)
	unreported, foreign := 0.0, 0.0
	if len(e.s.Outstanding) > 0 {
		for _, w := range e.s.Outstanding[m.ID] {
			if w.Key == e.q.Key {
				unreported++
			} else {
				foreign++
			}
		}
	}

	var o others
	if load != nil {
		for i := range load.Models {
			x := &load.Models[i]
			if x.Key == e.q.Key {
				continue
			}
			if x.Running > 0 && x.Resident {
				o.active++
				o.running += float64(x.Running)
				o.waiting += float64(x.Waiting)
				if x.Decode > 0 {
					o.left += float64(x.Running) * 0.8 * x.Output / x.Decode * (1 + x.Slope*float64(x.Running-1))
				}
				o.busy += float64(x.Size)
			} else if x.Resident {
				o.idle += float64(x.Size)
				left := x.Expires.Sub(e.s.Now).Seconds() / 300
				o.worth += x.Cold * min(1, max(0, left))
			} else if x.Loading {
				o.busy += float64(x.Size)
			} else if x.Waiting > 0 {
				o.wanting += float64(x.Waiting)
			}
		}
		if o.running > 0 {
			o.left /= o.running
		}
	}
	if foreign > 0 {
		o.active = max(o.active, 1)
		o.running += foreign
		if o.left == 0 {
			o.left = loneDecode
		}
	}

	// Wait and load.
	resident := ml.Resident
	var wait, loading, evict float64
	wait = max(0, ml.Start-age)
	free := slots - running - waiting
	service := lonePrefill + loneDecode*(1+slope*(slots-1))
	if resident || ml.Loading || waiting > 0 {
		if over := unreported - max(0, free-1); over > 0 {
			if wait == 0 && free > 0 {
				over--
				wait = 0.8 * service / slots
			}
			wait += max(0, over) * service / slots
		}
		// Start counts a load that somebody else has caused.
	} else {
		loading = cold
		if load != nil && (load.FreeVRAM > 0 || load.FreeRAM > 0) {
			room := float64(load.FreeVRAM)
			if class == hardware.CPU || class == hardware.Partial {
				room += float64(load.FreeRAM)
			}
			lack := float64(bytes) - room
			if class == hardware.Partial {
				lack = o.idle + o.busy
			}
			if lack > 0 {
				part := 1.0
				if o.idle > 0 {
					part = min(1, lack/o.idle)
				}
				evict = o.worth * part
				if lack > o.idle { // busy models must go: whoever uses them will want them back
					for i := range load.Models {
						if x := &load.Models[i]; x.Resident && x.Running > 0 && x.Key != e.q.Key {
							evict += x.Cold * (1 + float64(x.Waiting))
						}
					}
				}
			}
		}
		if unreported > 0 { // it will be loaded once
			loading = cold
			if unreported >= slots {
				wait += (unreported - slots + 1) * service / slots
			}
		}
	}

	batch := min(running+unreported, slots-1) // others in the batch
	share2 := float64(o.active + 1)
	pre := lonePrefill * share2
	dec := loneDecode * (1 + slope*batch) * share2

	// Harm.
	harm := Tune.Evict * evict
	rest := 0.8 * loneDecode * (1 + slope*batch) * share2
	if free-unreported > 0 && resident {
		overlap := min(dec, rest)
		harm += Tune.Slow * batch * overlap * slope / (1 + slope*batch)
		harm += Tune.Stall * batch * pre
	} else {
		harm += Tune.Queue * batch * rest * slope / (1 + slope*batch)
	}
	if o.active > 0 {
		own := lonePrefill + loneDecode*(1+slope*batch)
		fresh := 1.0
		if running+unreported > 0 {
			fresh = 1 / (running + waiting + unreported + 1)
		}
		harm += Tune.Share * fresh * (o.running + o.waiting) * min(own, max(o.left, 0.2*own))
	}
	if o.wanting > 0 && resident {
		harm += Tune.Block * o.wanting * (pre + dec) / (running + waiting + unreported + 1)
	}

	est := Estimate{
		Wait: seconds(wait), Load: seconds(loading), Prefill: seconds(pre), Decode: seconds(dec),
		Harm: seconds(harm), Class: class,
	}
	if !m.Self {
		est.Network = m.RTT
	}
	if len(e.s.Trouble) > 0 {
		est.Trouble = e.s.Trouble[m.ID]
	}
	return est
}

// rank is the cost with near ties spread.
func (e *estimator) rank(m *mesh.Member, est Estimate) time.Duration {
	t := est.Total()
	age := max(0, e.s.Now.Sub(m.Heard).Seconds())
	j := Tune.Jitter + Tune.JitterAge*age
	if j == 0 {
		return t
	}
	h := e.s.Seed
	for i := range len(m.ID) {
		h = (h ^ uint64(m.ID[i])) * 1099511628211
	}
	h ^= h >> 32
	h *= 0x9e3779b97f4a7c15
	u := float64(h>>11) / (1 << 53)
	return t + time.Duration(float64(t)*j*u)
}
