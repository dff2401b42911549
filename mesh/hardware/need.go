package hardware

import "math"

// Need is what one loaded model takes, from what Ollama says of it: the size in
// /api/tags and the architecture in the model_info of /api/show.
type Need struct {
	Weights  uint64  // bytes of the model's file
	Layers   int     // block_count
	KVHeads  int     // attention.head_count_kv
	HeadDim  int     // attention.key_length, or embedding_length / head_count
	Context  int     // tokens per sequence; 0 means DefaultContext
	Parallel int     // sequences at once (OLLAMA_NUM_PARALLEL); 0 means 1
	KVBytes  float64 // bytes per cache element: 2 f16, 1 q8_0, 0.5 q4_0; 0 means 2
}

// DefaultContext is Ollama's smallest automatic context length in tokens.
const DefaultContext = 4096

// KV is the size of the key-value cache in bytes:
// 2 * layers * KV heads * head dimension * context * parallel * bytes per
// element, which is also how Ollama predicts it.
//
// Where the architecture is unknown it is estimated from the size of the
// weights W as 160 KiB * sqrt(W / 1 GB) per token at f16. That is at or above
// every model with grouped-query attention we know of (qwen3 0.6b 115 KiB for
// 112, gemma2 9b 371 for 336, qwen2.5 32b 714 for 256, 72b 1102 for 320), and
// below models from before it (llama2 7b 312 for 512).
func (n Need) KV() uint64 {
	ctx, parallel, bytes := n.Context, n.Parallel, n.KVBytes
	if ctx <= 0 {
		ctx = DefaultContext
	}
	if parallel <= 0 {
		parallel = 1
	}
	if !(bytes > 0) || bytes > 8 {
		bytes = 2
	}
	perToken := 160 * kib * math.Sqrt(float64(n.Weights)/gb) * bytes / 2
	if n.Layers > 0 && n.KVHeads > 0 && n.HeadDim > 0 {
		perToken = 2 * float64(n.Layers) * float64(n.KVHeads) * float64(n.HeadDim) * bytes
	}
	return saturate(perToken * float64(ctx) * float64(parallel))
}

// Total is everything the model takes in bytes: weights, cache, and the batch
// buffers that Ollama adds above 4,096 tokens (768 MiB) and above 32,768
// (2 GiB).
func (n Need) Total() uint64 {
	var buffers uint64
	switch {
	case n.Context > 32768:
		buffers = 2 * gib
	case n.Context > 4096:
		buffers = 768 * mib
	}
	return add(add(n.Weights, n.KV()), buffers)
}

// Reference72B is the model that "72B capable" is measured with: qwen2.5:72b in
// Q4_K_M at 4,096 tokens. 47.4 GB of weights and 320 KiB of cache per token are
// 45.4 GiB.
func Reference72B() Need {
	return Need{Weights: 47_400_000_000, Layers: 80, KVHeads: 8, HeadDim: 128, Context: 4096, Parallel: 1, KVBytes: 2}
}

func saturate(v float64) uint64 {
	switch {
	case !(v > 0):
		return 0
	case v >= math.MaxUint64:
		return math.MaxUint64
	}
	return uint64(v)
}
