package backend

import (
	"math"
	"sync"
	"time"
)

// Speed is what is known of how fast one model runs here. 0 is unknown.
type Speed struct {
	Decode  float64 // tok/s of a lone request
	Prefill float64 // prompt tok/s of a lone request
	Slope   float64 // each further request beside it adds this share to a token's time
	Cold    float64 // seconds of a cold load
	Output  float64 // mean answer, tokens
	Samples int     // answers behind Decode
	Partial bool    // last seen with part of it off the GPU
}

// Sample is one finished answer in Ollama's own figures.
type Sample struct {
	PromptTokens int
	PromptTime   time.Duration
	OutputTokens int
	OutputTime   time.Duration
	LoadTime     time.Duration
	Cold         bool    // it had to load the model
	Together     float64 // mean number of requests that its runner ran at once, itself included
	Others       float64 // mean number of other models that ran beside it; they share the device
}

// TrustedSamples is how many answers outweigh the bandwidth-based first guess.
const TrustedSamples = 3

// newest is the weight of the newest answer in a running mean, once there are
// more than 1/newest of them: about the last nine answers count for two thirds.
const newest = 0.2

// GuessSlope stands in for a batching slope that nobody has measured. Decoding
// a token reads all weights whatever the batch, so that a second request costs
// a GPU with compute to spare little and a CPU much; 0 would be a free ride and
// 1 no gain at all. The guess lies between and is replaced by measurement.
const GuessSlope = 0.3

// What no Ollama on any machine does; figures beyond are errors of measurement
// (a duration of 0, a clock that jumped, a prompt that came from the cache).
const (
	maxDecode  = 20_000
	maxPrefill = 500_000
	minRate    = 0.001
)

// Samples smaller than this say more about overheads than about rates.
const (
	minDecodeTokens  = 4
	minPrefillTokens = 16
)

// cachedFactor tells a prompt that came from the KV cache: Ollama counts all
// its tokens but the time of the few that it computed.
const cachedFactor = 4

// rate is what is remembered of one model; its fields are what the file holds.
type rate struct {
	Decode   float64   `json:"decode,omitzero"`
	Prefill  float64   `json:"prefill,omitzero"`
	Slope    float64   `json:"slope,omitzero"`
	Cold     float64   `json:"cold,omitzero"`
	Output   float64   `json:"output,omitzero"`
	Decodes  int       `json:"decodes,omitzero"` // samples behind each of them
	Prefills int       `json:"prefills,omitzero"`
	Slopes   int       `json:"slopes,omitzero"`
	Alone    int       `json:"alone,omitzero"` // decodes without company
	Colds    int       `json:"colds,omitzero"`
	Outputs  int       `json:"outputs,omitzero"`
	Partial  bool      `json:"partial,omitzero"`
	Seen     time.Time `json:"seen"`
}

// Rates remembers how fast each model has run, by the model's digest. It is
// safe for concurrent use.
type Rates struct {
	mu     sync.Mutex
	models map[string]*rate
	dirty  bool
}

// NewRates makes an empty memory.
func NewRates() *Rates { return &Rates{models: make(map[string]*rate)} }

// Observe learns from one answer. Rates are brought to what a lone request
// would have had, by decode(n) = decode(1) / (1 + slope*(n-1)), and the slope
// is learnt from the answers that had company. Figures that cannot be are
// ignored, each for itself.
func (r *Rates) Observe(digest string, s Sample, now time.Time) {
	if digest == "" {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	m := r.models[digest]
	if m == nil {
		m = &rate{}
		r.models[digest] = m
	}
	m.Seen, r.dirty = now, true
	m.observe(s)
}

func (m *rate) observe(s Sample) {
	together, share := sane(s.Together, 1, 1024), 1+sane(s.Others, 0, 64)
	slow := (1 + m.slope()*(together-1)) * share

	if f := perSecond(s.OutputTokens, s.OutputTime); s.OutputTokens >= minDecodeTokens && between(f, maxDecode) {
		alone := together < 1.05
		// The slope can only be told from the rate by answers of both kinds.
		if !alone && m.Alone > 0 {
			slope := (m.Decode/(f*share) - 1) / (together - 1)
			mean(&m.Slope, &m.Slopes, min(max(slope, 0), 2))
		}
		switch {
		case alone && m.Alone == 0: // better than all that rested on a guessed slope
			m.Decode, m.Decodes = f*slow, min(m.Decodes+1, 1<<20)
		case alone || m.Alone == 0 || m.Slopes >= TrustedSamples:
			mean(&m.Decode, &m.Decodes, f*slow)
		}
		if alone {
			m.Alone = min(m.Alone+1, m.Decodes)
		}
	}
	if f := perSecond(s.PromptTokens, s.PromptTime); s.PromptTokens >= minPrefillTokens && between(f, maxPrefill) {
		f *= share
		if m.Prefills < TrustedSamples || f < cachedFactor*m.Prefill {
			mean(&m.Prefill, &m.Prefills, f)
		}
	}
	if sec := s.LoadTime.Seconds(); s.Cold && sec > 0.02 && sec < 3600 {
		mean(&m.Cold, &m.Colds, sec)
	}
	if s.OutputTokens > 0 && s.OutputTokens < 1<<20 {
		mean(&m.Output, &m.Outputs, float64(s.OutputTokens))
	}
}

// Seen notes whether the model in memory is partly off the GPU.
func (r *Rates) Seen(digest string, partial bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if m := r.models[digest]; m != nil && m.Partial != partial {
		m.Partial, r.dirty = partial, true
	}
}

// Speed is what has been measured of the model; the zero Speed when nothing
// has. Slope is GuessSlope until it was measured.
func (r *Rates) Speed(digest string) Speed {
	r.mu.Lock()
	defer r.mu.Unlock()
	m := r.models[digest]
	if m == nil {
		return Speed{}
	}
	return Speed{
		Decode: m.Decode, Prefill: m.Prefill, Slope: m.slope(), Cold: m.Cold,
		Output: m.Output, Samples: m.Decodes, Partial: m.Partial,
	}
}

func (m *rate) slope() float64 {
	if m.Slopes == 0 {
		return GuessSlope
	}
	return m.Slope
}

// mean moves *avg towards v: the plain mean of the first 1/newest values, then
// an exponentially weighted one.
func mean(avg *float64, n *int, v float64) {
	*n = min(*n+1, 1<<20)
	*avg += (v - *avg) * max(newest, 1/float64(*n))
}

func perSecond(n int, d time.Duration) float64 {
	if n <= 0 || d <= 0 {
		return 0
	}
	return float64(n) / d.Seconds()
}

func between(f, most float64) bool { return f > minRate && f < most }

func sane(f, least, most float64) float64 {
	if math.IsNaN(f) {
		return least
	}
	return min(max(f, least), most)
}
