package ollamatest

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Model describes one model: what the listings say of it, what it costs and
// how it answers. Only Name is required; every other zero value has a default
// that is cheap and instantaneous.
type Model struct {
	Name string // as `ollama list` shows it; a missing tag means latest

	Size     int64     // bytes on disk and, for the weights, in memory; default 1 GiB
	Digest   string    // manifest digest, 64 hex; default derived from Name and Size
	Weights  string    // weights blob, 64 hex; models that share it share a runner; default derived from Digest
	Modified time.Time // default: when the server was made

	Family        string // default "llama"
	ParameterSize string // for example "7.6B"; default derived from Size
	Quantization  string // default "Q4_K_M"

	// Geometry of the KV cache; see [KVBytes]. Defaults 32, 8, 128.
	Layers, KVHeads, HeadDim int
	ContextLength            int // trained context, tokens; default 32768

	Capabilities []string // default "completion", or "embedding" when Embedding is set
	Embedding    bool     // an embedding model: it does not complete
	Dimensions   int      // length of an embedding; default 64
	Remote       string   // host of a cloud model: listed, never loaded, costs no memory here

	Decode  float64       // tokens per second of a lone request; 0 = not paced
	Prefill float64       // prompt tokens per second; 0 = instantaneous
	Load    time.Duration // cold load time

	// Answer is the natural length of an answer in tokens, after which the
	// model ends its turn (done_reason "stop"). 0 means 64 tokens unless the
	// request sets a limit, which then decides alone; negative never ends.
	Answer         int
	ThinkTokens    int  // tokens of a thinking block, for models with the capability "thinking"; default 8
	TokensPerChunk int  // tokens that one streamed chunk holds, as with bytes of one character; default 1
	Loop           bool // repeats one word for ever, which trips the runaway guard

	Template string         // Go template of the prompt; default: a plain one that fits Capabilities
	OpenTurn bool           // the default template leaves a trailing assistant message open
	System   string         // default system message
	Options  map[string]any // parameters baked into the model, such as num_predict
}

// Config configures a [Server]. The zero value is an idle server without
// models, with unlimited memory and Ollama's own defaults.
type Config struct {
	Name    string  // name of the node, for logs
	Version string  // Ollama version to imitate; default "0.33.0"
	Reports string  // what /api/version says; default Version
	Models  []Model // installed models
	Catalog []Model // models that /api/pull can install

	Parallel      int           // OLLAMA_NUM_PARALLEL: slots per loaded model; default 1
	MaxLoaded     int           // OLLAMA_MAX_LOADED_MODELS; default 3
	MaxQueue      int           // OLLAMA_MAX_QUEUE; default 512
	KeepAlive     time.Duration // OLLAMA_KEEP_ALIVE; default 5 minutes, negative = for ever
	ContextLength int           // OLLAMA_CONTEXT_LENGTH; default 4096
	OldScheduler  bool          // 0.9.x: requests for loaded models too wait in the one queue behind a load
	VRAM          uint64        // bytes; 0 = no GPU
	RAM           uint64        // bytes; 0 = without limit

	// Batching is how much one more request slows the others of its model:
	// with n of them decoding, each runs at Decode / (1 + Batching*(n-1)).
	// 0 = no slow-down (the total grows with n), 1 = the total is constant.
	Batching float64
	Speed    float64 // multiplies every rate and divides load times; default 1

	// UncachedPromptCount makes prompt_eval_count leave out the tokens found
	// in the prompt cache, as some versions do. The default reports all.
	UncachedPromptCount bool

	PullRate float64  // bytes per second of /api/pull; 0 = instantaneous
	Hosts    []string // Host headers to accept besides those Ollama accepts
	Seed     uint64   // of the random parts: sampled answers, fault probabilities
	Logger   *slog.Logger
}

// withDefaults returns c with every default filled in.
func (c Config) withDefaults() Config {
	c.Version = cmp.Or(c.Version, "0.33.0")
	c.Reports = cmp.Or(c.Reports, c.Version)
	c.Parallel = max(c.Parallel, 1)
	c.MaxLoaded = cmp.Or(max(c.MaxLoaded, 0), 3)
	c.MaxQueue = cmp.Or(max(c.MaxQueue, 0), 512)
	c.KeepAlive = cmp.Or(c.KeepAlive, 5*time.Minute)
	c.ContextLength = cmp.Or(c.ContextLength, 4096)
	c.Speed = cmp.Or(c.Speed, 1)
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	c.Logger = c.Logger.With("component", "ollamatest", "node", c.Name)
	return c
}

// withDefaults returns m with every default filled in, its name in short form.
func (m Model) withDefaults(now time.Time) Model {
	m.Name = parseName(m.Name).short()
	m.Size = cmp.Or(m.Size, 1<<30)
	m.Digest = cmp.Or(m.Digest, digest(fmt.Sprintf("manifest %s %d", m.Name, m.Size)))
	m.Weights = cmp.Or(m.Weights, digest("weights "+m.Digest))
	m.Family = cmp.Or(m.Family, "llama")
	m.ParameterSize = cmp.Or(m.ParameterSize, humanCount(parameters(m.Size)))
	m.Quantization = cmp.Or(m.Quantization, "Q4_K_M")
	m.Layers = cmp.Or(m.Layers, 32)
	m.KVHeads = cmp.Or(m.KVHeads, 8)
	m.HeadDim = cmp.Or(m.HeadDim, 128)
	m.ContextLength = cmp.Or(m.ContextLength, 32768)
	m.Dimensions = cmp.Or(m.Dimensions, 64)
	m.ThinkTokens = cmp.Or(m.ThinkTokens, 8)
	m.TokensPerChunk = max(m.TokensPerChunk, 1)
	if m.Modified.IsZero() {
		m.Modified = now
	}
	if len(m.Capabilities) == 0 {
		m.Capabilities = []string{"completion"}
		if m.Embedding {
			m.Capabilities = []string{"embedding"}
		}
	}
	if m.Template == "" {
		m.Template = defaultTemplate(m)
	}
	return m
}

// parameters is how many parameters 4-bit weights of that size hold, at 0.6
// bytes each.
func parameters(size int64) int64 { return size * 10 / 6 }

// humanCount prints a number of parameters as Ollama does: 244K, 1.8B.
func humanCount(n int64) string {
	switch {
	case n >= 1e9:
		return fmt.Sprintf("%.1fB", float64(n)/1e9)
	case n >= 1e6:
		return fmt.Sprintf("%.2fM", float64(n)/1e6)
	case n >= 1e3:
		return fmt.Sprintf("%dK", n/1e3)
	}
	return fmt.Sprint(n)
}

// can reports whether the model has a capability.
func (m *Model) can(capability string) bool { return slices.Contains(m.Capabilities, capability) }

// digest returns 64 hex digits that depend on s only.
func digest(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:])
}

// release is an Ollama version as three numbers.
type release [3]int

// parseRelease reads "0.33.0-rc2"; what it cannot read counts as 0.
func parseRelease(s string) release {
	var v release
	s, _, _ = strings.Cut(strings.TrimPrefix(s, "v"), "-")
	for i, part := range strings.SplitN(s, ".", len(v)) {
		v[i], _ = strconv.Atoi(part)
	}
	return v
}

// atLeast compares with 0.minor.patch; there has been no 1.0.
func (v release) atLeast(minor, patch int) bool {
	return slices.Compare(v[:], []int{0, minor, patch}) >= 0
}

// features are the differences between Ollama versions that a client can see.
// The boundaries up to 0.18 are the releases that brought the feature;
// what is only known to differ between 0.9.6 and 0.33 is put at 0.30, where
// the server was rebuilt.
type features struct {
	modern     bool // error texts, think by default, tool call ids, richer listings
	psContext  bool // context_length in /api/ps
	debug      bool // _debug_render_only
	logprobs   bool
	responses  bool // /v1/responses
	messages   bool // /v1/messages
	status     bool // /api/status
	oldPenalty bool // repeat_penalty defaults to 1.1 instead of 1.0
}

func featuresOf(v release) features {
	modern := v.atLeast(30, 0)
	return features{
		modern:     modern,
		psContext:  v.atLeast(10, 0),
		debug:      v.atLeast(11, 5),
		logprobs:   v.atLeast(12, 11),
		responses:  v.atLeast(13, 3),
		messages:   v.atLeast(14, 0),
		status:     v.atLeast(18, 0),
		oldPenalty: !modern,
	}
}
