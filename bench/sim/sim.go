package sim

import (
	"math"
	"math/rand/v2"
	"strconv"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh/hardware"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/backend"
)

// Cell is one experiment. Equal cells give equal results, and cells that differ
// only in their Rule get the same requests.
type Cell struct {
	Fleet    Fleet
	Load     float64 // of Fleet.Capacity
	Rule     Rule
	Requests int    // default 3000; the first quarter of them is not measured, see warming
	Seed     uint64 // default 1

	Gossip float64 // seconds between a node's reports; default 1
	Loss   float64 // share of reports that one listener does not get

	Answers     float64 // times as long as the fleet's mean; 0: as long
	WrongSpeeds float64 // what each node is told of each model's speed is wrong by up to this share, for good
	NoLengths   bool    // nobody knows how long answers are on average
	OneEntry    bool    // all clients talk to one node
	Crowd       float64 // from a third on, the arrivals of so many seconds at five times the rate
	Bursts      bool    // arrivals in clumps: a quarter of the rate or seven quarters, for 10 s or so each
	Dies        bool    // in the middle one machine goes, and comes back a minute later
	DiesSilent  bool    // the same, without a reset of its connections
}

// warming is the share of a cell's requests at its beginning that are not
// measured: queues fill, and nodes that have never run a model find out how fast
// they are, which a node on its disk keeps for good.
const warming = 4

// Sim is a running experiment.
type Sim struct {
	Cell
	clock
	random  *rand.Rand
	models  map[string]int
	nodes   []*node
	entries []*entry
	tickets map[*backend.Entry]*ticket
	arrive  func(*request) // by the rule
	ended   func(*request) // nil: nobody wants to know
	guesses map[guessKey]guess

	times   []float64 // of all arrivals
	soon    int       // the next of them
	waiting int       // requests that wait at gates

	left int
	out  *Result
}

type guessKey struct {
	kind *Kind
	key  string
}

type guess struct{ decode, prefill float64 }

// guess is the first guess that a node makes of a speed from its bandwidth.
func (s *Sim) guess(k *Kind, key string) guess {
	at := guessKey{k, key}
	if g, ok := s.guesses[at]; ok {
		return g
	}
	m := k.card.Catalog.Find(key)
	_, share := k.Hardware.CouldRun(m.Need(0, 1))
	d, p := hardware.Prior(k.Hardware, m.Size, share)
	s.guesses[at] = guess{d, p}
	return s.guesses[at]
}

// Run plays a cell.
func Run(c Cell) *Result {
	if c.Requests == 0 {
		c.Requests = 3000
	}
	if c.Seed == 0 {
		c.Seed = 1
	}
	if c.Gossip == 0 {
		c.Gossip = 1
	}
	if c.Answers > 0 {
		c.Fleet = c.Fleet.answering(c.Answers)
	}
	c.Fleet.prepare()
	s := &Sim{
		Cell: c, random: rand.New(rand.NewPCG(c.Seed, 1)), models: map[string]int{},
		tickets: map[*backend.Entry]*ticket{}, guesses: map[guessKey]guess{}, out: &Result{},
	}
	for i := range c.Fleet.Models {
		s.models[c.Fleet.Models[i].Key] = i
	}
	for i, k := range c.Fleet.Kinds {
		s.nodes = append(s.nodes, s.newNode(i, k))
	}
	c.Rule.begin(s)
	s.left = c.Requests
	s.arrivals(rand.New(rand.NewPCG(c.Seed, 2)))
	if c.Dies || c.DiesSilent {
		s.at(s.out.span/2, s.accident)
	}
	s.out.requests = c.Requests
	s.run(func() bool { return s.left == 0 })
	for _, n := range s.nodes {
		s.out.loads += n.dev.loads
	}
	return s.out
}

// arrivals plans all first requests of clients: Poisson, or in clumps.
func (s *Sim) arrivals(random *rand.Rand) {
	rate := s.Load * s.Fleet.Capacity()
	turns := max(s.Fleet.Turns, 1)
	expected := float64(s.Requests) / rate
	t, until, factor := 0.0, 0.0, 1.0
	crowd := expected / 3
	for n := 0; n < s.Requests; {
		now := rate * factor
		if s.Crowd > 0 && t >= crowd && t < crowd+s.Crowd {
			now *= 5
		}
		t += random.ExpFloat64() / now * turns
		if s.Bursts && t > until {
			until = t + 10*random.ExpFloat64()
			factor = 0.25 + 1.5*float64(random.IntN(2))
		}
		r := s.newRequest(random, n)
		n++
		if s.Fleet.Turns > 0 {
			r.conversation = r.number + 1
			for r.turns = 1; random.Float64() > 1/s.Fleet.Turns && n < s.Requests; r.turns++ {
				n++
			}
			n = min(n, s.Requests)
		}
		s.times = append(s.times, t)
		s.at(t, func() { s.arrive(r) })
	}
	s.out.span = t
}

// newRequest draws a request.
func (s *Sim) newRequest(random *rand.Rand, number int) *request {
	r := &request{number: number, id: strconv.Itoa(number), arrived: -1}
	luck := random.Float64()
	for m := range s.Fleet.Models {
		r.model = m
		if luck -= s.Fleet.Models[m].Share; luck < 0 {
			break
		}
	}
	m := &s.Fleet.Models[r.model]
	r.key = m.Key
	r.prompt = logNormal(random, m.Prompt, 1)
	r.output = logNormal(random, m.Output, 0.8)
	r.entry = random.IntN(len(s.Fleet.Kinds))
	if s.OneEntry {
		r.entry = 0
	}
	r.client = strconv.Itoa(random.IntN(1000))
	r.random = rand.New(rand.NewPCG(random.Uint64(), 3))
	return r
}

// logNormal draws whole tokens with the mean given.
func logNormal(random *rand.Rand, mean, sigma float64) float64 {
	v := mean * math.Exp(sigma*random.NormFloat64()-sigma*sigma/2)
	return math.Round(min(max(v, 1), 20*mean))
}

// accident ends the machine that does the most for the mesh and still leaves
// holders of each model, for a minute.
func (s *Sim) accident() {
	best := -1
	for i, n := range s.nodes {
		alone := false
		for m := range s.Fleet.Models {
			alone = alone || n.kind.holds(m) && s.holders(m) < 2
		}
		if !alone && (best < 0 || n.speed[0].Decode > s.nodes[best].speed[0].Decode) {
			best = i
		}
	}
	n := s.nodes[best]
	if n.dev.held() == 0 {
		s.after(0.1, s.accident) // with work on it
		return
	}
	n.die()
	s.after(60, func() {
		n.boot()
		n.plan()
		s.after(1, func() { s.tell(n) })
	})
}

func (s *Sim) holders(m int) (count int) {
	for _, n := range s.nodes {
		if n.kind.holds(m) {
			count++
		}
	}
	return count
}
