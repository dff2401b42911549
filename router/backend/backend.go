package backend

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh/hardware"
)

// Config makes a Backend. The zero Config watches 127.0.0.1:11434, remembers
// nothing and tells nobody.
type Config struct {
	// Host is where Ollama listens, written as OLLAMA_HOST; see ParseHost.
	Host string

	// Parallel and MaxLoaded are that server's OLLAMA_NUM_PARALLEL and
	// OLLAMA_MAX_LOADED_MODELS. 0: the variable in our own environment, else
	// what Ollama's version does by default. Too few wastes batching, too many
	// lets requests wait inside Ollama, from where they cannot move.
	Parallel, MaxLoaded int
	// Queue is how many requests may wait; 0: DefaultQueue.
	Queue int

	// RatesFile keeps measured speeds over restarts; "": they are forgotten.
	// Its directory must exist.
	RatesFile string

	Node        mesh.NodeID // whose loads these are
	Incarnation uint64      // start of the process, Unix ns; 0: now

	Transport http.RoundTripper // to Ollama; nil: NewTransport
	Logger    *slog.Logger      // nil discards
}

// Backend is the local Ollama behind a node: client, watcher, gate, rates and
// reporter as one. It is safe for concurrent use; New starts nothing and Run
// owns every goroutine.
type Backend struct {
	client   *Client
	watcher  *Watcher
	gate     *Gate
	rates    *Rates
	reporter *Reporter
	life     life
	limits   Limits                             // as configured
	hardware atomic.Pointer[hardware.Inventory] // nil before Run
	priors   sync.Map                           // digest -> *prior
	file     string
	log      *slog.Logger
}

// New checks c and makes a Backend. A file of rates that cannot be read is
// logged and replaced: speeds are measured again within a few requests.
func New(c Config) (*Backend, error) {
	base, err := ParseHost(c.Host)
	if err != nil {
		return nil, err
	}
	if c.Parallel < 0 || c.MaxLoaded < 0 || c.Queue < 0 {
		return nil, errors.New("backend: parallel, max loaded and queue must not be negative")
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Incarnation == 0 {
		c.Incarnation = uint64(time.Now().UnixNano())
	}
	if c.Parallel == 0 {
		c.Parallel = fromEnv("OLLAMA_NUM_PARALLEL")
	}
	if c.MaxLoaded == 0 {
		c.MaxLoaded = fromEnv("OLLAMA_MAX_LOADED_MODELS")
	}
	b := &Backend{
		client: NewClient(base, c.Transport), rates: NewRates(),
		log: c.Logger.With("component", "backend"),
	}
	if b.file = c.RatesFile; b.file != "" {
		if err := b.rates.Load(b.file); err != nil {
			b.log.Warn("measured speeds cannot be read and start anew", "file", b.file, "err", err)
		}
	}
	b.watcher = NewWatcher(b.client, c.Logger)
	b.limits = Limits{Parallel: c.Parallel, MaxLoaded: c.MaxLoaded, Queue: c.Queue, Speed: b.speed}
	b.gate = NewGate(GateConfig{
		Limits: b.limits, Load: b.Load, Done: b.finished,
		// A start may load a model and an end renews a keep-alive: look.
		Changed: func() { b.reporter.Changed(); b.watcher.Poke() },
	})
	b.reporter = NewReporter(ReporterConfig{
		Node: c.Node, Incarnation: c.Incarnation, State: b.watcher.State,
		Occupancy: b.gate.Occupancy, Speed: b.rates.Speed,
	})
	b.gate.Observe(b.watcher.State()) // down until it has been seen
	b.life.begin()
	return b, nil
}

func fromEnv(name string) int {
	n, err := strconv.Atoi(strings.Trim(strings.TrimSpace(os.Getenv(name)), `"'`))
	if err != nil || n < 0 || n > 1024 {
		return 0
	}
	return n
}

func gpusOf(i hardware.Inventory) (n int) {
	for _, g := range i.GPUs {
		if !g.Unused {
			n++
		}
	}
	return n
}

// speed is what the gate estimates with: measured, and blended with what the
// machine's memory bandwidth promises until there are enough measurements.
func (b *Backend) speed(_ string, m *mesh.Model) Speed {
	if m == nil {
		return Speed{}
	}
	s, hw := b.rates.Speed(m.Digest), b.hardware.Load()
	if s.Samples >= TrustedSamples || hw == nil {
		return s
	}
	p := b.prior(m, hw)
	return s.Blend(p.decode, p.prefill)
}

// prior is what hardware promises for a model. To find it out takes lists of
// devices, and it is asked for with every request and report.
type prior struct {
	model           *mesh.Model
	hw              *hardware.Inventory
	decode, prefill float64
}

func (b *Backend) prior(m *mesh.Model, hw *hardware.Inventory) *prior {
	if known, ok := b.priors.Load(m.Digest); ok {
		if p := known.(*prior); p.model == m && p.hw == hw {
			return p
		}
	}
	p := &prior{model: m, hw: hw}
	_, share := hw.CouldRun(m.Need(0, 1))
	p.decode, p.prefill = hardware.Prior(*hw, m.Size, share)
	b.priors.Store(m.Digest, p)
	return p
}

// Run watches, publishes to p (nil: to nobody) and remembers until ctx ends;
// then it saves what was learnt and returns nil. hw is what the machine has, as
// detected once; refresh (nil: never) reads its free numbers anew every few
// seconds.
func (b *Backend) Run(ctx context.Context, p Publisher, hw hardware.Inventory, refresh Refresher) error {
	b.hardware.Store(&hw)
	limits := b.limits
	limits.Memory = ModelMemory(hw)
	if limits.MaxLoaded == 0 {
		limits.MaxLoaded = DefaultMaxLoaded * max(gpusOf(hw), 1)
	}
	b.gate.SetLimits(limits)
	var wg sync.WaitGroup
	wg.Go(func() { _ = b.watcher.Run(ctx) })
	wg.Go(func() { _ = b.reporter.Run(ctx, p, hw, refresh) })
	wg.Go(func() { b.observe(ctx) })
	wg.Go(func() { b.remember(ctx) })
	wg.Wait()
	b.save()
	b.client.CloseIdle()
	return nil
}

// observe carries every new state to who lives by it.
func (b *Backend) observe(ctx context.Context) {
	var last *State
	silence := time.NewTimer(0)
	defer silence.Stop()
	for {
		changed := b.watcher.Changed()
		s := b.watcher.State()
		silence.Stop()
		if wait := b.life.saw(s, time.Now()); wait > 0 {
			silence.Reset(wait)
		}
		if s != last {
			last = s
			b.gate.Observe(s)
			b.reporter.Saw(s)
			for i := range s.Resident {
				r := &s.Resident[i]
				b.rates.Seen(r.Digest, r.partial())
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-changed:
		case <-silence.C:
		}
	}
}

func (b *Backend) remember(ctx context.Context) {
	if b.file == "" {
		return
	}
	ticker := time.NewTicker(saveEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			b.save()
		}
	}
}

func (b *Backend) save() {
	if b.file == "" {
		return
	}
	if err := b.rates.Save(b.file); err != nil {
		b.log.Warn("measured speeds cannot be saved", "file", b.file, "err", err)
	}
}

// finished learns from a request that ran.
func (b *Backend) finished(f Finished) {
	if f.Model == nil || f.Usage.OutputTokens <= 0 && f.Usage.PromptTokens <= 0 {
		return
	}
	b.rates.Observe(f.Model.Digest, f.sample(), time.Now())
}

// sample takes Ollama's own durations. The OpenAI dialect has none; then our
// clock tells: from start to first piece was load and prefill, from there on
// decode of all tokens but the first.
func (f Finished) sample() Sample {
	s := Sample{
		PromptTokens: f.Usage.PromptTokens, PromptTime: f.Usage.PromptDuration,
		OutputTokens: f.Usage.OutputTokens, OutputTime: f.Usage.EvalDuration,
		LoadTime: f.Usage.LoadDuration,
		Cold:     f.Cold, Together: f.Together, Others: f.Others,
	}
	if s.OutputTime == 0 && s.OutputTokens > 1 && f.First > 0 {
		n := float64(s.OutputTokens)
		s.OutputTime = time.Duration(float64(f.Took-f.First) * n / (n - 1))
		if s.PromptTime == 0 && !f.Cold {
			s.PromptTime = f.First
		}
	}
	return s
}

// Enter admits work at the gate; see [Gate.Enter] for who owns what.
func (b *Backend) Enter(ctx context.Context, w Work) (leave func(Usage), err error) {
	return b.gate.Enter(ctx, w)
}

// Do sends a request, whose URL is a path, to Ollama; see [Client.Do].
func (b *Backend) Do(req *http.Request) (*http.Response, error) { return b.client.Do(req) }

// Progress counts the pieces of a running request's answer; see [Gate.Progress].
func (b *Backend) Progress(id string, chunks int) { b.gate.Progress(id, chunks) }

// Poke asks for a fresh look at Ollama, because it did not behave as known. It
// never blocks.
func (b *Backend) Poke() { b.watcher.Poke() }

// Refresh looks at everything now and returns when the State shows it; see
// [Watcher.Refresh].
func (b *Backend) Refresh(ctx context.Context) error { return b.watcher.Refresh(ctx) }

// State is what is known of Ollama; never nil.
func (b *Backend) State() *State { return b.watcher.State() }

// Changed returns a channel that is closed with the next State.
func (b *Backend) Changed() <-chan struct{} { return b.watcher.Changed() }

// Load is this node's own load, as of now.
func (b *Backend) Load() *mesh.Load { return b.reporter.Load() }

// Hardware is the machine with the newest free numbers.
func (b *Backend) Hardware() hardware.Inventory { return b.reporter.Hardware() }

// Speed is what has been measured of the model with this digest.
func (b *Backend) Speed(digest string) Speed { return b.rates.Speed(digest) }

// Waiting lists the requests that wait for a slot, the next one first.
func (b *Backend) Waiting() []Ticket { return b.gate.Waiting() }

// Drain refuses new work and what waits; what runs goes on. See [Gate.Drain].
func (b *Backend) Drain() { b.gate.Drain() }

// Undrain admits again.
func (b *Backend) Undrain() { b.gate.Undrain() }

// Idle is closed as soon as nothing runs or waits; see [Gate.Idle].
func (b *Backend) Idle() <-chan struct{} { return b.gate.Idle() }

// SetParallel changes the slots per model; 0 goes back to Ollama's default.
func (b *Backend) SetParallel(n int) { b.gate.SetParallel(n) }

// Modelfile asks Ollama for a model's modelfile; see [Client.Modelfile].
func (b *Backend) Modelfile(ctx context.Context, name string) (string, error) {
	return b.client.Modelfile(ctx, name)
}
